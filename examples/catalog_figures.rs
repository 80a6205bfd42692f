//! How long ten million links take to load, what they weigh and how fast one is found.
//!
//! `cargo run --release --example catalog_figures [LINKS] [DIRECTORY]` writes a links file (130 bytes a link) into a new
//! directory below DIRECTORY, loads it, looks every thousandth link up in random order and removes the directory again.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use afflux::catalog::{self, Snapshot};

const CATALOG: &str = r#"
links_file = "links.ndjson"
[[merchants]]
id = 1
currency = "IRR"
[[offers]]
id = 12
merchant_id = 1
status = "active"
deep_link_hosts = ["shop.example"]
[[publishers]]
id = 34
status = "approved"
"#;

const LOOKUPS: u64 = 1_000_000;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(10_000_000);
    let below = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let home = below.join(format!("afflux-catalog-figures-{}", std::process::id()));
    fs::create_dir_all(&home)?;
    let result = write_files(&home, count).map(|bytes| measure(&home, count, bytes));
    fs::remove_dir_all(&home)?;
    result
}

fn write_files(home: &Path, count: u64) -> std::io::Result<u64> {
    fs::write(home.join("catalog.toml"), CATALOG)?;
    let mut links = BufWriter::with_capacity(1 << 20, File::create(home.join("links.ndjson"))?);
    for number in 0..count {
        let code = code(number);
        // 60 bytes of URL.
        let url = format!("https://shop.example/product/{number:09}?colour=black&size=42");
        writeln!(links, r#"{{"code":"{code}","offer_id":12,"publisher_id":34,"url":"{url}"}}"#)?;
    }
    links.flush()?;
    Ok(links.get_ref().metadata()?.len())
}

fn code(number: u64) -> String {
    format!("k{number:x}")
}

fn measure(home: &Path, count: u64, bytes: u64) {
    let before = resident_bytes();
    let started = Instant::now();
    let snapshot = match catalog::load(&home.join("catalog.toml")) {
        Ok(loaded) => loaded.snapshot,
        Err(violations) => return eprintln!("{violations}"),
    };
    let seconds = started.elapsed().as_secs_f64();
    let mib = |bytes: u64| bytes / (1 << 20);
    println!("links file          {} MiB, {count} links", mib(bytes));
    println!("load                {seconds:.2} s");
    println!("resident after load {} MiB more than before", mib(resident_bytes().saturating_sub(before)));
    println!("resident at most    {} MiB", mib(peak_bytes()));
    lookups("cold lookup", &snapshot, count, |step| step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count);
    lookups("warm lookup", &snapshot, count, |step| step % 1_000.min(count));
}

/// Codes are made ahead, so that only the look-up is timed; which is looked up next depends on what the former one read,
/// so that the processor cannot overlap them.
fn lookups(name: &str, snapshot: &Snapshot, count: u64, choose: impl Fn(u64) -> u64) {
    let codes: Vec<String> = (0..LOOKUPS.min(count)).map(|step| code(choose(step))).collect();
    let started = Instant::now();
    let (mut position, mut looked_up) = (0, 0);
    while let Some(code) = codes.get(position) {
        let length = snapshot.link(code.as_bytes()).and_then(|link| link.url).map_or(0, str::len);
        // No URL is 4 GiB long: a step of one, but the processor does not know.
        position += 1 + (std::hint::black_box(length) >> 32);
        looked_up += 1;
    }
    let nanoseconds = started.elapsed().as_nanos() as f64 / f64::from(looked_up);
    println!("{name}         {nanoseconds:.0} ns, the mean of {looked_up}");
}

fn resident_bytes() -> u64 {
    kilobytes("VmRSS:") * 1024
}

fn peak_bytes() -> u64 {
    kilobytes("VmHWM:") * 1024
}

fn kilobytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
