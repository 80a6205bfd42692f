//! The comparison as it stands in docs/benchmarks.md, between two marks.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::figures::{CPU, Figure, MEMORY, RATE, Spread};
use crate::outcome::{Outcome, Round, Subject};
use crate::targets::{BARE, RECORDS_FIRST, TARGETS, ratios};

const BEGIN: &str = "<!-- make bench writes from here -->";
const END: &str = "<!-- to here -->";

/// Puts the table between the marks of a file.
pub fn write_into(file: &Path, outcome: &Outcome) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let changed = between_marks(&text, &markdown(outcome)).with_context(|| format!("{}", file.display()))?;
    std::fs::write(file, changed)?;
    Ok(())
}

fn between_marks(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END} behind {BEGIN}"))?;
    ensure!(!after.contains(BEGIN), "{BEGIN} stands there twice");
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

pub fn markdown(outcome: &Outcome) -> String {
    let machine = &outcome.machine;
    // Writing to a String cannot fail, here and below.
    let mut text = String::new();
    let _ = writeln!(
        text,
        "`{}` at commit `{}`, {}: {} with {} cores, Linux {}, {}. Medians; ratios are of CPU in the same round, lower \
         quartile .. median of the rounds.\n",
        outcome.command,
        outcome.commit,
        outcome.began,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.file_system
    );
    for load in outcome.loads() {
        text.push_str(&load_table(outcome, load));
    }
    text.push_str(&records_table(outcome));
    text.push_str(&targets_table(outcome));
    text.push_str(&rounds_list(outcome));
    text
}

fn load_table(outcome: &Outcome, load: &str) -> String {
    let mut text = format!(
        "| {load} | CPU, µs a click | of {BARE} | of {RECORDS_FIRST} | clicks/s | anonymous memory, MiB |\n|---|---|---|---|---|---|\n"
    );
    for subject in outcome.subjects.iter().filter(|subject| !subject.rounds_of(load).is_empty()) {
        let rounds = subject.rounds_of(load);
        let ratio = |against| ratio(&ratios(outcome, &subject.name, against, load));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            subject.name,
            cpu(&rounds),
            ratio(BARE),
            ratio(RECORDS_FIRST),
            median(&RATE, &rounds, 0),
            median(&MEMORY, &rounds, 1)
        );
    }
    text.push('\n');
    text
}

/// Of the threads that answer, and of the whole process where that is more.
fn cpu(rounds: &[&Round]) -> String {
    let whole: Vec<f64> = rounds.iter().filter_map(|round| round.process_cpu_micros_per_click).collect();
    let answering = median(&CPU, rounds, 2);
    Spread::of(&whole).map_or(answering.clone(), |whole| format!("{answering} (whole process {:.2})", whole.median))
}

fn median(figure: &Figure, rounds: &[&Round], digits: usize) -> String {
    Spread::of(&figure.of_rounds(rounds)).map_or_else(String::new, |spread| format!("{:.digits$}", spread.median))
}

fn ratio(ratios: &[f64]) -> String {
    Spread::of(ratios).map_or_else(String::new, |spread| format!("{:.2} .. {:.2}", spread.lower, spread.median))
}

fn records_table(outcome: &Outcome) -> String {
    let mut text = String::from(
        "| | recorded before the answer? | answered clicks missing after kill -9 under load |\n|---|---|---|\n",
    );
    for Subject { name, recorded_first, missing_after_kill, .. } in &outcome.subjects {
        let missing = missing_after_kill.map_or("all".to_owned(), |(missing, of)| format!("{missing} of {of}"));
        let _ = writeln!(text, "| {name} | {} | {missing} |", recorded_first.as_deref().unwrap_or_default());
    }
    text.push('\n');
    text
}

fn targets_table(outcome: &Outcome) -> String {
    let mut text =
        String::from("| target: CPU per click | at most | lower quartile .. median | |\n|---|---|---|---|\n");
    for target in &TARGETS {
        let measured = target.ratio(outcome);
        let verdict = measured.map_or("not measured", |ratio| if target.is_met(ratio) { "met" } else { "**missed**" });
        let ratio = measured.map_or_else(String::new, |ratio| format!("{:.2} .. {:.2}", ratio.lower, ratio.median));
        let _ = writeln!(
            text,
            "| {} of {}, {} | {} | {ratio} | {verdict} |",
            target.subject, target.against, target.load, target.at_most
        );
    }
    text.push('\n');
    text
}

/// A median without its rounds hides how far they lie apart.
fn rounds_list(outcome: &Outcome) -> String {
    let mut text = String::from("Every round, CPU µs a click:\n\n");
    for subject in &outcome.subjects {
        for load in outcome.loads() {
            let rounds = CPU.of_rounds(&subject.rounds_of(load));
            if !rounds.is_empty() {
                let rounds: Vec<String> = rounds.iter().map(|cpu| format!("{cpu:.2}")).collect();
                let _ = writeln!(text, "- {}, {load}: {}", subject.name, rounds.join(" "));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_table_says_every_round_and_what_was_met() {
        let mut bare = samples::subject(BARE, "keep-alive", &[10.0, 10.0, 10.0]);
        bare.recorded_first = Some("nothing is recorded".into());
        let mut ours = samples::subject("Afflux, process", "keep-alive", &[9.0, 9.5, 12.0]);
        ours.missing_after_kill = Some((0, 20_000));
        ours.rounds.iter_mut().for_each(|round| round.process_cpu_micros_per_click = Some(14.0));
        let text = markdown(&samples::outcome(vec![bare, ours]));
        for line in [
            "| Afflux, process | 9.50 (whole process 14.00) | 0.93 .. 0.95 |  | 1000 | 4.0 |",
            "| nginx return 302 | nothing is recorded | all |",
            "| Afflux, process |  | 0 of 20000 |",
            "| Afflux, process of nginx return 302, keep-alive | 1 | 0.93 .. 0.95 | met |",
            "| Afflux, process of nginx + Lua, record first, keep-alive | 0.65 |  | not measured |",
            "- Afflux, process, keep-alive: 9.00 9.50 12.00",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let changed = between_marks(&text, "new").unwrap();
        assert_eq!(changed, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(between_marks(&changed, "new").unwrap(), changed);
        assert!(between_marks("no marks", "new").is_err());
        assert!(between_marks(&format!("{END}\n{BEGIN}"), "new").is_err());
    }

    #[test]
    fn the_page_of_figures_has_the_marks() {
        let page = include_str!("../../../docs/benchmarks.md");
        assert!(between_marks(page, "new").is_ok());
    }
}
