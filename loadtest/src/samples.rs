//! Outcomes that tests make up.

use crate::outcome::{Machine, Outcome, Round, Second, Subject};

pub fn outcome(subjects: Vec<Subject>) -> Outcome {
    Outcome {
        title: "bench".into(),
        began: "2026-12-01T05:00:00Z".into(),
        command: "afflux-loadtest bench".into(),
        commit: "0123456".into(),
        machine: Machine {
            processor: "a processor".into(),
            cores: 2,
            memory_kib: 8 << 20,
            kernel: "6.1".into(),
            file_system: "ext4".into(),
        },
        subjects,
    }
}

/// A round for each of these CPU microseconds per click.
pub fn subject(name: &str, load: &str, cpu: &[f64]) -> Subject {
    Subject {
        name: name.into(),
        recorded_first: None,
        missing_after_kill: None,
        rounds: cpu.iter().map(|cpu| round(load, *cpu)).collect(),
    }
}

pub fn round(load: &str, cpu: f64) -> Round {
    Round {
        load: load.into(),
        planned_rate: None,
        seconds: 3.0,
        answered: 3_000,
        refused: 0,
        failed: 0,
        latency: vec![(100, 2_900), (2_000, 99), (9_000, 1)],
        timeline: Vec::new(),
        cpu_micros_per_click: Some(cpu),
        process_cpu_micros_per_click: None,
        memory_kib: Some(4_096),
        generator_busy: 0.5,
        sent_late: 0,
        books: None,
    }
}

pub fn second(at: u64, p99_micros: u64) -> Second {
    Second {
        at,
        answered: 1_000,
        failed: 0,
        p50_micros: 100,
        p99_micros,
        worst_micros: 9_000,
        cpu: 0.25,
        memory_kib: 4_096,
    }
}
