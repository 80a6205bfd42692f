//! How fast it is: `cargo test --release -- --ignored --nocapture figures`.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{ClickSketch, T0, World, click};
use crate::attribution::consumer::{Consumer, Reach, Records, Source, SpoolReach};
use crate::click::VisitorId;
use crate::spool::SpoolId;
use crate::store::Store;
use crate::time::HOUR_MS;

/// The same records over and over, under new numbers.
struct Loop {
    clicks: Vec<Vec<u8>>,
    conversions: Vec<Vec<u8>>,
    reach: (u64, u64),
}

impl Source for Loop {
    fn reach(&mut self) -> io::Result<Reach> {
        let reach = |spool, until| vec![SpoolReach { spool: SpoolId(spool), until, sealed: None }];
        Ok(Reach { clicks: reach(1, self.reach.0), conversions: reach(2, self.reach.1) })
    }

    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()> {
        let records = if spool.0 == 1 { &self.clicks } else { &self.conversions };
        for seq in (from..until).take(most) {
            into.push(seq, &records[seq as usize % records.len()]);
        }
        Ok(())
    }

    fn applied(&mut self, _spool: SpoolId, _next: u64) {}

    fn wait(&mut self, _at_most: Duration) {}
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    let world = World::new();
    let count = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (clicks, conversions): (u64, u64) = (count("CLICKS", 2_000_000), count("CONVERSIONS", 50_000));
    let mut source = Loop { clicks: Vec::new(), conversions: Vec::new(), reach: (0, 0) };
    for number in 0..200_000u32 {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let visitor = VisitorId::new(random);
        let sketch = ClickSketch { random: number, ..click(T0 + i64::from(number) / 20, 1, 1 + number % 4) };
        let key = visitor.key(crate::catalog::MerchantId(1), &world.keys);
        let id = crate::click::ClickId::sign(
            &world.keys,
            crate::time::TimeMs(sketch.at),
            crate::catalog::OfferId(12),
            crate::catalog::PublisherId(sketch.publisher),
            key,
            0,
            number,
        );
        let mut event = world.click(&sketch);
        event["click_id"] = json!(id.to_string());
        event["visitor_id"] = json!(visitor.as_str());
        event["visitor_key"] = json!(key);
        event["sub1"] = json!(format!("s{}", number % 300));
        event["user_agent"] = json!("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)");
        event["language"] = json!("fa");
        source.clicks.push(serde_json::to_vec(&event).unwrap());
        if u64::from(number) < conversions {
            let with = json!({"click_id": id.to_string(), "visitor_id": visitor.as_str()});
            let report = world.report(&format!("A-{number}"), T0 + HOUR_MS, with);
            source.conversions.push(serde_json::to_vec(&report).unwrap());
        }
    }
    let store = Store::open(&world.path()).unwrap();
    let mut consumer = Consumer::new(&mut source, store, &world.rules, &world.metrics).unwrap();
    let mut run = |name: &str, reach: (u64, u64), events: u64| {
        consumer.source_mut(|source| source.reach = reach);
        let (began, cpu) = (Instant::now(), cpu_ms());
        consumer.round(&|| false).unwrap();
        let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_ms() - cpu);
        let per = cpu as f64 * 1e3 / events as f64;
        println!("{name}: {:.0}/s, {per:.2} us CPU each", events as f64 / wall);
    };
    for done in (0..clicks).step_by(500_000) {
        let next = (done + 500_000).min(clicks);
        run(&format!("clicks {done} to {next}"), (next, 0), next - done);
    }
    run("conversions", (clicks, conversions), conversions);
    println!("{} transactions", world.metrics.batches.value());
}

/// CPU time of this process, user and system, in milliseconds.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}
