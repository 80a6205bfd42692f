//! A backlog is shipped, then applied; then a steady load runs through everything while single clicks and orders are timed.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use super::process::{cpu_us, machine, resident_mib, threads_cpu_us};
use crate::cluster::{Cluster, Shape};
use crate::process::Process;
use crate::rig::Client;
use crate::rig::server::TOKEN;

/// Seconds of load that make the backlog, and orders in it.
const BACKLOG_S: u64 = 20;
const BACKLOG_ORDERS: u64 = 5_000;

/// The steady loads: clicks a second, open loop, each for so long; how many orders are timed, and who clicks.
const STEADY: [u64; 2] = [2_000, 5_000];
const STEADY_S: u64 = 40;
const LANES: u64 = 8;
const TIMED: usize = 400;

const LIMIT: Duration = Duration::from_secs(300);

pub fn run() {
    println!("\n## Cluster ({}): 3 brokers, Redis and PostgreSQL on the same cores", machine());
    let mut shape = Shape::with("shipper", "enabled = false");
    shape.config.push(("spool", "durability = \"process\"".into()));
    shape.config.push(("spool", "segment_bytes = 67_108_864".into()));
    let mut cluster = Cluster::make("figures", shape.clone(), 1, 1);
    let (clicks, orders) = backlog(&mut cluster);
    println!("backlog: {clicks} clicks, {orders} orders answered");
    shape.config.retain(|(section, _)| *section != "shipper");
    cluster.reshape(shape);
    ship(&mut cluster, clicks + orders);
    apply(&mut cluster, clicks, orders);
    cluster.console.start();
    let total = STEADY.iter().fold(clicks, |before, rate| steady(&mut cluster, *rate, before));
    println!("books: {total} clicks answered = {total} reported");
    for process in cluster.processes() {
        println!("memory of {}: {:.0} MiB", process.name, resident_mib(process.pid()));
    }
}

