//! Real servers for tests.

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Link, LinkSettings};

pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A server has 16 databases if nobody says otherwise; the first is for whoever looks.
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static MADE: AtomicU32 = AtomicU32::new(1);
const DATABASES: u32 = 16;

thread_local! {
    /// A test runs in a thread of its own, which ends with it.
    static OURS: RefCell<Option<Database>> = const { RefCell::new(None) };
}

struct Database(u32);

impl Database {
    fn take() -> Database {
        let begun = Instant::now();
        loop {
            let free = FREE.lock().unwrap().pop();
            let made = || MADE.fetch_update(Relaxed, Relaxed, |next| (next < DATABASES).then_some(next + 1)).ok();
            if let Some(number) = free.or_else(made) {
                return Database(number);
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "no test gives its database back");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

/// The test's own database of the server of `AFFLUX_TEST_REDIS`, emptied.
pub fn settings() -> LinkSettings {
    let Ok(server) = std::env::var("AFFLUX_TEST_REDIS") else {
        panic!("AFFLUX_TEST_REDIS is not set: run the tests by scripts/servers/with, which starts Redis");
    };
    let number = OURS.with_borrow_mut(|ours| ours.get_or_insert_with(Database::take).0);
    // Its own database instead of the one that the URL names.
    let address = server.strip_prefix("redis://").unwrap().split('/').next().unwrap();
    let url = format!("redis://{address}/{number}");
    let settings = LinkSettings::new(&url, None, TIMEOUT).unwrap();
    link_to(&settings).ask(&[::redis::cmd("FLUSHDB")]).unwrap();
    settings
}

pub fn link_to(settings: &LinkSettings) -> Link {
    Link::new(settings.clone(), Arc::default(), "test")
}

/// A server of a test's own, for what would disturb others. It ends with the value.
pub struct Server {
    child: Child,
    port: u16,
    pub directory: tempfile::TempDir,
    options: Vec<String>,
}

impl Server {
    pub fn start(options: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        // Free when it is asked for; nobody else takes ports at random here.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let server = Server { child: run(port, directory.path(), &options), port, directory, options };
        server.wait_until_open();
        server
    }

    pub fn settings(&self, password: Option<&str>) -> LinkSettings {
        LinkSettings::new(&format!("redis://127.0.0.1:{}", self.port), password, TIMEOUT).unwrap()
    }

    pub fn link(&self) -> Link {
        link_to(&self.settings(None))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// On the same port, with what is on disk.
    pub fn start_again(&mut self) {
        self.kill();
        self.child = run(self.port, self.directory.path(), &self.options);
        self.wait_until_open();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait_until_open(&self) {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(port: u16, directory: &Path, options: &[String]) -> Child {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(directory).args(options);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: scripts/install test")
}
