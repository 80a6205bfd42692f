//! Whoever started this process and looks after it, as systemd does: it may have bound the ports (sd_listen_fds(3)), and it
//! wants to hear how the process is (sd_notify(3)). Nothing of it is needed.

mod activation;
mod notify;

pub use activation::{ActivationError, activated};
pub use notify::Supervisor;
