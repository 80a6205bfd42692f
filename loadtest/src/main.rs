//! Load with the books checked: `run` one scenario, `bench` Afflux beside its peers, `report` and `compare` what they wrote.

mod agents;
mod asking;
mod books;
mod catalog;
mod click;
mod click_id;
mod clicked;
mod commission;
mod crowd;
mod expectation;
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
mod run;
mod scenario;
mod schedule;
mod server;
mod tally;
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
}

/// Bad usage, as the server has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Run(arguments) => run::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        if error.is::<scenario::Unusable>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}
