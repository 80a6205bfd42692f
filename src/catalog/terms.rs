//! The dated terms of an offer, with inheritance (contract M14, P23).

use std::collections::BTreeMap;

pub use super::rulebook::Terms;
use super::rulebook::{Model, RateBasis};
use crate::money::Rate;
use crate::time::TimeMs;
use crate::toml_reader::{Choice, FromToml, Int, Section, kind};

/// Longer windows and holds than ten years are a slip of the pen.
type Days = Int<0, 3_650>;

/// Reads entries in their order; each inherits from the one above.
pub fn read(sections: Vec<Section<'_>>) -> Vec<Terms> {
    let mut all: Vec<Terms> = Vec::with_capacity(sections.len());
    for section in sections {
        let above = all.last();
        let terms = entry(&section, above);
        if let (Some(above), Some(terms)) = (above, &terms)
            && terms.from <= above.from
        {
            let message = "not after the `from` of the entry above, ascending order without equals is allowed";
            section.violation("from", message);
        }
        section.finish();
        all.extend(terms);
    }
    all
}

fn entry(section: &Section<'_>, above: Option<&Terms>) -> Option<Terms> {
    let from = section.required::<TimeMs>("from");
    let until = section.optional::<TimeMs>("until");
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        section.violation("until", "not after `from`, a later time is allowed");
    }
    if above.is_none() {
        // What the first entry must say; a later one may inherit it.
        for key in ["window_days", "model", "default_rate"] {
            if !section.has(key) {
                section.violation(key, "missing, the first terms of an offer need it");
            }
        }
    }
    let rates = named_rates(section, "rates", "category");
    let conversion_rates = named_rates(section, "conversion_rates", "type");
    let terms = Terms {
        from: from.unwrap_or_default(),
        until,
        window_days: section.optional::<Days>("window_days").map(days).or(above.map(|t| t.window_days)).unwrap_or(0),
        model: section
            .optional::<Choice<Model>>("model")
            .map(|model| model.0)
            .or(above.map(|t| t.model))
            .unwrap_or(Model::LastClick),
        hold_days: section.optional::<Days>("hold_days").map(days).or(above.map(|t| t.hold_days)).unwrap_or(14),
        rate_basis: section
            .optional::<Choice<RateBasis>>("rate_basis")
            .map(|basis| basis.0)
            .or(above.map(|t| t.rate_basis))
            .unwrap_or_default(),
        default_rate: section.optional("default_rate").or(above.map(|t| t.default_rate)).unwrap_or(Rate::Fixed(0)),
        coupon_rate: section.optional("coupon_rate").or(above.and_then(|t| t.coupon_rate)),
        rates: rates.or(above.map(|t| t.rates.clone())).unwrap_or_default(),
        conversion_rates: conversion_rates.or(above.map(|t| t.conversion_rates.clone())).unwrap_or_default(),
    };
    from.map(|_| terms)
}

fn days(days: Days) -> u32 {
    days.0 as u32
}

/// `[{ category = "mobile", rate = "2%" }, …]`; `None` where the key is absent, so that it is inherited.
fn named_rates(section: &Section<'_>, list: &'static str, name: &'static str) -> Option<BTreeMap<String, Rate>> {
    let mut rates = BTreeMap::new();
    for entry in section.sections(list) {
        let key = entry.required::<String>(name);
        let rate = entry.required::<Rate>("rate");
        if let Some(key) = &key {
            if name == "type" && !is_type(key) {
                entry.violation(name, format!("{key:?}, [a-z][a-z0-9_]{{0,31}} is allowed"));
            }
            if key.len() > 255 {
                entry.violation(name, "over 255 bytes, at most 255 are allowed");
            }
        }
        if let (Some(key), Some(rate)) = (key, rate)
            && rates.insert(key, rate).is_some()
        {
            entry.violation(name, "stands twice, once is allowed");
        }
        entry.finish();
    }
    section.has(list).then_some(rates)
}

/// A conversion type (contract I2).
pub fn is_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 32
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}

impl FromToml for TimeMs {
    fn from_toml(value: &toml::de::DeValue<'_>) -> Result<TimeMs, String> {
        let allowed = "a date and time with an offset is allowed, as 2026-01-01T00:00:00+03:30";
        let text = match value {
            toml::de::DeValue::Datetime(written) => written.to_string(),
            toml::de::DeValue::String(text) => text.to_string(),
            other => return Err(format!("{}, {allowed}", kind(other))),
        };
        TimeMs::parse_rfc3339(&text.replacen(' ', "T", 1)).map_err(|_| format!("{text}, {allowed}"))
    }
}

impl FromToml for Rate {
    fn from_toml(value: &toml::de::DeValue<'_>) -> Result<Rate, String> {
        let text = String::from_toml(value)?;
        Rate::parse(&text).map_err(|error| format!("{text:?}: {error}"))
    }
}
