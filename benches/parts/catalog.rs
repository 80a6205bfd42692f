//! A link among ten million.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write};

use tempfile::TempDir;

use crate::Size;

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
click_id_parameter = "click_id"
stand_down = true
  [[offers.terms]]
  from = 2026-01-01T00:00:00+03:30
  window_days = 10
  model = "linear"
  hold_days = 14
  rate_basis = "conversion"
  default_rate = "12%"
  rates = [{ category = "mobile", rate = "2%" }]
[[publishers]]
id = 34
status = "approved"
[[publishers]]
id = 35
status = "approved"
[[links]]
code = "phone"
offer_id = 12
publisher_id = 34
url = "https://shop.example/product/000000000?colour=black&size=42"
"#;

/// A directory with `catalog.toml` and so many links beside the one with the code `phone`.
pub fn home(links: u64) -> TempDir {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("catalog.toml"), CATALOG).expect("a file");
    let mut file = BufWriter::new(File::create(home.path().join("links.ndjson")).expect("a file"));
    for number in 0..links {
        let url = format!("https://shop.example/product/{number:09}?colour=black&size=42");
        let code = code(number);
        writeln!(file, r#"{{"code":"{code}","offer_id":12,"publisher_id":34,"url":"{url}"}}"#).expect("room");
    }
    file.flush().expect("room");
    home
}

/// Another one each time, in no order.
pub fn lookup(size: Size) -> Box<dyn FnMut()> {
    let links = if size == Size::Full { 10_000_000 } else { 2_000 };
    let snapshot = afflux::catalog::load(&home(links).path().join("catalog.toml")).expect("a catalog").snapshot;
    let codes: Vec<String> = (0..links.min(1 << 20)).map(|step: u64| code(step * 7_368_787 % links)).collect();
    let mut at = 0;
    Box::new(move || {
        at = if at + 1 == codes.len() { 0 } else { at + 1 };
        assert!(snapshot.link(black_box(codes[at].as_bytes())).is_some());
    })
}

fn code(number: u64) -> String {
    format!("k{number:x}")
}
