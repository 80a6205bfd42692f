//! Facts in, target out (contract M1-M51).

use super::{Decision, Facts, Settings};
use crate::catalog::Rulebook;

/// What a conversion earns and for whom. Total and deterministic: equal sets of facts give equal decisions.
pub fn decide(_facts: &Facts, _rulebook: &Rulebook, _settings: &Settings) -> Decision {
    unimplemented!()
}
