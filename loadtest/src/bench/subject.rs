//! One server under one load for some seconds: what was answered, what it cost, and whether the books are right.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::afflux::{Afflux, Counted, RunningAfflux};
use super::crash;
use super::peer::{Peer, RunningPeer};
use super::process::Group;
use super::wrk::{CONNECTIONS, Said, Wrk};
use crate::outcome::{self, Books, Round};

/// Attribution applies more a second than one core answers, but shares that core.
const UNTIL_REPORTED: Duration = Duration::from_secs(120);

/// Logs that are written once a second, and streams with a backlog.
const UNTIL_WRITTEN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub name: &'static str,
    pub tls: bool,
    pub closes: bool,
}

pub const LOADS: [Load; 4] = [
    Load { name: "keep-alive", tls: false, closes: false },
    Load { name: "new connection", tls: false, closes: true },
    Load { name: "TLS keep-alive", tls: true, closes: false },
    Load { name: "new TLS connection", tls: true, closes: true },
];

#[derive(Debug, Clone)]
pub enum Kind {
    Afflux(Afflux),
    Peer(Peer),
}

enum Server {
    Afflux(RunningAfflux),
    Peer(RunningPeer),
}

/// A server that runs, and what was measured of it.
pub struct Subject {
    kind: Kind,
    server: Server,
    pub rounds: Vec<Round>,
    pub missing_after_kill: Option<(u64, u64)>,
}

impl Kind {
    pub fn key(&self) -> &str {
        match self {
            Kind::Afflux(afflux) => &afflux.key,
            Kind::Peer(peer) => &peer.key,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Kind::Afflux(afflux) => &afflux.name,
            Kind::Peer(peer) => peer.name(),
        }
    }

    fn start(&self, home: &Path) -> Result<Server> {
        Ok(match self {
            Kind::Afflux(afflux) => Server::Afflux(afflux.start(home)?),
            Kind::Peer(peer) => Server::Peer(peer.start(home)?),
        })
    }
}

impl Server {
    fn address(&self, tls: bool) -> Option<SocketAddr> {
        match self {
            Server::Afflux(server) => Some(if tls { server.tls } else { server.address }),
            Server::Peer(server) if tls => server.tls,
            Server::Peer(server) => Some(server.address),
        }
    }

    fn group(&mut self) -> &mut Group {
        match self {
            Server::Afflux(server) => &mut server.group,
            Server::Peer(server) => &mut server.group,
        }
    }
}

impl Subject {
    /// In a new directory under `homes`.
    pub fn start(kind: Kind, homes: &Homes) -> Result<Subject> {
        let server = kind.start(&homes.make(kind.key())?).with_context(|| kind.key().to_owned())?;
        Ok(Subject { kind, server, rounds: Vec::new(), missing_after_kill: None })
    }

    pub fn speaks(&self, load: Load) -> bool {
        self.server.address(load.tls).is_some()
    }

    pub fn name(&self) -> &str {
        self.kind.name()
    }

    /// The round is not kept: what is compiled on the way, or grows to its size, does so once.
    pub fn warm_up(&mut self, wrk: &Wrk) -> Result<()> {
        self.round(wrk, LOADS[0], Duration::from_secs(1)).map(drop)
    }

    pub fn measure(&mut self, wrk: &Wrk, load: Load, time: Duration) -> Result<()> {
        let round = self.round(wrk, load, time).with_context(|| format!("{}, {}", self.name(), load.name))?;
        self.rounds.push(round);
        Ok(())
    }

    fn round(&mut self, wrk: &Wrk, load: Load, time: Duration) -> Result<Round> {
        let address = self.server.address(load.tls).context("it does not speak TLS")?;
        match &self.server {
            Server::Afflux(server) => {
                let before = server.counted_when_reported(UNTIL_REPORTED)?;
                let (answering, whole) = (server.answering_cpu_micros(), server.group.cpu_micros());
                let said = wrk.load(address, load.tls, load.closes, time)?;
                std::thread::sleep(Duration::from_millis(100));
                let answering = server.answering_cpu_micros() - answering;
                // What the rest of it does for these clicks may come later.
                let counted = server.counted_when_reported(UNTIL_REPORTED)?.since(&before);
                let whole = server.group.cpu_micros() - whole;
                let books = books(&said, &counted, load);
                let memory = server.group.anonymous_kib();
                let round = round_of(load, said, answering, memory);
                let told = counted.refused.min(round.failed);
                let process_cpu_micros_per_click = Some(whole as f64 / round.answered.max(1) as f64);
                let failed = round.failed - told;
                Ok(Round { refused: told, failed, process_cpu_micros_per_click, books: Some(books), ..round })
            }
            Server::Peer(server) => {
                let before = server.group.cpu_micros();
                let said = wrk.load(address, load.tls, load.closes, time)?;
                let recorded = server.take_records(said.answered, UNTIL_WRITTEN)?;
                let enough = recorded.is_none_or(|recorded| recorded >= said.answered);
                ensure!(enough, "{} answered, and {recorded:?} in its log", said.answered);
                let cpu = server.group.cpu_micros() - before;
                Ok(round_of(load, said, cpu, server.group.anonymous_kib()))
            }
        }
    }

