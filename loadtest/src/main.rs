//! Load with the books checked: `run` one scenario, `bench` Afflux beside its peers, `report` and `compare` what they wrote.

mod bench;
mod compare;
mod figures;
mod machine;
mod outcome;
mod report;
#[cfg(test)]
mod samples;
mod targets;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, version)]
enum Command {
    /// Afflux beside what people run today, in the same rounds: 1 when the books of one are wrong.
    Bench(bench::Arguments),
    /// Outcomes as one HTML file that loads nothing.
    Report(report::Arguments),
    /// Which figures became worse by more than their noise: 1 when there are some, 2 when that cannot be said.
    Compare(compare::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(2)
    })
}
