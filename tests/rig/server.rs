//! The real program, started on free ports in a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Client;

pub const TOKEN: &str = "secret";
pub const OPERATOR: &str = "operator";

/// SHA-256 of `operator`, the token of `OPERATOR`.
const OPERATOR_SHA256: &str = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23";

pub const CATALOG: &str = include_str!("../../config/catalog.toml");

pub struct Server {
    pub home: PathBuf,
    pub edge: SocketAddr,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    /// Of doors that have a certificate.
    pub edge_tls: Option<SocketAddr>,
    pub api_tls: Option<SocketAddr>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// How to start the program; the defaults are those of a user.
#[derive(Clone, Default)]
pub struct Start {
    /// More lines for the config file, by section: `("spool", "durability = \"process\"")`.
    pub config: Vec<(&'static str, String)>,
    pub catalog: Option<String>,
    pub environment: Vec<(String, String)>,
    /// A program and its arguments that run ours, as `strace`.
    pub wrapper: Vec<String>,
    /// Keeps spool and store here instead of in `home/data`.
    pub data: Option<PathBuf>,
    /// `serve` when there is none.
    pub role: Option<&'static str>,
    /// More words behind the role.
    pub arguments: Vec<&'static str>,
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_afflux")
}

/// Writes config and catalog of a server into `home`.
pub fn write_config(home: &Path, start: &Start) {
    let data = start.data.clone().unwrap_or_else(|| home.join("data"));
    let mut sections: Vec<(&str, String)> = vec![
        ("edge", "listen = \"127.0.0.1:0\"".into()),
        ("api", format!("listen = \"127.0.0.1:0\"\noperator_tokens_sha256 = [\"{OPERATOR_SHA256}\"]")),
        ("admin", "listen = \"127.0.0.1:0\"".into()),
        ("catalog", "path = \"catalog.toml\"".into()),
        ("store", format!("path = {:?}", data.join("afflux.sqlite"))),
        ("spool", format!("directory = {:?}", data.join("spool"))),
    ];
    sections.extend(start.config.iter().map(|(section, line)| (*section, line.clone())));
    let mut names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for name in names {
        text.push_str(&format!("[{name}]\n"));
        for (_, line) in sections.iter().filter(|(section, _)| *section == name) {
            text.push_str(line);
            text.push('\n');
        }
    }
    std::fs::write(home.join("afflux.toml"), text).expect("the config file");
    std::fs::write(home.join("catalog.toml"), start.catalog.as_deref().unwrap_or(CATALOG)).expect("the catalog");
    let secrets = include_str!("../../config/demo-shop.signing");
    std::fs::write(home.join("demo-shop.signing"), secrets).expect("the signing secrets");
}

impl Server {
    /// Starts and waits until it is ready.
    pub fn start(home: &Path, start: &Start) -> Server {
        Server::try_start(home, start).unwrap_or_else(|log| panic!("did not start:\n{log}"))
    }

    /// The log when the program ended before it was ready.
    pub fn try_start(home: &Path, start: &Start) -> Result<Server, String> {
        write_config(home, start);
        let mut words = start.wrapper.clone();
        words.push(binary().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(start.role.unwrap_or("serve")).args(&start.arguments);
        command.arg("--config").arg(home.join("afflux.toml"));
        command.envs(start.environment.iter().cloned());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().expect("no panic inside").push(line);
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let addresses = bound(&log.lock().expect("no panic inside"));
            if let Some(([edge, api, admin], [edge_tls, api_tls])) = addresses {
                let home = home.to_owned();
                let server = Server { home, edge, api, admin, edge_tls, api_tls, child, log };
                return server.wait_ready(deadline);
            }
            let ended = child.try_wait().expect("our child").is_some();
            if ended || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                std::thread::sleep(Duration::from_millis(50));
                return Err(log.lock().expect("no panic inside").join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_ready(self, deadline: Instant) -> Result<Server, String> {
        while Instant::now() < deadline {
            let answer = Client::new(self.admin).try_request("GET", "/livez", &[], b"");
            if matches!(answer, Ok(response) if response.status == 200) {
                return Ok(self);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(self.log())
    }

    pub fn edge(&self) -> Client {
        Client::new(self.edge)
    }

    pub fn api(&self) -> Client {
        Client::new(self.api)
    }

    pub fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic inside").join("\n")
    }

    /// kill -9: nothing of the program runs after this.
    pub fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// SIGTERM, then the end of the process.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let status = self.child.wait().expect("our child");
        if !status.success() {
            eprintln!("{status}: {}", self.log());
        }
        status
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("our child")
    }

    /// Runs a command of the program on this server's config.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run(&self.home, arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `afflux ARGUMENTS --config home/afflux.toml`.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).arg("--config").arg(home.join("afflux.toml")).output().expect("it runs")
}

/// Addresses from the log lines that say what was bound.
fn bound(log: &[String]) -> Option<([SocketAddr; 3], [Option<SocketAddr>; 2])> {
    let line = log.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let fields = line.filter_map(|line| line.get("fields").cloned()).find(|fields| fields.get("edge").is_some())?;
    let address = |name: &str| fields.get(name)?.as_str()?.parse().ok();
    let always = [address("edge")?, address("api")?, address("admin")?];
    Some((always, [address("edge_tls"), address("api_tls")]))
}
