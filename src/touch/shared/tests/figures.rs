//! What a touch costs. `AFFLUX_FIGURES=1 cargo test --lib -- --nocapture what_a_touch_costs` prints it in full size.

use super::*;

struct Shape {
    name: &'static str,
    visitors: u64,
    touches: u32,
    days: i64,
    labels: bool,
}

#[test]
fn what_a_touch_costs_in_memory() {
    let size = if std::env::var_os("AFFLUX_FIGURES").is_some() { 1u64 } else { 20 };
    let shape =
        |name, visitors, touches, days, labels| Shape { name, visitors: visitors / size, touches, days, labels };
    for (shape, most_bytes) in [
        (shape("200,000 visitors, 1 touch", 200_000, 1, 1, false), 48.0),
        (shape("200,000 visitors, 1 touch with labels", 200_000, 1, 1, true), 80.0),
        (shape("20,000 visitors, 20 touches of a day", 20_000, 20, 1, false), 48.0),
        (shape("20,000 visitors, 20 touches of 20 days", 20_000, 20, 20, false), 56.0),
    ] {
        let bytes = measure(&shape);
        // With few touches Redis' own growth shows.
        assert!(bytes < most_bytes * if size == 1 { 1.0 } else { 1.6 }, "{}: {bytes:.1} bytes", shape.name);
    }
}

fn measure(shape: &Shape) -> f64 {
    let server = Server::start(&[]);
    let mut index = touches(server.link(), kept(1, 4_096));
    let clicks = Clicks::new();
    index.add(0, None, position(1), &[]).unwrap();
    index.find(&[]).unwrap();
    let (before, cpu_before) = (used_memory(&mut index), redis_cpu(&mut index));
    let visitor = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (mut next, mut count, mut spent) = (1, 0, std::time::Duration::ZERO);
    for turn in 0..shape.touches {
        let at = today() - i64::from(turn) % shape.days * DAY_MS + i64::from(turn) * 1_000;
        let ids: Vec<ClickId> = (0..shape.visitors).map(|n| clicks.click(at, visitor(n), turn ^ n as u32)).collect();
        let labels: Vec<String> = ids.iter().map(|id| format!("sub-{}", id.random() % 1_000)).collect();
        for (ids, labels) in ids.chunks(2_000).zip(labels.chunks(2_000)) {
            let touched = ids.iter().zip(labels).map(|(id, label)| Touched {
                click_id: *id,
                link: shape.labels.then_some("spring-sale"),
                source: shape.labels.then_some("letter"),
                sub1: shape.labels.then_some(label.as_str()),
            });
            let touched: Vec<Touched<'_>> = touched.collect();
            let begun = Instant::now();
            index.add(0, Some(position(next)), position(next + 1), &touched).unwrap();
            spent += begun.elapsed();
            (next, count) = (next + 1, count + ids.len());
        }
    }
    let bytes = (used_memory(&mut index) - before) as f64 / count as f64;
    let for_adds = (redis_cpu(&mut index) - cpu_before) * 1e6 / count as f64;
    let looks: Vec<_> = (0..shape.visitors.min(10_000)).map(|n| (VisitorKey(visitor(n)), TimeMs(0))).collect();
    let (begun, cpu_before) = (Instant::now(), redis_cpu(&mut index));
    let looked = index.find(&looks).unwrap();
    let finds = looks.len() as f64 / begun.elapsed().as_secs_f64();
    let for_finds = (redis_cpu(&mut index) - cpu_before) * 1e6 / looks.len() as f64;
    assert!(looked.found.iter().all(|found| found.click_ids.len() == shape.touches as usize));
    let adds = count as f64 / spent.as_secs_f64();
    println!(
        "{}: {bytes:.1} bytes a touch; an add costs Redis {for_adds:.1} us of CPU, a find {for_finds:.1} us; \
         one writer {adds:.0} adds/s, one reader {finds:.0} finds/s",
        shape.name
    );
    bytes
}

fn info(index: &mut SharedTouches, section: &str) -> String {
    let mut command = ::redis::cmd("INFO");
    command.arg(section);
    let answer = index.link.ask(&[command]).unwrap().remove(0);
    String::from_utf8(packing::bytes(answer).unwrap()).unwrap()
}

fn used_memory(index: &mut SharedTouches) -> i64 {
    let text = info(index, "memory");
    text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

/// User and system, in seconds: what a busy machine does not falsify.
fn redis_cpu(index: &mut SharedTouches) -> f64 {
    let text = info(index, "cpu");
    let said =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<f64>().unwrap();
    said("used_cpu_user:") + said("used_cpu_sys:")
}
