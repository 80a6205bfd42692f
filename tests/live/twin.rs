//! The same events in one process: `afflux serve` over copies of the edges' spools, with the same keys and catalog.

use std::path::Path;

use crate::books::{self, CLOSING};
use crate::cluster::Cluster;
use crate::oracle::Sums;
use crate::process::Process;

/// The ledger of one process that was given the spools of all edges. The edges must have ended.
pub fn ledger(cluster: &Cluster, events: &[serde_json::Value], reported: (u64, u64), expected: Option<&Sums>) -> Sums {
    let mut serve = Process::new("serve", &format!("serve-{}", cluster.edges.len()), cluster.path());
    let spools = serve.home.join("data/spool");
    std::fs::create_dir_all(&spools).expect("a directory");
    for edge in &cluster.edges {
        copy_spools(&edge.home.join("data/spool"), &spools);
    }
    cluster.write_config(&serve);
    serve.start();
    books::wait_for(CLOSING, "one process has applied all", || {
        let seen = books::reported(&serve);
        if seen == reported { Ok(()) } else { Err(format!("{seen:?} of {reported:?}")) }
    });
    let sums = books::settled_ledger(&serve, events, expected, "one process");
    serve.stop();
    sums
}

/// Sparse and sealed or not, a spool is a directory.
pub fn copy_spools(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status();
    assert!(status.expect("cp").success());
}
