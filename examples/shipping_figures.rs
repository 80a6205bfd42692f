//! How fast spools are shipped and what an event costs: fills a spool, ships it to the Kafka of `AFFLUX_TEST_KAFKA`, and
//! prints events a second and microseconds of CPU for each event: of our thread, and of all others (librdkafka's). With
//! `AFFLUX_TEST_REDIS` the same once more, with the look for duplicates.
//!
//! `AFFLUX_TEST_KAFKA=HOST:PORT cargo run --release --example shipping_figures [EVENTS] [SPOOLS]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux::clock::WallClock;
use afflux::dedupe::shared::SharedDedupe;
use afflux::kafka::Cluster;
use afflux::kafka::topics::{self, Shape};
use afflux::redis::{Link, LinkSettings};
use afflux::shipper::{self, Duplicates, Parts, Settings, ShipperMetrics, Unavailable};
use afflux::spool::{Durability, Options, Spools, Topic, Writer};
use rustix::time::ClockId;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse().expect("a number"));
    let events: u64 = arguments.next().unwrap_or(1_000_000);
    let spools: u64 = arguments.next().unwrap_or(2);
    figure(events, spools, "without Redis", Box::new(|clicks| Ok(vec![None; clicks.len()])));
    if let Ok(redis) = std::env::var("AFFLUX_TEST_REDIS") {
        figure(events, spools, "with Redis", duplicates(&redis));
    }
}

fn duplicates(redis: &str) -> Duplicates {
    let settings = LinkSettings::new(redis, None, Duration::from_secs(1)).expect("AFFLUX_TEST_REDIS is a URL");
    let mut shared = SharedDedupe::new(Link::new(settings, Arc::default(), "duplicates"), 10_000);
    Box::new(move |clicks| shared.judge(clicks).map_err(|_| Unavailable))
}

fn figure(events: u64, count: u64, what: &str, duplicates: Duplicates) {
    let servers = std::env::var("AFFLUX_TEST_KAFKA").expect("AFFLUX_TEST_KAFKA is a cluster");
    // Nobody else's, and no former run's: clicks of that would be duplicates.
    let run = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let cluster = Cluster { bootstrap_servers: servers, prefix: format!("figures-{run}") };
    let shape = Shape { partitions: 6, replicas: 1, min_insync_replicas: 1, retention_days: 1_000 };
    topics::create(&cluster, &topics::wanted(&cluster, shape)).expect("topics");

    let home = tempfile::tempdir().expect("a directory");
    let spools = spools(&home);
    let mut writers: Vec<Writer> =
        (0..count).map(|worker| spools.writer(Topic::Clicks, worker as u16).expect("a spool")).collect();
    let mut bytes = 0;
    for number in 0..events {
        bytes += click(&mut writers[(number % count) as usize], run, number);
    }
    assert_eq!(spools.close(), []);

    let metrics = Arc::new(ShipperMetrics::default());
    let parts = Parts {
        spools: spools.clone(),
        cluster,
        clock: Arc::new(WallClock::start()),
        settings: Settings {
            edge: "figures".into(),
            batch_records: 4_096,
            linger_ms: 50,
            heartbeat: shipper::HEARTBEAT,
            random: 0,
        },
        duplicates,
        metrics: metrics.clone(),
    };
    let (begun, all) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let left = metrics.clone();
    // A thread of its own, so that a profiler can tell it from the rest.
    let shipping = std::thread::Builder::new().name("shipper".into()).spawn(move || {
        shipper::run(parts, || left.left().is_some_and(|left| left.spools == 0));
        (cpu(ClockId::ThreadCPUTime), kernel())
    });
    let (ours, kernel) = shipping.expect("a thread").join().expect("no panic");
    let (took, all) = (begun.elapsed(), cpu(ClockId::ProcessCPUTime) - all);
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
    println!(
        "{what}: {events} events of {} bytes from {count} spools: {:.0} events/s; us of CPU each: {:.2}, of which ours \
         {:.2} ({:.2} in the kernel), librdkafka's {:.2}",
        bytes / events,
        events as f64 / took.as_secs_f64(),
        each(all),
        each(ours),
        each(kernel),
        each(all - ours),
    );
    let unasked = metrics.dedupe_unavailable.value();
    assert_eq!(unasked, 0, "Redis was too slow for some of them");
}

fn spools(home: &tempfile::TempDir) -> Arc<Spools> {
    let options = Options {
        directory: home.path().to_owned(),
        segment_bytes: 64 << 20,
        durability: Durability::Process,
        sync_interval: Duration::from_millis(5),
        max_bytes: Some(1 << 34),
        keep: Duration::from_secs(86_400),
    };
    Arc::new(Spools::open(options, Arc::new(WallClock::start())).expect("spools"))
}

/// An event of about the usual size, with what does not repeat. Every other one is a new visitor's, as of somebody who
/// allows no cookies, and every twentieth repeats the one before it in its spool. Returns its bytes.
fn click(writer: &mut Writer, run: u64, number: u64) -> u64 {
    let mix = |number: u64| (number ^ run).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (spool, seq) = (writer.id(), writer.next_seq());
    let who = if seq % 20 == 19 { number - 4 } else { number };
    let (mixed, visitor) = (mix(number), mix(who));
    let record = format!(
        r#"{{"event":"click","schema":1,"spool":"{spool}","seq":{seq},"click_id":"{mixed:016x}{:016x}{number:016x}","clicked_at_ms":{},"offer_id":{},"publisher_id":{},"merchant_id":3,"link":"phone{}","visitor_id":"{:022x}","visitor_key":"{visitor:016x}","visitor_new":{},"url":"https://shop.example/p/{}?color=black","sub1":"campaign-{}","ip":"192.0.{}.0","ip_key":"{:016x}","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","referer":"https://blog.example/","language":"en-US","flags":[],"billable":true,"edge":"edge-1","catalog":"0badcafe"}}"#,
        mixed.rotate_left(17),
        1_700_000_000_000 + number / 100,
        who % 50,
        who % 300,
        who % 50,
        visitor.rotate_left(31),
        who % 4 < 2,
        who % 1_000,
        number % 20,
        number % 256,
        visitor.rotate_left(7),
    );
    while writer.append(record.as_bytes()).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    record.len() as u64
}

/// User and system time so far.
fn cpu(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// System time of this thread so far, in ticks of 10 ms.
fn kernel() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // The name may hold spaces; behind it the 13th field.
    let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(12)).and_then(|text| text.parse().ok());
    Duration::from_millis(10) * ticks.unwrap_or(0)
}
