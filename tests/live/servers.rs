//! The servers that `scripts/servers/with` has started, and what can befall them.

use std::path::{Path, PathBuf};
use std::process::Command;

pub const BROKERS: [u32; 3] = [1, 2, 3];

/// Heals what a test did to the servers, whatever its end.
pub struct Servers {
    directory: PathBuf,
    pub kafka: String,
    pub redis: String,
    pub postgresql: String,
}

impl Servers {
    pub fn ours() -> Servers {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: run `scripts/servers/with cargo test --test live -- --test-threads=1`")
            })
        };
        let servers = Servers {
            directory: variable("AFFLUX_TEST_SERVERS").into(),
            kafka: variable("AFFLUX_TEST_KAFKA"),
            redis: variable("AFFLUX_TEST_REDIS"),
            postgresql: variable("AFFLUX_TEST_POSTGRESQL"),
        };
        servers.heal();
        servers.redis(&["cli", "flushall"]);
        servers
    }

    pub fn kafka(&self, words: &[&str]) -> String {
        self.script("kafka", words)
    }

    /// For what may be refused for a while, as an election while a broker still catches up.
    pub fn try_kafka(&self, words: &[&str]) -> Result<String, String> {
        run(&self.directory, "kafka", words)
    }

    pub fn redis(&self, words: &[&str]) -> String {
        self.script("redis", words)
    }

    /// A second Redis, as long as a test keeps it.
    pub fn replica(&self, words: &[&str]) -> String {
        self.script_in(&self.directory.join("replica"), "redis", words)
    }

    pub fn postgresql(&self, words: &[&str]) -> String {
        self.script("postgresql", words)
    }

    pub fn broker(&self, verb: &str, broker: u32) {
        self.kafka(&[verb, &broker.to_string()]);
    }

    /// Everything runs and is thawed.
    pub fn heal(&self) {
        for broker in BROKERS {
            self.broker("cont", broker);
        }
        self.kafka(&["up", "3"]);
        self.redis(&["cont"]);
        self.redis(&["start"]);
        // A password that a failed test left behind is nowhere on disk.
        if !self.redis(&["cli", "ping"]).contains("PONG") {
            self.redis(&["kill"]);
            self.redis(&["start"]);
        }
        for setting in [["maxmemory", "0"], ["maxmemory-policy", "noeviction"]] {
            self.redis(&["cli", "config", "set", setting[0], setting[1]]);
        }
        self.postgresql(&["cont"]);
        self.postgresql(&["start"]);
    }

    /// Addresses of the brokers behind proxies: what a proxy is to listen on, and where it leads, for each broker.
    pub fn proxied(&self) -> Vec<(String, String)> {
        let list = |verb: &str| self.kafka(&[verb]).trim().split(',').map(str::to_owned).collect::<Vec<_>>();
        list("proxied").into_iter().zip(list("behind")).collect()
    }

    fn script(&self, server: &str, words: &[&str]) -> String {
        self.script_in(&self.directory, server, words)
    }

    fn script_in(&self, directory: &Path, server: &str, words: &[&str]) -> String {
        run(directory, server, words).unwrap_or_else(|said| panic!("{said}"))
    }
}

fn run(directory: &Path, server: &str, words: &[&str]) -> Result<String, String> {
    let path = format!("{}/scripts/servers/{server}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(path).arg(directory).args(words).output().expect("the script runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    Err(format!("{server} {words:?}: {}{}", said(&output.stdout), said(&output.stderr)))
}

impl Drop for Servers {
    fn drop(&mut self) {
        // A panic within a panic would hide the first.
        if !std::thread::panicking() {
            self.heal();
        }
    }
}
