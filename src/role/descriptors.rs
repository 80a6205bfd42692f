//! File descriptors: as many as the system lets us have, and how many of them the doors may take (contract E33, E34).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::http::Limits;

/// Descriptors kept for everything but connections: spools, stores, catalog, and those who look at the admin listener.
const OF_THE_PROCESS: usize = 256;
/// The same for each worker: its runtime, listener and segments.
const OF_A_WORKER: usize = 16;

/// Raises the soft limit to the hard one and gives what is allowed now. A soft limit is there for programs that use
/// `select`; none of ours does.
pub fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!("the limit of open files could not be raised to {maximum:?}");
    }
    // Without a limit memory is the limit.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

/// The bounds of each of the two doors. Where `limits.connections` does not fit into `allowed` descriptors it is lowered,
/// so that visitors can never take what spool, store and admin listener need.
pub fn limits(config: &Config, workers: usize, allowed: usize) -> Limits {
    let wanted = config.limits.connections.0 as usize;
    let limits = Limits::within(wanted, of_a_door(workers, allowed));
    if limits.connections < wanted {
        tracing::warn!(
            "limits.connections: {wanted} do not fit into the {allowed} files that this process may have open; {} on \
             each door are served. Raise the hard limit (ulimit -Hn, LimitNOFILE) or lower limits.connections",
            limits.connections
        );
    }
    limits
}

/// What is left for each of the two doors. Under a limit too small for all of it the process keeps half.
fn of_a_door(workers: usize, allowed: usize) -> usize {
    let kept = (OF_THE_PROCESS + workers * OF_A_WORKER).min(allowed / 2);
    (allowed - kept) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e33_the_doors_leave_the_process_what_it_needs() {
        for (allowed, workers, connections) in
            [(1 << 30, 8, 10_000), (524_288, 64, 10_000), (20_000, 2, 9_548), (1_024, 2, 357), (256, 2, 56)]
        {
            let limits = Limits::within(10_000, of_a_door(workers, allowed));
            assert_eq!(limits.connections, connections, "{allowed}");
            let kept = allowed - 2 * limits.descriptors();
            assert!(kept >= (OF_THE_PROCESS + workers * OF_A_WORKER).min(allowed / 2), "{allowed}: {kept}");
        }
    }
}
