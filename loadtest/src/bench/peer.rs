//! What people run in place of Afflux: `loadtest/peers/` says what there is and how to start it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::SERVER_CORE;
use super::http;
use super::process::Group;

/// A compiler may come first, and with it a standard library on a busy machine.
const UNTIL_IT_ANSWERS: Duration = Duration::from_secs(600);

/// `peer.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Its place in tables.
    order: u32,
    name: String,
    /// Names of programs, or paths of files.
    programs: Vec<String>,
    #[serde(default)]
    tls: bool,
    /// A file in the directory of a run, a click a line.
    records: Option<String>,
    recorded_first: String,
}

#[derive(Debug, Clone)]
pub struct Peer {
    /// The name of its directory.
    pub key: String,
    directory: PathBuf,
    description: Description,
}

impl Peer {
    /// All of a directory, in their order.
    pub fn all(peers: &Path) -> Result<Vec<Peer>> {
        let entries = std::fs::read_dir(peers).with_context(|| format!("{}", peers.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let directory = entry?.path();
            let file = directory.join("peer.toml");
            if file.exists() {
                let text = std::fs::read_to_string(&file)?;
                let description = toml::from_str(&text).with_context(|| format!("{}", file.display()))?;
                let key = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push(Peer { key, directory: directory.canonicalize()?, description });
            }
        }
        found.sort_by_key(|peer: &Peer| peer.description.order);
        Ok(found)
    }

    pub fn name(&self) -> &str {
        &self.description.name
    }

    pub fn recorded_first(&self) -> &str {
        &self.description.recorded_first
    }

    pub fn speaks_tls(&self) -> bool {
        self.description.tls
    }

    pub fn records(&self) -> bool {
        self.description.records.is_some()
    }

    /// Programs that this machine lacks.
    pub fn missing_programs(&self) -> Vec<&str> {
        let programs = self.description.programs.iter().map(String::as_str);
        programs.filter(|program| !is_installed(program)).collect()
    }

    /// Starts it in an empty directory (but for a certificate) and waits until it redirects.
    pub fn start(&self, home: &Path) -> Result<RunningPeer> {
        let [address, tls] = http::free_addresses()?;
        let (start, port, tls_port) =
            (self.directory.join("start"), address.port().to_string(), tls.port().to_string());
        let words = [start.to_string_lossy(), home.to_string_lossy(), port.into(), tls_port.into()];
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let mut group = Group::start(SERVER_CORE, home, &words)?;
        let deadline = Instant::now() + UNTIL_IT_ANSWERS;
        while !http::get(address, "/l1", "").is_ok_and(|answer| answer.status == 302) {
            if let Some(end) = group.ended()? {
                bail!("{}: {end}\n{}", self.name(), std::fs::read_to_string(home.join("out")).unwrap_or_default());
            }
            ensure!(Instant::now() < deadline, "{} does not redirect", self.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        let records = self.description.records.as_ref().map(|file| home.join(file));
        Ok(RunningPeer { group, address, tls: self.speaks_tls().then_some(tls), records })
    }
}

/// Debian keeps servers where only root looks; the Go project's own archive has a place of its own.
fn is_installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/usr/local/go/bin"]);
    places.into_iter().any(|place| Path::new(place).join(program).exists())
}

pub struct RunningPeer {
    pub group: Group,
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    records: Option<PathBuf>,
}

impl RunningPeer {
    /// Counts what it wrote, once that is as much as was answered or `patience` is over, and empties the file: 9 rounds
    /// would fill a disk. None of who writes nothing.
    pub fn take_records(&self, answered: u64, patience: Duration) -> Result<Option<u64>> {
        let Some(path) = &self.records else { return Ok(None) };
        let deadline = Instant::now() + patience;
        let mut count = lines(path)?;
        while count < answered && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
            count = lines(path)?;
        }
        std::fs::File::options().write(true).open(path)?.set_len(0)?;
        Ok(Some(count))
    }

    pub fn records_file(&self) -> Option<&Path> {
        self.records.as_deref()
    }
}

fn lines(path: &Path) -> Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    let mut count = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(count);
        }
        count += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = bytes.len();
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Peer> {
        Peer::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")).unwrap()
    }

    #[test]
    fn targets_name_peers_that_there_are() {
        let peers = all();
        for target in &crate::targets::TARGETS {
            assert!(peers.iter().any(|peer| peer.name() == target.against), "{}", target.against);
        }
        assert!(peers[0].name() == crate::targets::BARE && peers[0].speaks_tls());
    }

    /// Whoever has the programs has the proof; `make test` installs nginx and HAProxy.
    #[test]
    fn every_peer_that_is_installed_redirects_and_records() {
        let mut started = Vec::new();
        for peer in all() {
            let missing = peer.missing_programs();
            if !missing.is_empty() {
                println!("{}: not tried without {missing:?}", peer.key);
                continue;
            }
            let home = tempfile::tempdir().unwrap();
            let server = peer.start(home.path()).unwrap();
            let answer =
                http::get(server.address, "/l7?sub1=seven", "Cookie: aff_vid=visitor-0000000000070A\r\n").unwrap();
            assert_eq!(answer.status, 302, "{}", peer.key);
            if let Some(file) = server.records_file() {
                wait_for_record(&peer.key, file);
                assert!(server.take_records(2, Duration::from_secs(5)).unwrap() >= Some(2), "{}", peer.key);
                assert_eq!(std::fs::metadata(file).unwrap().len(), 0);
                // It goes on at the new end, with no hole before it.
                http::get(server.address, "/l8", "").unwrap();
                assert_eq!(server.take_records(1, Duration::from_secs(5)).unwrap(), Some(1), "{}", peer.key);
            }
            started.push(peer.key);
        }
        assert!(started.iter().any(|key| key.starts_with("nginx")), "not even nginx is installed: {started:?}");
    }

    fn wait_for_record(key: &str, file: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(file).unwrap();
            let records = text.lines().map(serde_json::from_str::<serde_json::Value>);
            let records: Vec<_> = records.map(|record| record.unwrap_or_else(|_| panic!("{key}: {text}"))).collect();
            if let Some(record) = records.iter().find(|record| record["uri"] == "/l7?sub1=seven") {
                assert_eq!(record["cookie"], "visitor-0000000000070A", "{key}");
                assert!(record["id"].as_str().is_some_and(|id| id.len() >= 32), "{key}: {record}");
                assert_eq!(record["ip"], "127.0.0.1", "{key}");
                return;
            }
            assert!(Instant::now() < deadline, "{key}: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
