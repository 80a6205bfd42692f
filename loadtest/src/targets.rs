//! What Afflux is to cost beside others, and whether it did: ratios of one and the same round.

use crate::figures::{CPU, Spread};
use crate::outcome::{Outcome, Round};

pub const BARE: &str = "nginx return 302";
pub const RECORDS_FIRST: &str = "nginx + Lua, record first";

pub struct Target {
    pub subject: &'static str,
    pub against: &'static str,
    pub load: &'static str,
    pub at_most: f64,
}

const OURS: &str = "Afflux, process";

pub const TARGETS: [Target; 4] = [
    Target { subject: OURS, against: BARE, load: "keep-alive", at_most: 1.0 },
    Target { subject: OURS, against: RECORDS_FIRST, load: "keep-alive", at_most: 0.65 },
    Target { subject: OURS, against: BARE, load: "new connection", at_most: 0.9 },
    Target { subject: OURS, against: BARE, load: "new TLS connection", at_most: 0.55 },
];

impl Target {
    /// None where one of both was not measured.
    pub fn ratio(&self, outcome: &Outcome) -> Option<Spread> {
        Spread::of(&ratios(outcome, self.subject, self.against, self.load))
    }

    /// A round in which something else ran is no reason to call it missed, so the lower quartile decides.
    pub fn is_met(&self, ratio: Spread) -> bool {
        ratio.lower <= self.at_most
    }
}

/// CPU per click of one by that of the other, each with the same round's.
pub fn ratios(outcome: &Outcome, subject: &str, against: &str, load: &str) -> Vec<f64> {
    let (Some(own), Some(other)) = (outcome.subject(subject), outcome.subject(against)) else { return Vec::new() };
    let pairs = own.rounds_of(load).into_iter().zip(other.rounds_of(load));
    let cpu = |round: &Round| (CPU.of_round)(round).filter(|cpu| *cpu > 0.0);
    pairs.filter_map(|(own, other)| Some(cpu(own)? / cpu(other)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_ratio_is_of_one_round_and_its_lower_quartile_decides() {
        let bare = samples::subject(BARE, "keep-alive", &[10.0, 20.0, 10.0, 40.0, 10.0]);
        let ours = samples::subject(OURS, "keep-alive", &[9.0, 20.0, 10.0, 44.0, 12.0]);
        let outcome = samples::outcome(vec![bare, ours]);
        assert_eq!(ratios(&outcome, OURS, BARE, "keep-alive"), [0.9, 1.0, 1.0, 1.1, 1.2]);
        let ratio = TARGETS[0].ratio(&outcome).unwrap();
        assert_eq!((ratio.lower, ratio.median), (1.0, 1.0));
        assert!(TARGETS[0].is_met(ratio));
        assert!(!Target { at_most: 0.99, ..TARGETS[0] }.is_met(ratio));
        assert!(TARGETS[1].ratio(&outcome).is_none(), "nobody measured nginx + Lua");
    }
}