/// Clicks by wrk on one edge whose shipper is off, and orders of visitors who clicked.
fn backlog(cluster: &mut Cluster) -> (u64, u64) {
    let edge = &mut cluster.edges[0];
    edge.start();
    let url = format!("http://{}/phone?sub1=bench", edge.edge);
    let output = Command::new("wrk").args(["-t1", "-c32", &format!("-d{BACKLOG_S}s"), &url]).output().expect("wrk");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("Non-2xx"), "{said}");
    let count = |word: Option<&str>| word.and_then(|word| word.trim().parse::<u64>().ok());
    let answered = count(said.split(" requests in").next().and_then(|before| before.split_whitespace().next_back()));
    let mut clicks = answered.expect("wrk says how many");
    let people = 8;
    let threads: Vec<_> = (0..people)
        .map(|person| {
            let (edge, api) = (edge.edge, edge.api);
            std::thread::spawn(move || {
                let (mut edge, mut api) = (Client::new(edge), Client::new(api));
                for number in 0..BACKLOG_ORDERS / people {
                    let click = edge.get("/phone?sub1=order", &[]);
                    assert_eq!(order(&mut api, &format!("B-{person}-{number}"), &click.click_id()), 202);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a person"));
    let orders = BACKLOG_ORDERS / people * people;
    clicks += orders;
    // wrk leaves requests unanswered that the edge has counted: what the spool holds is what was answered.
    let spooled = edge.metric("afflux_spool_records_total", "clicks") as u64;
    assert!(spooled >= clicks && spooled <= clicks + 32, "{spooled} spooled, {clicks} answered");
    edge.stop();
    (spooled, orders)
}

fn order(api: &mut Client, order_id: &str, click_id: &str) -> u16 {
    let body = json!({"order_id": order_id, "type": "sale", "click_id": click_id, "amount": 1_250_000});
    api.post_json("/v1/conversions", TOKEN, &body).status
}

fn ship(cluster: &mut Cluster, records: u64) {
    let edge = &mut cluster.edges[0];
    edge.start();
    let (began, before) = (Instant::now(), cpu_us(edge.pid()));
    wait(|| edge.metric("afflux_shipper_delivered_total", "") as u64 >= records);
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_us(edge.pid()) - before);
    println!(
        "shipping: {records} records in {took:.1} s ({:.0}/s), {:.1} us of the edge's CPU each",
        records as f64 / took,
        cpu as f64 / records as f64
    );
}

fn apply(cluster: &mut Cluster, clicks: u64, orders: u64) {
    let empty = redis_bytes(cluster);
    let attribution = &mut cluster.attributions[0];
    attribution.start();
    let began = Instant::now();
    wait(|| attribution.metric("afflux_attribution_clicks_total", "") as u64 >= clicks);
    let took = began.elapsed().as_secs_f64();
    wait(|| attribution.metric("afflux_touch_index_touches_total", "") as u64 >= clicks);
    let indexed = began.elapsed().as_secs_f64();
    wait(|| {
        attribution.metric("afflux_attribution_conversions_total", "") as u64 >= orders
            && attribution.metric("afflux_waiting_conversions", "") == 0.0
    });
    let decided = began.elapsed().as_secs_f64();
    let pid = attribution.pid();
    let of = |name| threads_cpu_us(pid, name) as f64;
    println!("attribution: {clicks} clicks applied in {took:.1} s ({:.0}/s)", clicks as f64 / took);
    println!("touch index: made of {clicks} clicks in {indexed:.1} s ({:.0}/s)", clicks as f64 / indexed);
    println!("decisions: {orders} orders decided {decided:.1} s after the start ({:.0}/s)", orders as f64 / decided);
    println!(
        "CPU of attribution: {:.1} us a click, all threads; applying {:.1}, indexing {:.1}; deciding {:.0} us an order",
        (cpu_us(pid) as f64 - of("decider")) / clicks as f64,
        of("attribution") / clicks as f64,
        of("touches") / clicks as f64,
        of("decider") / orders as f64
    );
    println!("Redis: {:.1} bytes a touch", (redis_bytes(cluster) - empty) as f64 / clicks as f64);
}

/// Clicks at a constant rate, counted from their planned start; beside them orders, each timed from its 202 to its decision,
/// and counts of clicks, each timed until the reports have them. Returns how many clicks were answered in all, checked.
fn steady(cluster: &mut Cluster, per_s: u64, before: u64) -> u64 {
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..LANES)
        .map(|lane| {
            let (stop, answered, edge) = (stop.clone(), answered.clone(), cluster.edges[0].edge);
            std::thread::spawn(move || lane_of_load(lane, per_s, edge, &stop, &answered))
        })
        .collect();
    let visible = {
        let (stop, answered) = (stop.clone(), answered.clone());
        let database = cluster.sql("select current_database()");
        assert!(!database.is_empty());
        move |cluster: &Cluster| watch_rollups(cluster, before, &stop, &answered)
    };
    let began = Instant::now();
    let mut decisions = Vec::new();
    let mut rollups = Vec::new();
    let (mut edge, mut api) = (Client::new(cluster.edges[0].edge), Client::new(cluster.edges[0].api));
    let mut console = Client::new(cluster.console.api);
    for number in 0..TIMED {
        let click = edge.get("/phone?sub1=timed", &[]);
        answered.fetch_add(1, Relaxed);
        let id = format!("T-{per_s}-{number}");
        let body = json!({"order_id": id, "type": "sale", "click_id": click.click_id(), "amount": 1_250_000});
        let answer = api.post_json("/v1/conversions", TOKEN, &body);
        assert_eq!(answer.status, 202);
        let (sent, conversion) = (Instant::now(), answer.json()["conversion_id"].as_str().expect("an ID").to_owned());
        let path = format!("/v1/conversions/{conversion}");
        let authorization = format!("Bearer {TOKEN}");
        wait(|| console.get(&path, &[("Authorization", &authorization)]).json()["outcome"] == "attributed");
        decisions.push(sent.elapsed());
        if number % 8 == 0 {
            rollups.extend(visible(cluster));
        }
        if began.elapsed() > Duration::from_secs(STEADY_S) {
            break;
        }
    }
    stop.store(true, Relaxed);
    let late: u64 = load.into_iter().map(|thread| thread.join().expect("a lane")).max().unwrap_or(0);
    let rate = answered.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("steady: {rate:.0} clicks/s, the generator at most {late} ms late");
    print_delays("click to rollup", &mut rollups);
    print_delays("202 to decision", &mut decisions);
    let total = before + answered.load(Relaxed);
    wait(|| reported(cluster) >= total);
    assert_eq!(reported(cluster), total, "clicks answered = clicks reported");
    total
}

/// A part of the load. Returns how late the latest request was, in milliseconds.
fn lane_of_load(lane: u64, per_s: u64, edge: std::net::SocketAddr, stop: &AtomicBool, answered: &AtomicU64) -> u64 {
    let mut client = Client::new(edge);
    let (began, each) = (Instant::now(), Duration::from_secs(LANES) / per_s as u32);
    let mut worst = 0;
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let planned = began + each * number;
        std::thread::sleep(planned.saturating_duration_since(Instant::now()));
        worst = worst.max(planned.elapsed().as_millis() as u64);
        let target = format!("/book?sub1=lane{lane}");
        assert_eq!(client.get(&target, &[]).status, 302);
        answered.fetch_add(1, Relaxed);
    }
    worst
}

/// From when so many clicks were answered to when the reports had as many.
fn watch_rollups(cluster: &Cluster, before: u64, stop: &AtomicBool, answered: &AtomicU64) -> Option<Duration> {
    let (goal, began) = (before + answered.load(Relaxed), Instant::now());
    while !stop.load(Relaxed) {
        if reported(cluster) >= goal {
            return Some(began.elapsed());
        }
    }
    None
}

fn reported(cluster: &Cluster) -> u64 {
    cluster.sql("select coalesce(sum(clicks), 0) from click_rollups").parse().expect("a number")
}

fn print_delays(what: &str, delays: &mut [Duration]) {
    delays.sort_unstable();
    let at = |part: f64| delays.get(((delays.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or_default();
    println!("{what}: p50 {:.0?}, p99 {:.0?} of {}", at(0.5), at(0.99), delays.len());
}

fn redis_bytes(cluster: &Cluster) -> u64 {
    let info = cluster.servers.redis(&["cli", "info", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).expect("Redis says how much it uses")
}

fn wait(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}");
        crate::sleep_ms(5);
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child_id().expect("it runs")
    }
}
