//! Load with the books checked: `run` one scenario, `bench` Afflux beside its peers, `report` and `compare` what they wrote.

mod agents;
mod asking;
mod bench;
mod books;
mod catalog;
mod click;
mod click_id;
mod clicked;
mod commission;
mod compare;
mod crowd;
mod expectation;
mod figures;
mod generator;
mod http1;
mod http2;
mod lane;
mod ledger;
mod machine;
mod market;
mod merchant;
mod observer;
mod orders;
mod outcome;
mod pacer;
mod place;
mod problems;
mod process;
mod queue;
mod random;
mod records;
mod report;
mod run;
#[cfg(test)]
mod samples;
mod scenario;
mod schedule;
mod server;
mod tally;
mod targets;
mod visit;
mod wire;
mod zipf;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, version)]
enum Command {
    /// One scenario, the books checked at its end: 1 when they are wrong or something was not as expected.
    Run(run::Arguments),
    /// Afflux beside what people run today, in the same rounds: 1 when the books of one are wrong.
    Bench(bench::Arguments),
    /// Outcomes as one HTML file that loads nothing.
    Report(report::Arguments),
    /// Which figures became worse by more than their noise: 1 when there are some, 2 when that cannot be said.
    Compare(compare::Arguments),
}

/// What cannot be said at all, and 1 says something.
const UNSAID: u8 = 2;
/// Bad usage, as the server has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Run(arguments) => run::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(if error.is::<scenario::Unusable>() { USAGE } else { UNSAID })
    })
}
