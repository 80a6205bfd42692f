//! What must hold on the open internet, shown by programs that others wrote: a browser, a cache, proxies.
//!
//! A program that is not installed fails its test; `scripts/install open` installs what is missing.

#[path = "../rig/mod.rs"]
mod rig;

mod chromium;
mod page;
mod proxies;
mod varnish;

/// A program of somebody else, ended with the test.
struct Program(std::process::Child);

impl Program {
    fn start(command: &mut std::process::Command) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        Program(command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}; scripts/install open")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited 60 s in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
