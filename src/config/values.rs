//! Values that are more than text: parsed once, where they enter.

use toml::de::DeValue;

use crate::toml_reader::FromToml;

/// An IANA time zone, `UTC` or `Asia/Tehran`.
#[derive(Clone, Debug)]
pub struct TimeZone(pub jiff::tz::TimeZone);

impl FromToml for TimeZone {
    fn from_toml(value: &DeValue<'_>) -> Result<TimeZone, String> {
        let name = String::from_toml(value)?;
        let zone = jiff::tz::TimeZone::get(&name);
        zone.map(TimeZone).map_err(|_| format!("{name:?} is no IANA time zone, as \"UTC\" or \"Asia/Tehran\""))
    }
}

/// An absolute http or https URL, as WHATWG writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackUrl(pub String);

impl FromToml for FallbackUrl {
    fn from_toml(value: &DeValue<'_>) -> Result<FallbackUrl, String> {
        let text = String::from_toml(value)?;
        match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(FallbackUrl(url.into())),
            _ => Err(format!("{text:?} is no page, an absolute http or https URL is allowed")),
        }
    }
}

/// A value of the header Referrer-Policy (W3C Referrer Policy, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerPolicy(pub &'static str);

const POLICIES: [&str; 8] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

impl FromToml for ReferrerPolicy {
    fn from_toml(value: &DeValue<'_>) -> Result<ReferrerPolicy, String> {
        let text = String::from_toml(value)?;
        let known = POLICIES.iter().find(|policy| **policy == text);
        known.map(|policy| ReferrerPolicy(policy)).ok_or_else(|| format!("{text:?}, allowed: {}", POLICIES.join(", ")))
    }
}
