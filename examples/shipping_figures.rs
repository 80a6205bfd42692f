//! How fast spools are shipped and what an event costs: fills a spool, ships it to the Kafka of `AFFLUX_TEST_KAFKA`, and
//! prints events a second and microseconds of CPU for each event (all threads of this process).
//!
//! `AFFLUX_TEST_KAFKA=HOST:PORT cargo run --release --example shipping_figures [EVENTS] [SPOOLS]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux::clock::WallClock;
use afflux::kafka::Cluster;
use afflux::kafka::topics::{self, Shape};
use afflux::shipper::{self, Parts, Settings, ShipperMetrics};
use afflux::spool::{Durability, Options, Spools, Topic, Writer};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse().expect("a number"));
    let events: u64 = arguments.next().unwrap_or(1_000_000);
    let count: u64 = arguments.next().unwrap_or(2);
    let servers = std::env::var("AFFLUX_TEST_KAFKA").expect("AFFLUX_TEST_KAFKA is a cluster");
    let cluster = Cluster { bootstrap_servers: servers, prefix: format!("figures-{}", std::process::id()) };
    let shape = Shape { partitions: 6, replicas: 1, min_insync_replicas: 1, retention_days: 1_000 };
    topics::create(&cluster, &topics::wanted(&cluster, shape)).expect("topics");

    let home = tempfile::tempdir().expect("a directory");
    let spools = spools(&home);
    let mut writers: Vec<Writer> =
        (0..count).map(|worker| spools.writer(Topic::Clicks, worker as u16).expect("a spool")).collect();
    let mut bytes = 0;
    for number in 0..events {
        bytes += click(&mut writers[(number % count) as usize], number);
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
        duplicates: Box::new(|clicks| Ok(vec![None; clicks.len()])),
        metrics: metrics.clone(),
    };
    let (begun, cpu) = (Instant::now(), cpu());
    shipper::run(parts, || metrics.left().is_some_and(|left| left.spools == 0));
    let (took, used) = (begun.elapsed(), self::cpu() - cpu);
    println!(
        "{events} events of {} bytes from {count} spools: {:.0} events/s, {:.2} us of CPU each",
        bytes / events,
        events as f64 / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / events as f64,
    );
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

/// An event of about the usual size, with what does not repeat. Returns its bytes.
fn click(writer: &mut Writer, number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (spool, seq) = (writer.id(), writer.next_seq());
    let record = format!(
        r#"{{"event":"click","schema":1,"spool":"{spool}","seq":{seq},"click_id":"{mixed:016x}{:016x}{number:016x}","clicked_at_ms":{},"offer_id":{},"publisher_id":{},"merchant_id":3,"link":"phone{}","visitor_id":"{:022x}","visitor_key":"{mixed:016x}","visitor_new":true,"url":"https://shop.example/p/{}?color=black","sub1":"campaign-{}","ip":"192.0.{}.0","ip_key":"{:016x}","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","referer":"https://blog.example/","language":"en-US","flags":[],"billable":true,"edge":"edge-1","catalog":"0badcafe"}}"#,
        mixed.rotate_left(17),
        1_700_000_000_000 + number,
        number % 50,
        number % 300,
        number % 50,
        mixed.rotate_left(31),
        number % 1_000,
        number % 20,
        number % 256,
        mixed.rotate_left(7),
    );
    while writer.append(record.as_bytes()).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    record.len() as u64
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
