//! What the supervisor hears of us: datagrams of lines `NAME=VALUE`. Sending never waits; that it fails is told once.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nobody, where nobody asked.
#[derive(Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    has_failed: AtomicBool,
}

impl Supervisor {
    /// As the environment says: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.
    pub fn of_environment() -> Supervisor {
        Supervisor::of(std::process::id(), |name| std::env::var_os(name))
    }

    fn of(pid: u32, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Supervisor {
        let Some(name) = variable("NOTIFY_SOCKET") else { return Supervisor::default() };
        let socket = connected(&name);
        if let Err(error) = &socket {
            tracing::warn!(%error, "NOTIFY_SOCKET: nobody hears there how this process is");
        }
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        // Without a process named it is meant for us (sd_watchdog_enabled(3)).
        let is_ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        Supervisor { socket: socket.ok(), watchdog, has_failed: AtomicBool::new(false) }
    }

    /// How often it wants to hear that the process is well: twice in the time after which it would be ended.
    pub fn pulse(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    pub fn ready(&self) {
        self.say("READY=1\nSTATUS=serving");
    }

    /// `ready` has to follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec as i128 * 1_000_000 + now.tv_nsec as i128 / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading"));
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// For the watchdog: all threads work.
    pub fn well(&self) {
        if self.watchdog.is_some() {
            self.say("WATCHDOG=1");
        }
    }

    fn say(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes())
            && !self.has_failed.swap(true, Relaxed)
        {
            tracing::warn!(%error, "the supervisor cannot be told how this process is");
        }
    }
}

fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Supervisor {
        let of_name = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Supervisor::of(42, of_name)
    }

    fn heard(by: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        by.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = by.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn it_is_told_at_a_path_and_at_an_abstract_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify").display().to_string();
        let name = format!("afflux-test-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, by) in [(path, at_path), (format!("@{name}"), at_name)] {
            let supervisor = of(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "42")]);
            assert_eq!(supervisor.pulse(), Some(Duration::from_millis(1_500)));
            supervisor.ready();
            assert_eq!(heard(&by), "READY=1\nSTATUS=serving");
            supervisor.reloading();
            let said = heard(&by);
            let usec = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split('\n').next());
            assert!(usec.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{said}");
            supervisor.well();
            assert_eq!(heard(&by), "WATCHDOG=1");
            supervisor.stopping();
            assert_eq!(heard(&by), "STOPPING=1\nSTATUS=draining");
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_none_and_nobody_is_no_trouble() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify").display().to_string();
        let _by = UnixDatagram::bind(&path).unwrap();
        let pulse = |pid, usec| of(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_PID", pid), ("WATCHDOG_USEC", usec)]).pulse();
        assert_eq!((pulse("41", "10"), pulse("x", "10"), pulse("42", "0"), pulse("42", "x")), (None, None, None, None));
        assert_eq!(of(&[("WATCHDOG_USEC", "10")]).pulse(), None);
        for nobody in [of(&[]), of(&[("NOTIFY_SOCKET", "/nowhere/notify")]), of(&[("NOTIFY_SOCKET", "")])] {
            nobody.ready();
            nobody.well();
        }
    }
}
