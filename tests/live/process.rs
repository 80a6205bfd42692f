//! A role as a real process of the built binary, in a directory of its own, on ports that stay the same over restarts.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Client;
use crate::rig::server::binary;

pub struct Process {
    pub role: &'static str,
    pub name: String,
    pub home: PathBuf,
    pub edge: SocketAddr,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    child: Option<Child>,
}

impl Process {
    /// Nothing runs yet; `home` is made.
    pub fn new(role: &'static str, name: &str, within: &Path) -> Process {
        let home = within.join(name);
        std::fs::create_dir_all(&home).expect("a directory");
        let (edge, api, admin) = (free_address(), free_address(), free_address());
        Process { role, name: name.to_owned(), home, edge, api, admin, child: None }
    }

    pub fn config(&self) -> PathBuf {
        self.home.join("afflux.toml")
    }

    /// Starts and waits until it lives.
    pub fn start(&mut self) {
        self.launch(&[]);
        self.wait_alive();
    }

    pub fn launch(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let mut command = Command::new(binary());
        command.arg(self.role).args(arguments).arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("started"));
    }

    pub fn wait_alive(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_alive() {
            let ended = self.child.as_mut().expect("launched").try_wait().expect("our child");
            assert!(ended.is_none(), "{} ended with {ended:?}:\n{}", self.name, self.log());
            assert!(Instant::now() < deadline, "{} does not start:\n{}", self.name, self.log());
            crate::sleep_ms(10);
        }
    }

    fn is_alive(&self) -> bool {
        let answer = Client::new(self.admin).try_request("GET", "/livez", &[], b"");
        matches!(answer, Ok(response) if response.status == 200)
    }

    pub fn child_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// A new process takes over from the one that runs, which ends with 0.
    pub fn upgrade(&mut self) {
        let old = self.child.take().expect("it runs");
        self.launch(&["--takeover"]);
        let status = self.end_of(old, 60);
        assert_eq!(status.code(), Some(0), "{}:\n{}", self.name, self.log());
        self.wait_alive();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child");
            child.wait().expect("our child");
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child_id().expect("it runs").to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill").success());
    }

    /// SIGTERM, then the end of the process: 0, within a minute.
    pub fn stop(&mut self) {
        if !self.runs() {
            return;
        }
        self.signal("TERM");
        let status = self.wait(60);
        assert_eq!(status.code(), Some(0), "{}:\n{}", self.name, self.log());
    }

    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let child = self.child.take().expect("it runs");
        self.end_of(child, seconds)
    }

    fn end_of(&self, mut child: Child, seconds: u64) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} does not end:\n{}", self.name, self.log());
            }
            crate::sleep_ms(10);
        }
    }

    /// `afflux ARGUMENTS` with this process's config.
    pub fn run(&self, arguments: &[&str]) -> Output {
        crate::rig::server::run(&self.home, arguments)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    /// The sum of a metric over all its labels that contain `labels`; 0 when there is none, and while a process that is
    /// frozen or ends shows nothing. Whoever expects 0 asks for the `count`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        self.metrics().map(|page| sum(&page, name, labels)).unwrap_or(0.0)
    }

    /// The sum of a metric over all its labels, from a process that must answer and must know a metric of that name.
    pub fn count(&self, name: &str) -> f64 {
        let page = self.metrics().unwrap_or_else(|| panic!("{} shows no metrics:\n{}", self.name, self.log()));
        let is_known = page.lines().any(|line| {
            line.strip_prefix("# TYPE ")
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with(' '))
        });
        assert!(is_known, "{} has no metric {name}", self.name);
        sum(&page, name, "")
    }

    pub fn metrics(&self) -> Option<String> {
        let answer = Client::new(self.admin).try_request("GET", "/metrics", &[], b"").ok()?;
        (answer.status == 200).then(|| answer.text())
    }
}

fn sum(page: &str, name: &str, labels: &str) -> f64 {
    let lines = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    lines.filter(|line| line.contains(labels)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port below those of outgoing connections, so that none of them takes it while the process is down.
pub fn free_address() -> SocketAddr {
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 8_000;
        let address = SocketAddr::from(([127, 0, 0, 1], 12_000 + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
