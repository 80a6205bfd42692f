//! The load: wrk on the generator's core, which clicks as fast as it is answered (a closed loop).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::process::children_cpu_micros;
use super::{GENERATOR_CORE, LINKS};

pub const CONNECTIONS: u64 = 64;

const SCRIPT: &str = include_str!("wrk.lua");
const NEW_SESSIONS: &str = include_str!("new_sessions.c");

/// wrk with our script, and with a shim that lets it forget TLS sessions.
pub struct Wrk {
    script: PathBuf,
    new_sessions: PathBuf,
}

/// What it said.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub seconds: f64,
    pub answered: u64,
    /// With a status of 400 or above.
    pub errors: u64,
    /// Connections.
    pub broken: u64,
    pub latency: Vec<(u64, u64)>,
    /// How much of a core it used.
    pub busy: f64,
}

impl Wrk {
    pub fn prepare(home: &Path) -> Result<Wrk> {
        let (script, source) = (home.join("wrk.lua"), home.join("new_sessions.c"));
        let new_sessions = home.join("new_sessions.so");
        std::fs::write(&script, SCRIPT)?;
        std::fs::write(&source, NEW_SESSIONS)?;
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&new_sessions).arg(&source).arg("-ldl");
        let status = cc.status().context("cc")?;
        ensure!(status.success(), "cc: {status}");
        Ok(Wrk { script, new_sessions })
    }

    /// `closes`: every click on a connection of its own, with a whole handshake where it is TLS.
    pub fn load(&self, address: SocketAddr, tls: bool, closes: bool, time: Duration) -> Result<Said> {
        let url = format!("{}://{address}/", if tls { "https" } else { "http" });
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", &GENERATOR_CORE.to_string(), "wrk", "-t1", &format!("-c{CONNECTIONS}")]);
        wrk.arg(format!("-d{}s", time.as_secs())).arg("-s").arg(&self.script).arg(&url);
        wrk.args(["--", &LINKS.to_string(), if closes { "close" } else { "keep" }]);
        if tls && closes {
            wrk.env("LD_PRELOAD", &self.new_sessions);
        }
        let before = children_cpu_micros();
        let output = wrk.output().context("taskset and wrk")?;
        let cpu = children_cpu_micros() - before;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        said(&text, cpu).with_context(|| format!("wrk said something else: {text}"))
    }
}

fn said(text: &str, cpu_micros: u64) -> Option<Said> {
    let numbers = |line: &str| -> Option<Vec<u64>> { line.split(' ').map(|word| word.parse().ok()).collect() };
    let totals = numbers(text.lines().find_map(|line| line.strip_prefix("afflux-total "))?)?;
    let [requests, micros, errors, broken] = totals[..] else { return None };
    let latency = text.lines().filter_map(|line| line.strip_prefix("afflux-latency "));
    let latency = latency.map(|line| numbers(line).and_then(|pair| Some((*pair.first()?, *pair.get(1)?))));
    Some(Said {
        seconds: micros as f64 / 1e6,
        answered: requests.saturating_sub(errors),
        errors,
        broken,
        latency: coarse(latency.collect::<Option<Vec<_>>>()?),
        busy: if micros == 0 { 0.0 } else { cpu_micros as f64 / micros as f64 },
    })
}

/// Two digits of each value are enough to draw, and keep an outcome small. Rounded up, never to a better one.
fn coarse(latency: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut kept: Vec<(u64, u64)> = Vec::new();
    for (micros, count) in latency.into_iter().filter(|(_, count)| *count > 0) {
        let step = 10u64.pow(micros.checked_ilog10().unwrap_or(0).saturating_sub(1));
        let value = micros.div_ceil(step) * step;
        match kept.last_mut() {
            Some((last, total)) if *last == value => *total += count,
            _ => kept.push((value, count)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n\
                    afflux-total 1000 2000000 3 1\nafflux-latency 99 500\nafflux-latency 1512 497\nafflux-latency 1590 3\n";
        let expected = Said {
            seconds: 2.0,
            answered: 997,
            errors: 3,
            broken: 1,
            latency: vec![(99, 500), (1_600, 500)],
            busy: 0.5,
        };
        assert_eq!(said(text, 1_000_000), Some(expected));
        assert_eq!(said("unable to connect", 0), None);
    }

    #[test]
    fn latencies_keep_two_digits_and_their_counts() {
        let fine: Vec<(u64, u64)> = (0..20_000).map(|micros| (micros, 1)).collect();
        let coarse = coarse(fine);
        assert_eq!(coarse.iter().map(|(_, count)| count).sum::<u64>(), 20_000);
        assert!(coarse.len() < 400 && coarse.is_sorted_by(|a, b| a.0 < b.0), "{}", coarse.len());
    }
}
