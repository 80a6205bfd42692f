//! What a run says: `run` and `bench` write it as JSON, `report` draws it, `compare` reads two of them.

use serde::{Deserialize, Serialize};

/// One file: a scenario against one server, or rounds of one load against several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name, or `bench`.
    pub title: String,
    /// RFC 3339, UTC.
    pub began: String,
    pub command: String,
    pub commit: String,
    pub machine: Machine,
    pub subjects: Vec<Subject>,
}

/// Where it ran: figures are worth nothing without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: u32,
    pub memory_kib: u64,
    pub kernel: String,
    /// The file system that the server writes to, as `findmnt` names it.
    pub file_system: String,
}

/// One server with one setting: `Afflux, process`, `nginx return 302`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub name: String,
    /// Of a peer, in a few words: is the click recorded before its answer?
    pub recorded_first: Option<String>,
    /// Answered clicks that were missing after kill -9, of how many, where it was tried.
    pub missing_after_kill: Option<(u64, u64)>,
    pub rounds: Vec<Round>,
}

/// One load for some seconds; several loads of one subject are told apart by `load`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// `keep-alive`, `new connection`, `TLS keep-alive`, …, or the scenario's stage.
    pub load: String,
    /// Arrivals a second as planned; none in a closed loop, which only finds the peak.
    pub planned_rate: Option<f64>,
    pub seconds: f64,
    /// 302 and read to the end.
    pub answered: u64,
    /// Told so: 503, 429.
    pub refused: u64,
    /// Anything else, and connections that broke.
    pub failed: u64,
    /// Microseconds from the planned start to the end of the answer: value and count, values rising.
    pub latency: Vec<(u64, u64)>,
    /// One entry a second.
    pub timeline: Vec<Second>,
    /// Of all threads of the server that answer (utime + stime), microseconds by clicks answered.
    pub cpu_micros_per_click: Option<f64>,
    /// The same of the whole process, where that is more.
    pub process_cpu_micros_per_click: Option<f64>,
    /// The largest seen, anonymous memory of the server.
    pub memory_kib: Option<u64>,
    /// How busy the generator's threads were, 0 to 1; from 0.9 on, or when it sent late, its figures are not the server's.
    pub generator_busy: f64,
    /// Arrivals that the generator itself sent over a millisecond late.
    pub sent_late: u64,
    pub books: Option<Books>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub at: u64,
    pub answered: u64,
    pub failed: u64,
    pub p50_micros: u64,
    pub p99_micros: u64,
    pub worst_micros: u64,
    /// Cores in use by the server.
    pub cpu: f64,
    pub memory_kib: u64,
}

/// What the public interface says about a round, beside what the generator saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Books {
    pub answered: u64,
    pub recorded: u64,
    pub reported: u64,
    /// Money in minor units by currency: what an independent sum says, and what the report says.
    pub money: Vec<Money>,
    /// Lost or doubled clicks and sums that differ, by name; empty when the books are right.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Money {
    pub currency: String,
    pub expected: i64,
    pub reported: i64,
}
