//! The explanation as it grows, and how numbers and times are written in it. Publishers and merchants read this text.

use super::decision::Step;
use super::facts::Touch;
use super::touches::Merged;
use crate::click::{LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH};
use crate::money::{MILLIONTHS_PER_UNIT, Millionths};

#[derive(Default)]
pub struct Trace {
    pub steps: Vec<Step>,
}

impl Trace {
    /// A rule that judges no candidate.
    pub fn say(&mut self, rule: &str, why: impl Into<String>) {
        self.steps.push(Step { rule: rule.into(), click_id: None, publisher_id: None, kept: None, why: why.into() });
    }

    /// What a rule did with one touch.
    pub fn judge(&mut self, rule: &str, touch: Touch, kept: bool, why: impl Into<String>) {
        self.steps.push(Step {
            rule: rule.into(),
            click_id: Some(touch.0),
            publisher_id: Some(touch.publisher_id()),
            kept: Some(kept),
            why: why.into(),
        });
    }
}

/// "Publisher 34's click on offer 12 at 2026-11-22T06:30:00.000Z (navigated, the report's own click ID)".
pub fn describe(touch: &Merged) -> String {
    let mut remarks = vec![if touch.navigated { "navigated" } else { "not navigated" }.to_owned()];
    let labels = [(LABEL_NON_NAVIGATION, "non_navigation"), (LABEL_PREFETCH, "prefetch"), (LABEL_BOT, "bot")];
    remarks.extend(labels.iter().filter(|(bit, _)| touch.labels & bit != 0).map(|(_, name)| format!("label {name}")));
    if touch.clicks > 1 {
        remarks.push(format!("the first of {} clicks that count as one", touch.clicks));
    }
    if touch.own {
        remarks.push("the report's own click ID".into());
    }
    format!("{} ({})", short(touch.first), remarks.join(", "))
}

pub fn short(touch: Touch) -> String {
    format!("Publisher {}'s click on offer {} at {}", touch.publisher_id(), touch.offer_id(), touch.clicked_at())
}

/// 1250000 as "1,250,000".
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Millionths of a minor unit as a decimal: 12480000 is "12.48".
pub fn exact(millionths: Millionths) -> String {
    let decimals = format!("{:06}", (millionths % MILLIONTHS_PER_UNIT).unsigned_abs());
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    format!("{}{point}{decimals}", grouped(millionths / MILLIONTHS_PER_UNIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_250_000, "1,250,000"), (-1_000, "-1,000")] {
            assert_eq!(grouped(number), text);
        }
        for (millionths, text) in [(12_480_000, "12.48"), (98_000_000, "98"), (1, "0.000001")] {
            assert_eq!(exact(millionths), text);
        }
    }
}
