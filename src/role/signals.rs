//! Signals of the process (contract P7, P9): SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reloads. They
//! are taken over before anything else is done: during the start, too, they must not end the process by themselves.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::supervisor::Supervisor;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Who hears how the process is, beside those who send signals.
    pub supervisor: Supervisor,
    /// Asked for before there was anything to reload.
    reload_waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Stop,
    Reload,
}

impl Signals {
    /// Takes the signals over from their defaults, which would end the process.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            supervisor: Supervisor::of_environment(),
            reload_waits: false,
        })
    }

    pub async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.reload_waits) {
            return Asked::Reload;
        }
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Builds on a thread of its own and minds the signals meanwhile. `None`: asked to stop, nothing was answered yet. A
    /// reload that was asked for is asked for again once there is something to reload: what was read may be older.
    pub async fn during<T: Send + 'static>(
        &mut self,
        build: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<Option<T>, Failure> {
        let mut built = tokio::task::spawn_blocking(build);
        let mut reload_asked = false;
        loop {
            tokio::select! {
                built = &mut built => {
                    self.reload_waits = reload_asked;
                    return built.map_err(Failure::internal)?.map(Some);
                }
                asked = self.next() => match asked {
                    Asked::Stop => return Ok(None),
                    Asked::Reload => reload_asked = true,
                },
            }
        }
    }

    pub async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
