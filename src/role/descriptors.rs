//! How many files this process may have open: connections, segments, old spools that are read.

use rustix::process::{Resource, getrlimit, setrlimit};

/// As many as the hard limit allows; the soft one is often 1,024, for the sake of programs that use select(2).
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
