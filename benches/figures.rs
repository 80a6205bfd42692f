//! First figures, beside what people run today: CPU per click, time to ready, recovery, attribution, delay.
//!
//! `make bench` runs it. Server on core 0, load (wrk) on core 1, rounds interleaved and rotated, every round printed,
//! and the books checked: what wrk saw answered is what the spool holds.

#[path = "../tests/rig/mod.rs"]
mod rig;

mod figures {
    pub mod attribution;
    pub mod click;
    pub mod process;
    pub mod start;
}

fn main() {
    // `cargo bench` passes `--bench`; a name after it runs that part alone.
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    if wanted("click") {
        figures::click::run();
    }
    if wanted("attribution") {
        figures::attribution::run();
    }
    if wanted("start") {
        figures::start::run();
    }
}
