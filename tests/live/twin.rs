//! The same events in one process: `afflux serve` over copies of the edges' spools, with the same keys and catalog.

use std::path::Path;
use std::time::Duration;

use crate::books;
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
    // It begins with all of them at once; with a million in the long form.
    let takes = Duration::from_millis(events.len() as u64 / 5);
    books::wait_for(books::patience() + takes, "one process has applied all", || {
        let seen = books::reported(&serve);
        if seen == reported { Ok(()) } else { Err(format!("{seen:?} of {reported:?}")) }
    });
    let sums = match expected {
        Some(expected) => books::wait_for_ledger(&serve, events, expected, "one process"),
        None => settled(&serve, events),
    };
    serve.stop();
    sums
}

/// All clicks and conversions are applied: once the refunds are, too, nothing is left that could change the ledger.
fn settled(serve: &Process, events: &[serde_json::Value]) -> Sums {
    let refunds = events.iter().filter(|event| event["event"] == "refund").count() as f64;
    books::wait_for(books::patience(), "one process has applied the refunds and has nothing left", || {
        let (applied, lag) =
            (serve.count("afflux_attribution_refunds_total"), serve.count("afflux_attribution_lag_seconds"));
        if applied >= refunds && lag == 0.0 { Ok(()) } else { Err(format!("{applied} of {refunds}, {lag} s behind")) }
    });
    books::ledger(serve)
}

/// Sparse and sealed or not, a spool is a directory.
pub fn copy_spools(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status();
    assert!(status.expect("cp").success());
}