    /// A server of its own, so that a measured one does not end.
    pub fn crash(&mut self, homes: &Homes) -> Result<()> {
        if matches!(&self.kind, Kind::Peer(peer) if !peer.records()) {
            return Ok(());
        }
        let home = homes.make(&format!("{}-kill", self.kind.key()))?;
        let mut server = self.kind.start(&home)?;
        let address = server.address(false).context("an address")?;
        let answered = crash::answered_until(address, || server.group().kill())?;
        let recorded = match &server {
            Server::Afflux(server) => server.recorded_words()?,
            Server::Peer(server) => {
                let bytes = std::fs::read(server.records_file().context("records")?)?;
                crash::words_in(&String::from_utf8_lossy(&bytes))
            }
        };
        self.missing_after_kill = Some(crash::missing(&answered, &recorded));
        Ok(())
    }

    pub fn into_outcome(self) -> outcome::Subject {
        let recorded_first = match &self.kind {
            Kind::Afflux(afflux) => afflux.recorded_first(),
            Kind::Peer(peer) => peer.recorded_first(),
        };
        outcome::Subject {
            name: self.kind.name().to_owned(),
            recorded_first: Some(recorded_first.to_owned()),
            missing_after_kill: self.missing_after_kill,
            rounds: self.rounds,
        }
    }
}

fn books(said: &Said, counted: &Counted, load: Load) -> Books {
    // wrk hangs up on what is under way when its time is over, and on what breaks.
    let mut problems = counted.problems(said.answered, CONNECTIONS + said.broken);
    if load.tls && load.closes && counted.resumed_handshakes > 0 {
        problems.push(format!("{} handshakes were resumed, where each should be new", counted.resumed_handshakes));
    }
    Books {
        answered: said.answered,
        recorded: counted.recorded,
        reported: counted.reported,
        money: Vec::new(),
        problems,
    }
}

/// wrk cannot tell a refusal from a failure.
fn round_of(load: Load, said: Said, cpu_micros: u64, memory_kib: u64) -> Round {
    Round {
        load: load.name.to_owned(),
        planned_rate: None,
        seconds: said.seconds,
        answered: said.answered,
        refused: 0,
        failed: said.errors + said.broken,
        timeline: Vec::new(),
        cpu_micros_per_click: Some(cpu_micros as f64 / said.answered.max(1) as f64),
        process_cpu_micros_per_click: None,
        memory_kib: Some(memory_kib),
        generator_busy: said.busy,
        sent_late: 0,
        books: None,
        latency: said.latency,
    }
}

/// Directories of servers, each with the same certificate.
pub struct Homes {
    place: PathBuf,
}

impl Homes {
    /// What an earlier run left there is gone.
    pub fn new(place: &Path) -> Result<Homes> {
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
        std::fs::create_dir_all(place)?;
        let homes = Homes { place: place.canonicalize()? };
        let output = std::process::Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj", "/CN=go.example", "-days", "9", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-addext", "subjectAltName=DNS:go.example,IP:127.0.0.1"])
            .args(["-keyout", "edge.key", "-out", "edge.crt"])
            .current_dir(&homes.place)
            .output()
            .context("openssl")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(homes)
    }

    pub fn place(&self) -> &Path {
        &self.place
    }

    fn make(&self, key: &str) -> Result<PathBuf> {
        let home = self.place.join(key);
        std::fs::create_dir(&home).with_context(|| format!("{}", home.display()))?;
        for file in ["edge.key", "edge.crt"] {
            std::fs::copy(self.place.join(file), home.join(file))?;
        }
        Ok(home)
    }
}
