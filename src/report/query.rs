//! The question of a performance report, read from the query of its URL (contract I42, I47).

use jiff::tz::TimeZone;

use crate::time::TimeMs;

/// What rows can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKey {
    Day,
    Hour,
    Merchant,
    Offer,
    Publisher,
    Link,
    Source,
    Type,
    CouponCode,
    Sub1,
    Currency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Inclusive.
    pub from: TimeMs,
    /// Exclusive.
    pub to: TimeMs,
    /// Each once, in the order asked for.
    pub group_by: Vec<GroupKey>,
    pub format: Format,
}

/// A parameter that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub parameter: &'static str,
    pub detail: String,
}

const GROUP_KEYS: [(GroupKey, &str); 11] = [
    (GroupKey::Day, "day"),
    (GroupKey::Hour, "hour"),
    (GroupKey::Merchant, "merchant"),
    (GroupKey::Offer, "offer"),
    (GroupKey::Publisher, "publisher"),
    (GroupKey::Link, "link"),
    (GroupKey::Source, "source"),
    (GroupKey::Type, "type"),
    (GroupKey::CouponCode, "coupon_code"),
    (GroupKey::Sub1, "sub1"),
    (GroupKey::Currency, "currency"),
];

impl GroupKey {
    pub fn name(self) -> &'static str {
        GROUP_KEYS.iter().find(|(key, _)| *key == self).map_or("", |(_, name)| name)
    }

    fn named(text: &str) -> Option<GroupKey> {
        GROUP_KEYS.iter().find(|(_, name)| *name == text).map(|(key, _)| *key)
    }
}

impl Question {
    /// Reads the decoded pairs of a query; days begin in `zone`. All that is wrong comes at once.
    pub fn read(pairs: &[(String, String)], zone: &TimeZone) -> Result<Question, Vec<Wrong>> {
        let value = |name: &str| {
            let named = pairs.iter().find(|(key, value)| key == name && !value.is_empty());
            named.map(|(_, value)| value.as_str())
        };
        let mut wrong = Vec::new();
        let mut time = |parameter, text: Option<&str>| {
            let found = text.ok_or_else(|| "is missing: a date or an RFC 3339 time".to_owned());
            match found.and_then(|text| read_time(text, zone)) {
                Ok(time) => Some(time),
                Err(detail) => {
                    wrong.push(Wrong { parameter, detail });
                    None
                }
            }
        };
        let (from, to) = (time("from", value("from")), time("to", value("to")));
        if matches!((from, to), (Some(from), Some(to)) if from > to) {
            wrong.push(Wrong { parameter: "from", detail: "is after `to`".into() });
        }
        let group_by = read_group_by(value("group_by").unwrap_or_default()).map_err(|error| wrong.push(error));
        let format = match value("format") {
            None | Some("json") => Some(Format::Json),
            Some("csv") => Some(Format::Csv),
            Some(_) => {
                wrong.push(Wrong { parameter: "format", detail: "is `json` or `csv`".into() });
                None
            }
        };
        match (from, to, group_by, format) {
            (Some(from), Some(to), Ok(group_by), Some(format)) if wrong.is_empty() => {
                Ok(Question { from, to, group_by, format })
            }
            _ => Err(wrong),
        }
    }
}

fn read_group_by(text: &str) -> Result<Vec<GroupKey>, Wrong> {
    let mut keys = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(key) = GroupKey::named(name) else {
            let known: Vec<&str> = GROUP_KEYS.iter().map(|(_, name)| *name).collect();
            let detail = format!("is a list of {}, separated by commas", known.join(" "));
            return Err(Wrong { parameter: "group_by", detail });
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// A date is the start of its day in the zone.
fn read_time(text: &str, zone: &TimeZone) -> Result<TimeMs, String> {
    // An offset's `+` that was not encoded arrives as a space.
    let text = text.replace(' ', "+");
    if let Ok(time) = TimeMs::parse_rfc3339(&text) {
        return Ok(time);
    }
    let wrong = || "is a date like 2026-11-22 or an RFC 3339 time with an offset".to_owned();
    let is_date = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date: jiff::civil::Date = if is_date { text.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let start = date.to_zoned(zone.clone()).map_err(|_| wrong())?;
    Ok(TimeMs(start.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<Question, Vec<&'static str>> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let zone = TimeZone::get("Asia/Tehran").unwrap();
        Question::read(&pairs, &zone).map_err(|wrong| wrong.into_iter().map(|wrong| wrong.parameter).collect())
    }

    #[test]
    fn i42_dates_begin_in_the_zone_and_times_are_as_they_are() {
        let question =
            read(&[("from", "2026-11-22"), ("to", "2026-11-22T00:00:00 03:30"), ("group_by", "day, publisher,day")]);
        let question = question.unwrap();
        assert_eq!(question.from, TimeMs::parse_rfc3339("2026-11-21T20:30:00Z").unwrap());
        assert_eq!(question.from, question.to);
        assert_eq!(question.group_by, [GroupKey::Day, GroupKey::Publisher]);
        assert_eq!(question.format, Format::Json);
    }

    #[test]
    fn i47_every_wrong_parameter_is_named() {
        assert_eq!(read(&[]), Err(vec!["from", "to"]));
        assert_eq!(read(&[("from", "2026-11-22"), ("to", "")]), Err(vec!["to"]));
        assert_eq!(read(&[("from", "2026-11-23"), ("to", "2026-11-22")]), Err(vec!["from"]));
        let rest = [("from", "yesterday"), ("to", "2026-02-30"), ("group_by", "colour"), ("format", "xml")];
        assert_eq!(read(&rest), Err(vec!["from", "to", "group_by", "format"]));
        for text in ["2026-11-22T10:00:00", "22.11.2026", "1795341600000", "+999999-01-01"] {
            assert_eq!(read(&[("from", text), ("to", "2026-11-22")]), Err(vec!["from"]), "{text}");
        }
    }
}
