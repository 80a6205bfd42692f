//! What must hold when things break: real kill -9, real power cuts, real full and failing disks.
//!
//! `cargo test --test faults` runs the short form; `AFFLUX_FAULTS=long` as many rounds as the promises ask for.
//! Power cuts and full disks need root (loop mounts, tmpfs) and fail loudly without it.

#[path = "../rig/mod.rs"]
mod rig;

mod crowd;
mod disk_faults;
mod kill9;
mod mounts;
mod power_cut;
mod spool_faults;

/// Rounds of a test: a few in the short form, `long` in the long one.
fn rounds(short: u32, long: u32) -> u32 {
    if std::env::var("AFFLUX_FAULTS").as_deref() == Ok("long") { long } else { short }
}

/// One fault at a time: they load both cores, and the rounds of one must not slow the other's.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
