//! Figures of what comes behind a click: attribution, delay, time to ready, recovery.
//!
//! `make bench` runs it. What a click costs, beside what people run today, `loadtest/src/bench` measures.

#[path = "../tests/rig/mod.rs"]
mod rig;

mod figures {
    pub mod attribution;
    #[allow(dead_code, reason = "the bench of clusters uses the rest")]
    pub mod process;
    pub mod start;
}

fn main() {
    // `cargo bench` passes `--bench`; a name after it runs that part alone.
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    if wanted("attribution") {
        figures::attribution::run();
    }
    if wanted("start") {
        figures::start::run();
    }
}
