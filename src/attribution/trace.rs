//! The explanation as it grows, and how clicks are named in it. Publishers and merchants read this text.

use super::decision::Step;
use super::facts::Touch;
use super::touches::Merged;
use crate::click::{LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH};

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
