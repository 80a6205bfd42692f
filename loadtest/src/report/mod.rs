//! Outcomes as one HTML file: pictures first, then the numbers, then where they are from.
//!
//! It loads nothing: style and pictures stand in it, and there is no script.

mod bars;
mod lines;
mod pictures;
mod scale;
mod tables;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use text::{escape, thousands};

use crate::outcome::Outcome;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What `run` and `bench` wrote
    #[arg(required = true)]
    outcomes: Vec<PathBuf>,
    /// The page
    #[arg(long)]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let outcomes = arguments.outcomes.iter().map(|file| Outcome::read(file)).collect::<Result<Vec<_>>>()?;
    std::fs::write(&arguments.out, page(&outcomes)).with_context(|| format!("{}", arguments.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

const STYLE: &str = include_str!("style.css");

pub fn page(outcomes: &[Outcome]) -> String {
    let titles: Vec<String> = outcomes.iter().map(|outcome| escape(&outcome.title)).collect();
    let sections: String = outcomes.iter().map(section).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>Afflux: {}</title>\n<style>\n{STYLE}</style></head>\n<body><h1>Afflux under load</h1>\n{sections}</body></html>\n",
        titles.join(", ")
    )
}

fn section(outcome: &Outcome) -> String {
    let machine = &outcome.machine;
    let courses: String = outcome
        .subjects
        .iter()
        .map(|subject| (subject, pictures::over_time(subject)))
        .filter(|(_, course)| !course.is_empty())
        .map(|(subject, course)| format!("<h3>{}</h3>\n{course}", escape(&subject.name)))
        .collect();
    format!(
        "<section><h2>{}</h2>\n<p class=\"faint\">{}, commit {}</p>\n{}{}{courses}{}{}{}{}\
         <h3>Where this is from</h3><p>{} with {} cores, {} MiB of memory, Linux {}, {}.</p><p><code>{}</code></p></section>\n",
        escape(&outcome.title),
        escape(&outcome.began),
        escape(&outcome.commit),
        tables::alarms(outcome),
        pictures::beside_each_other(outcome),
        tables::targets(outcome),
        tables::recorded(outcome),
        tables::books(outcome),
        tables::rounds(outcome),
        escape(&machine.processor),
        machine.cores,
        thousands((machine.memory_kib / 1024) as i64),
        escape(&machine.kernel),
        escape(&machine.file_system),
        escape(&outcome.command),
    )
}

#[cfg(test)]
mod tests;
