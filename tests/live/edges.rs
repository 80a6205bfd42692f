//! Edges that are late, dead, moved to another host, or restored from an older copy.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::process::Process;
use crate::twin::copy_spools;
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 40 };

/// Rewrites the config of one process: its shipper rests.
pub fn without_shipper(process: &Process) {
    let text = std::fs::read_to_string(process.config()).unwrap();
    std::fs::write(process.config(), text + "[shipper]\nenabled = false\n").unwrap();
}

fn doors(cluster: &Cluster, edge: usize, api: usize) -> (SocketAddr, SocketAddr) {
    (cluster.edges[edge].edge, cluster.edges[api].api)
}

/// Its clicks belong to orders that others reported, and that were decided without them.
#[test]
fn an_edge_that_was_cut_off_changes_what_was_decided_without_it() {
    let _alone = alone();
    let mut cluster = Cluster::make("late-edge", Shape::with("attribution", "grace_ms = 1000"), 2, 2);
    without_shipper(&cluster.edges[0]);
    cluster.start_all();
    let doors = [doors(&cluster, 0, 1), doors(&cluster, 1, 1)];
    let crowd = Crowd::on(&doors, random::seed(), PACE);
    crowd.wait_for(by_form(500, 50_000), by_form(50, 5_000));
    let answers = crowd.go_home();
    // Decided by what is known, wrongly in many cases.
    let conversions = answers.orders.len() as u64;
    books::wait_for(books::patience(), "the orders are there", || {
        let seen = books::reported(&cluster.console).1;
        if seen == conversions { Ok(()) } else { Err(format!("{seen} of {conversions}")) }
    });
    crate::sleep_ms(by_form(3_000, 3_600_000));
    let early = books::ledger(&cluster.console);
    cluster.edges[0].stop();
    cluster.write_config(&cluster.edges[0]);
    cluster.edges[0].start();
    books::close(&mut cluster, &answers);
    cluster.shows("attribution", "afflux_attribution_late_clicks_total", "", 0.0);
    let late = books::ledger(&cluster.console);
    let changed = late.iter().filter(|(key, amount)| early.get(*key) != Some(*amount)).count();
    println!("{changed} of {} balances changed when the late clicks came", late.len());
    assert!(changed > 0, "the test decided nothing too early");
}

#[test]
fn a_dead_edges_disk_is_drained_by_another_host() {
    let _alone = alone();
    let mut cluster = Cluster::make("moved-disk", Shape::default(), 2, 2);
    without_shipper(&cluster.edges[0]);
    cluster.start_all();
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    cluster.edges[0].kill();
    crowd.wait_for(100, 10);
    let from = cluster.edges[0].home.join("data/spool");
    cluster.add_edge();
    let drain = cluster.edges.last_mut().unwrap();
    let to = drain.home.join("data/spool");
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::rename(&from, &to).unwrap();
    std::fs::create_dir_all(&from).unwrap();
    drain.launch(&["--drain-only"]);
    assert_eq!(drain.wait(60).code(), Some(0), "{}", drain.log());
    cluster.write_config(&cluster.edges[0]);
    cluster.edges[0].start();
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn an_older_copy_of_a_spool_is_drained_once_and_new_clicks_arrive() {
    let _alone = alone();
    let mut cluster = Cluster::start("older-copy");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    let spools = cluster.edges[0].home.join("data/spool");
    let copy = cluster.path().join("copy");
    std::fs::create_dir_all(&copy).unwrap();
    copy_spools(&spools, &copy);
    crowd.wait_for(200, 20);
    let mut answers = crowd.go_home();
    let known = books::spooled(&cluster);
    // All of it is shipped before the disk is lost: what a lost disk alone had is lost with it.
    books::assert_spooled_is_in_kafka(&cluster, &known);
    cluster.edges[0].kill();
    std::fs::remove_dir_all(&spools).unwrap();
    std::fs::create_dir_all(&spools).unwrap();
    copy_spools(&copy, &spools);
    cluster.edges[0].start();
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    answers.add(crowd.go_home());
    let names: BTreeSet<String> = known.iter().filter_map(|event| event["spool"].as_str().map(str::to_owned)).collect();
    println!("{} spools were known before the disk was set back", names.len());
    cluster.shows("edge", "afflux_spool_recovered_total", "", 0.0);
    books::close_with(&mut cluster, &answers, books::Closing { known, ..books::Closing::default() });
}
