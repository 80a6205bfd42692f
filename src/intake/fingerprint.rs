//! What makes two reports the same report (contract I12): a hash per field over what was sent, by value and not by
//! spelling.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use super::json::Value;
use crate::time::TimeMs;

/// Fields of a conversion that are its content, in the contract's order. Order and type are its identity.
pub const CONVERSION: &[&str] = &[
    "click_id",
    "coupon_code",
    "visitor_id",
    "amount",
    "occurred_at",
    "customer_id",
    "new_customer",
    "discount",
    "checkout_started_at",
    "items",
    "extra",
];

/// Fields of a refund that are its content; its number is its identity.
pub const REFUND: &[&str] = &["order_id", "type", "reason", "items", "amount", "occurred_at"];

/// A hash of a field that was not sent, and of none that was.
const ABSENT: u64 = 0;

/// Not compared where one side left it to us.
const FILLED_IN: &str = "occurred_at";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    fields: &'static [&'static str],
    hashes: Vec<u64>,
}

impl Fingerprint {
    pub fn new(fields: &'static [&'static str]) -> Fingerprint {
        Fingerprint { fields, hashes: vec![ABSENT; fields.len()] }
    }

    /// Sets the hash of a field that was sent.
    pub fn set(&mut self, field: &str, value: &[u8]) {
        if let Some(at) = self.fields.iter().position(|known| *known == field) {
            self.hashes[at] = xxh3_64(value).max(ABSENT + 1);
        }
    }

    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Which fields differ from a stored report's hashes, in the contract's order. `None`: those were stored by a
    /// version with other fields, and nothing can be said.
    pub fn differing(&self, stored: &[u64]) -> Option<Vec<&'static str>> {
        if stored.len() != self.hashes.len() {
            return None;
        }
        let differs = |field: &str, mine: u64, theirs: u64| {
            mine != theirs && !(field == FILLED_IN && (mine == ABSENT || theirs == ABSENT))
        };
        let pairs = self.hashes.iter().zip(stored);
        let fields = self.fields.iter().zip(pairs);
        Some(
            fields
                .filter(|(field, (mine, theirs))| differs(field, **mine, **theirs))
                .map(|(field, _)| *field)
                .collect(),
        )
    }

    /// Appends what can be compared of it without the other side: all but the field that may be left to us.
    pub fn write_comparable(&self, out: &mut Vec<u8>) {
        let fields = self.fields.iter().zip(&self.hashes).filter(|(field, _)| **field != FILLED_IN);
        fields.for_each(|(_, hash)| out.extend_from_slice(&hash.to_be_bytes()));
    }

    /// One hash, 16 hex digits, for the exact check at consumption (contract M48): over all but what we may have filled
    /// in, which stands there as if it had not been sent. The event tells its time anyway, and whether it was sent.
    pub fn content_hash(&self) -> String {
        let compared = |(field, hash): (&&str, &u64)| if *field == FILLED_IN { ABSENT } else { *hash };
        let bytes: Vec<u8> = self.fields.iter().zip(&self.hashes).map(compared).flat_map(u64::to_be_bytes).collect();
        format!("{:016x}", xxh3_64(&bytes))
    }
}

/// Writes a value so that two values are equal exactly when their bytes are: keys sorted, numbers by value, absent and
/// `null` alike, times of our fields by instant.
pub fn write_canonical(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(text) => write_text(b'#', &canonical_number(text), out),
        Value::String(text) => write_text(b'"', text, out),
        Value::Array(values) => {
            out.push(b'[');
            values.iter().for_each(|value| write_canonical(value, out));
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().filter(|(_, value)| *value != Value::Null).collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            out.push(b'{');
            for (name, value) in sorted {
                write_text(b'"', name, out);
                match instant(name, value) {
                    Some(at) => write_text(b'@', &at.0.to_string(), out),
                    None => write_canonical(value, out),
                }
            }
            out.push(b'}');
        }
    }
}

fn instant(name: &str, value: &Value<'_>) -> Option<TimeMs> {
    match value {
        Value::String(text) if matches!(name, "occurred_at" | "checkout_started_at") => {
            TimeMs::parse_rfc3339(text).ok()
        }
        _ => None,
    }
}

/// The length in front keeps neighbours from running into each other.
fn write_text(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Digits without zeros at either end, and a power of ten: `1`, `1.0` and `10e-1` are all `1e0`.
fn canonical_number(text: &str) -> Cow<'_, str> {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Cow::Borrowed("0");
    }
    // An exponent beyond i64 is beyond every number that anything can hold: all such are one.
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let exponent = exponent.parse().unwrap_or(beyond);
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let power = exponent.saturating_add(trailing_zeros as i64).saturating_sub(fraction.len() as i64);
    Cow::Owned(format!("{sign}{significant}e{power}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::json;

    fn canonical(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_canonical(&json::parse(text.as_bytes()).unwrap(), &mut out);
        out
    }

    #[test]
    fn i12_numbers_by_value_keys_in_any_order_strings_exactly_times_by_instant() {
        let same = [
            ["1", "1.0"],
            ["1000", "1e3"],
            ["0.1", "1E-1"],
            ["0", "-0.0e99999999999999999999"],
            ["120", "12.0e+1"],
            [r#"{"a":1,"b":[2]}"#, r#" { "b" : [ 2.0 ] , "a" : 1 , "c" : null } "#],
            [r#"{"occurred_at":"2026-11-22T10:00:00+03:30"}"#, r#"{"occurred_at":"2026-11-22T06:30:00.000Z"}"#],
        ];
        for [a, b] in same {
            assert_eq!(canonical(a), canonical(b), "{a} {b}");
        }
        let different = [
            ["1", "10"],
            ["1", "-1"],
            ["12", "1.2"],
            ["9007199254740993", "9007199254740992"],
            ["1", "\"1\""],
            ["\"a\"", "\"a \""],
            [r#"{"x":"2026-11-22T10:00:00+03:30"}"#, r#"{"x":"2026-11-22T06:30:00Z"}"#],
            ["[1,2]", "[2,1]"],
            ["[[1],2]", "[[1,2]]"],
            [r#"{"a":"bc"}"#, r#"{"ab":"c"}"#],
        ];
        for [a, b] in different {
            assert_ne!(canonical(a), canonical(b), "{a} {b}");
        }
    }

    #[test]
    fn i12_what_we_filled_in_is_not_compared_and_the_rest_is() {
        let mut first = Fingerprint::new(CONVERSION);
        first.set("amount", b"1");
        let mut second = first.clone();
        second.set("occurred_at", b"t");
        assert_eq!(second.differing(first.hashes()), Some(vec![]));
        assert_eq!(first.differing(second.hashes()), Some(vec![]));
        assert_eq!(first.content_hash(), second.content_hash());
        second.set("items", b"i");
        second.set("amount", b"2");
        assert_eq!(second.differing(first.hashes()), Some(vec!["amount", "items"]));
        assert_ne!(first.content_hash(), second.content_hash());
        assert_eq!(first.differing(&[1]), None);
    }
}
