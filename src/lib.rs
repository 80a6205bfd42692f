//! Afflux: click tracking, attribution and settlement of an affiliate network.
//!
//! The modules stand in the order a click travels:
//!
//! ```text
//! visitor ── edge ──► 302            merchant ── intake ──► 202
//!             │ append (0 system calls)            │ append + fdatasync
//!             ▼                                    ▼
//!           spool   (one writer per log, checksummed, survives kill -9 and power cuts)
//!             │
//!             ▼
//!        attribution   facts in, target out, the difference is posted
//!             │
//!             ▼
//!           store      touches, facts, decisions, ledger, rollups, marks
//!             │
//!             ▼
//!           report     conversions, performance, explain, reconcile
//! ```
//!
//! Layers (held by `tests/it/tidy.rs`): *pure* modules know no I/O, clock or runtime;
//! *stores* know pure modules; *services* know stores; `role` wires them and nobody imports it.

// pure: values and rules
pub mod click;
pub mod event;
pub mod money;
pub mod time;

// doors: what visitors and merchants reach
pub mod api;
pub mod edge;
pub mod http;
pub mod intake;
pub mod tls;

// what the doors need
pub mod catalog;
pub mod kafka;
pub mod redis;
pub mod spool;

// from a click to money
pub mod attribution;
pub mod commission;
pub mod dedupe;
pub mod ledger;
pub mod rollup;
pub mod shipper;
pub mod touch;

// where it rests and how it is read, or forgotten
pub mod erasure;
pub mod report;
pub mod store;

// operation and wiring
pub mod admin;
pub mod clock;
pub mod config;
pub mod files;
pub mod handover;
pub mod lock;
pub mod metrics;
pub mod role;
pub mod supervisor;
pub mod toml_reader;

// for tests and fuzzing alone
#[cfg(any(test, fuzzing))]
pub mod probes;
