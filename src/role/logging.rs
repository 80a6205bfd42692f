//! Logs: text on a terminal, one JSON object a line otherwise; always on stderr. `AFFLUX_LOG` chooses what is shown
//! (`info` by default, tracing's filter syntax). A stderr that is closed or full costs the log and nothing else.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::printing::Complaints;

pub fn start() {
    let filter = EnvFilter::try_from_env("AFFLUX_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Complaints);
    // A second subscriber cannot be set: then the first one goes on, which is as good.
    let _ =
        if std::io::stderr().is_terminal() { builder.with_target(false).try_init() } else { builder.json().try_init() };
}
