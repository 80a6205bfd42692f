//! Afflux beside its peers: the same load on each, in the same rounds.
//!
//! The server has core 0 and wrk core 1. Servers run side by side and are idle while another is measured; who comes first
//! changes from round to round, so that whatever else the machine does falls on each alike.

mod afflux;
mod crash;
mod http;
mod peer;
mod process;
mod subject;
mod table;
mod wrk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::afflux::Afflux;
use self::peer::Peer;
use self::subject::{Homes, Kind, LOADS, Subject};
use self::wrk::Wrk;
use crate::machine;
use crate::outcome::Outcome;
use crate::report;

const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;

/// Short codes `l0` and on: the catalog of Afflux, the maps of peers and the load agree on them.
const LINKS: u64 = 1024;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How often each server has its turn; quartiles need nine
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long a load lasts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// This server alone, by the name of its directory, or afflux-process or afflux-disk; may be said several times
    #[arg(long)]
    only: Vec<String>,
    /// The program
    #[arg(long, default_value = "target/dist/afflux")]
    afflux: PathBuf,
    /// What it is measured beside
    #[arg(long, default_value = "loadtest/peers")]
    peers: PathBuf,
    /// Where outcome.json and report.html go, and what the servers write
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// A Markdown file with two marks: the table goes between them
    #[arg(long)]
    table: Option<PathBuf>,
}

/// 1 when the books of a round are wrong, or clicks are lost; everything is written all the same.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kinds = kinds(arguments)?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > GENERATOR_CORE, "two cores are needed, one for servers and one for the load; there are {cores}");
    let began = now()?;
    let homes = Homes::new(&arguments.out.join("run"))?;
    let subjects = measure(arguments, kinds, &homes)?;
    let outcome = Outcome {
        title: "bench".into(),
        began,
        command: std::env::args().map(short).collect::<Vec<_>>().join(" "),
        commit: machine::commit(),
        machine: machine::machine(homes.place()),
        subjects: subjects.into_iter().map(Subject::into_outcome).collect(),
    };
    write(arguments, &outcome)?;
    std::fs::remove_dir_all(homes.place())?;
    let problems = problems(&outcome);
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn problems(outcome: &Outcome) -> Vec<String> {
    let mut problems = Vec::new();
    for subject in &outcome.subjects {
        if let Some((missing, of)) = subject.missing_after_kill.filter(|_| subject.lost_after_kill() > 0) {
            problems.push(format!("{}: {missing} of {of} answered clicks are lost after kill -9", subject.name));
        }
        for round in &subject.rounds {
            let books = round.books.iter().flat_map(|books| &books.problems);
            problems.extend(books.map(|problem| format!("{}, {}: {problem}", subject.name, round.load)));
        }
    }
    problems
}

/// RFC 3339, UTC.
fn now() -> Result<String> {
    let output = std::process::Command::new("date").args(["-u", "+%FT%TZ"]).output().context("date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A path says more about the machine than about the figures.
fn short(word: String) -> String {
    match Path::new(&word).file_name() {
        Some(name) if word.starts_with('/') => name.to_string_lossy().into_owned(),
        _ => word,
    }
}

fn kinds(arguments: &Arguments) -> Result<Vec<Kind>> {
    let peers = Peer::all(&arguments.peers)?.into_iter().map(Kind::Peer);
    let all: Vec<Kind> = peers.chain(Afflux::all(&arguments.afflux).into_iter().map(Kind::Afflux)).collect();
    for key in &arguments.only {
        let known: Vec<&str> = all.iter().map(Kind::key).collect();
        ensure!(known.contains(&key.as_str()), "--only {key}: there are {}", known.join(", "));
    }
    let wanted = |kind: &Kind| arguments.only.is_empty() || arguments.only.iter().any(|key| key == kind.key());
    let kinds: Vec<Kind> = all.into_iter().filter(wanted).collect();
    for kind in &kinds {
        let Kind::Peer(peer) = kind else { continue };
        let missing = peer.missing_programs();
        ensure!(missing.is_empty(), "{} needs {}: scripts/install bench", peer.key, missing.join(", "));
    }
    Ok(kinds)
}

fn measure(arguments: &Arguments, kinds: Vec<Kind>, homes: &Homes) -> Result<Vec<Subject>> {
    let wrk = Wrk::prepare(homes.place())?;
    let started: Result<Vec<Subject>> = kinds.into_iter().map(|kind| Subject::start(kind, homes)).collect();
    let mut subjects = started?;
    for subject in &mut subjects {
        subject.warm_up(&wrk).with_context(|| format!("{}, warming up", subject.name()))?;
    }
    let (count, time) = (subjects.len(), Duration::from_secs(arguments.seconds));
    for round in 0..arguments.rounds as usize {
        println!("round {} of {}", round + 1, arguments.rounds);
        for place in 0..count {
            measure_all_loads(&mut subjects[(place + round) % count], &wrk, time)?;
        }
    }
    for subject in &mut subjects {
        subject.crash(homes).with_context(|| format!("{}, kill -9", subject.name()))?;
    }
    Ok(subjects)
}

fn measure_all_loads(subject: &mut Subject, wrk: &Wrk, time: Duration) -> Result<()> {
    for load in LOADS.into_iter().filter(|load| subject.speaks(*load)).collect::<Vec<_>>() {
        subject.measure(wrk, load, time)?;
        if let Some(round) = subject.rounds.last() {
            println!(
                "  {}, {}: {:.2} µs, {:.0} clicks/s",
                subject.name(),
                load.name,
                round.cpu_micros_per_click.unwrap_or_default(),
                round.answered as f64 / round.seconds
            );
        }
    }
    Ok(())
}

fn write(arguments: &Arguments, outcome: &Outcome) -> Result<()> {
    let json = arguments.out.join("outcome.json");
    std::fs::write(&json, serde_json::to_string(outcome)?)?;
    std::fs::write(arguments.out.join("report.html"), report::page(std::slice::from_ref(outcome)))?;
    println!("\n{}", table::markdown(outcome));
    if let Some(file) = &arguments.table {
        table::write_into(file, outcome)?;
    }
    println!("{}, and report.html beside it", json.display());
    Ok(())
}
