//! The server of a run: started in a directory of its own on cores of its own, killed, started again, stopped.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::asking::get;
use crate::catalog;
use crate::market::Market;
use crate::process;
use crate::scenario::{Durability, Scenario};
use crate::wire::Target;

pub const OPERATOR: &str = "operator";

const OPERATOR_SHA256: &str = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23";

/// Ten million links are read in this time, and more.
const START: Duration = Duration::from_secs(120);

const STOP: Duration = Duration::from_secs(60);

pub struct Server {
    binary: PathBuf,
    home: PathBuf,
    cores: Vec<usize>,
    child: Child,
    pub addresses: Addresses,
    edition: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub edge: SocketAddr,
    pub edge_tls: Option<SocketAddr>,
    pub api: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// In `home`, which is made anew.
    pub fn start(
        binary: &Path,
        home: &Path,
        cores: &[usize],
        scenario: &Scenario,
        market: &Market,
    ) -> anyhow::Result<Server> {
        let binary = std::fs::canonicalize(binary)
            .with_context(|| format!("--afflux: {}: `make build` makes target/dist/afflux", binary.display()))?;
        if home.exists() {
            std::fs::remove_dir_all(home)?;
        }
        std::fs::create_dir_all(home)?;
        catalog::write(market, home, 0)?;
        if scenario.load.tls {
            make_certificate(home)?;
        }
        write_config(home, scenario, None)?;
        let child = spawn(&binary, home, cores)?;
        let mut server = Server {
            binary,
            home: home.to_owned(),
            cores: cores.to_owned(),
            child,
            addresses: Addresses { edge: any(), edge_tls: None, api: any(), admin: any() },
            edition: 0,
        };
        let deadline = Instant::now() + START;
        server.addresses = server.wait_bound(deadline)?;
        server.wait_ready(deadline)?;
        // Whoever is killed comes back at the same place.
        write_config(home, scenario, Some(server.addresses))?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and at once a new one in its place.
    pub fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.binary, &self.home, &self.cores)?;
        self.wait_ready(Instant::now() + START)
    }

    /// Another catalog, and certificates that look new.
    pub fn rewrite(&mut self, market: &Market) -> anyhow::Result<()> {
        self.edition += 1;
        catalog::write(market, &self.home, self.edition)?;
        for name in ["edge.key", "edge.crt"] {
            let path = self.home.join(name);
            if path.exists() {
                std::fs::write(&path, std::fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// A command of the program on this server's config.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.home.join("afflux.toml"));
        command
    }

    /// An orderly end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = Pid::from_raw(self.pid() as i32) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}:\n{}", self.log());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server has not ended {STOP:?} after SIGTERM:\n{}", self.log())
    }

    /// Its last lines.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("afflux.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn wait_bound(&mut self, deadline: Instant) -> anyhow::Result<Addresses> {
        loop {
            let text = std::fs::read_to_string(self.home.join("afflux.log")).unwrap_or_default();
            if let Some(addresses) = text.lines().find_map(bound) {
                return Ok(addresses);
            }
            self.check_alive(deadline)?;
        }
    }

    fn wait_ready(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let admin = Target::local(self.addresses.admin, false);
        while !get(&admin, "/readyz", None).is_ok_and(|(status, _)| status == 200) {
            self.check_alive(deadline)?;
        }
        Ok(())
    }

    fn check_alive(&mut self, deadline: Instant) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended with {status}:\n{}", self.log());
        }
        ensure!(Instant::now() < deadline, "the server is not ready after {START:?}:\n{}", self.log());
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A child runs where the thread that starts it runs.
fn spawn(binary: &Path, home: &Path, cores: &[usize]) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(home.join("afflux.log"))?;
    let own = process::cores();
    process::pin(cores)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(home.join("afflux.toml"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    process::pin(&own)?;
    child.with_context(|| binary.display().to_string())
}

fn write_config(home: &Path, scenario: &Scenario, addresses: Option<Addresses>) -> std::io::Result<()> {
    let of = |address: Option<SocketAddr>| address.unwrap_or_else(any);
    let (edge, edge_tls, api, admin) = (
        of(addresses.map(|known| known.edge)),
        of(addresses.and_then(|known| known.edge_tls)),
        of(addresses.map(|known| known.api)),
        of(addresses.map(|known| known.admin)),
    );
    let tls = if scenario.load.tls {
        format!("tls_listen = \"{edge_tls}\"\ntls_certificate_file = \"edge.crt\"\ntls_key_file = \"edge.key\"\n")
    } else {
        String::new()
    };
    let durability = match scenario.server.durability {
        Durability::Disk => "disk",
        Durability::Process => "process",
    };
    let workers = scenario.server.cores_count;
    let text = format!(
        "[edge]\nlisten = \"{edge}\"\nworkers = {workers}\n{tls}\
         [api]\nlisten = \"{api}\"\noperator_tokens_sha256 = [\"{OPERATOR_SHA256}\"]\n\
         [admin]\nlisten = \"{admin}\"\n\
         [catalog]\npath = \"catalog.toml\"\n\
         [store]\npath = \"data/afflux.sqlite\"\n\
         [spool]\ndirectory = \"data/spool\"\ndurability = \"{durability}\"\nmax_bytes = {}\n",
        // Every record of a run whose clicks are looked for one by one stays until that is done.
        6u64 << 30
    );
    std::fs::write(home.join("afflux.toml"), text)
}

/// From the log line that says where it listens.
fn bound(line: &str) -> Option<Addresses> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line.get("fields")?.get(name)?.as_str()?.parse().ok();
    Some(Addresses {
        edge: address("edge")?,
        edge_tls: address("edge_tls"),
        api: address("api")?,
        admin: address("admin")?,
    })
}

fn make_certificate(home: &Path) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-subj", "/CN=tracker.example", "-days", "30"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-addext", "subjectAltName=DNS:tracker.example", "-keyout"])
        .arg(home.join("edge.key"))
        .arg("-out")
        .arg(home.join("edge.crt"))
        .output()
        .context("openssl, which makes the certificate of a run over TLS")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_log() {
        let line = r#"{"level":"INFO","fields":{"edge":"127.0.0.1:1","api":"127.0.0.1:2","admin":"127.0.0.1:3","edge_tls":"127.0.0.1:4"}}"#;
        let addresses = bound(line).unwrap();
        assert_eq!((addresses.edge.port(), addresses.edge_tls.map(|tls| tls.port())), (1, Some(4)));
        assert!(bound("no JSON").is_none() && bound(r#"{"fields":{"edge":"x"}}"#).is_none());
    }
}
