//! What each part of a click's way costs, one by one.
//!
//! `make bench-parts` times them (criterion). `make bench-check` counts their instructions under callgrind and compares
//! them with `benches/parts/instructions.txt`: a figure that does not depend on what else the machine does.

mod parts {
    pub mod catalog;
    pub mod click;
    pub mod money;
    pub mod spool;
}

use std::hint::black_box;

use criterion::Criterion;

/// How much there is to look through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As large as the targets say.
    Full,
    /// Under valgrind everything takes fifty times as long.
    Small,
}

/// A part by its name in the table, and what makes a thing that does it once.
pub type Part = (&'static str, fn(Size) -> Box<dyn FnMut()>);

const PARTS: [Part; 11] = [
    ("redirect", parts::click::redirect),
    ("redirect_head", parts::click::redirect_head),
    ("click_id_make", parts::click::make_id),
    ("click_id_verify", parts::click::verify_id),
    ("deep_link_check", parts::click::check_deep_link),
    ("event_write", parts::click::write_event),
    ("spool_append", parts::spool::append),
    ("spool_recovery_8_mib", parts::spool::recovery),
    ("catalog_lookup", parts::catalog::lookup),
    ("decide", parts::money::decide),
    ("ledger_post", parts::money::post),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["--names", ..] => PARTS.iter().for_each(|(name, _)| println!("{name}")),
        ["--times", name, times, ..] => repeat(name, times.parse().expect("a number of times")),
        ["--fill", directory] => parts::spool::fill(directory),
        _ => time(),
    }
}

/// For valgrind: the difference between two numbers of times is what one costs, without what came before.
fn repeat(wanted: &str, times: u64) {
    let (_, make) = PARTS.iter().find(|(name, _)| *name == wanted).expect("a name that --names says");
    let mut part = make(Size::Small);
    (0..times).for_each(|_| black_box(&mut part)());
    // Without an end in order: taking a spool down costs what the machine is busy with.
    std::process::exit(0);
}

fn time() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, make) in PARTS {
        // What a filter leaves out is not made: ten million links take a while.
        let mut part = None;
        criterion.bench_function(name, |bencher| bencher.iter(part.get_or_insert_with(|| make(Size::Full))));
    }
    criterion.final_summary();
}
