//! What stands behind the `?` (contract E6-E10): decoded once into a buffer that is kept from click to click.

use std::ops::Range;

/// Longest label, source, coupon or ad click ID, bytes of decoded UTF-8 (contract E10).
const VALUE_BYTES: usize = 255;

/// A parameter by its meaning; aliases are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    Offer,
    Publisher,
    DeepLink,
    Source,
    Coupon,
    Gclid,
    Fbclid,
    Ttclid,
    Msclkid,
    /// From 0: `sub1` is `Sub(0)`.
    Sub(u8),
}

const SUBS: usize = 10;
const PARAMETERS: usize = 9 + SUBS;

impl Parameter {
    fn index(self) -> usize {
        match self {
            Parameter::Offer => 0,
            Parameter::Publisher => 1,
            Parameter::DeepLink => 2,
            Parameter::Source => 3,
            Parameter::Coupon => 4,
            Parameter::Gclid => 5,
            Parameter::Fbclid => 6,
            Parameter::Ttclid => 7,
            Parameter::Msclkid => 8,
            Parameter::Sub(number) => 9 + usize::from(number),
        }
    }

    /// Names are case-sensitive.
    fn by_name(name: &[u8]) -> Option<Parameter> {
        Some(match name {
            b"offer_id" | b"oid" => Parameter::Offer,
            b"aff_id" | b"affid" | b"pid" => Parameter::Publisher,
            b"url" | b"deeplink" | b"ued" => Parameter::DeepLink,
            b"source" => Parameter::Source,
            b"coupon_code" => Parameter::Coupon,
            b"gclid" => Parameter::Gclid,
            b"fbclid" => Parameter::Fbclid,
            b"ttclid" => Parameter::Ttclid,
            b"msclkid" => Parameter::Msclkid,
            b"aff_sub" | b"subid" => Parameter::Sub(0),
            b"sub10" => Parameter::Sub(9),
            [b's', b'u', b'b', digit @ b'1'..=b'9'] => Parameter::Sub(digit - b'1'),
            [b'a', b'f', b'f', b'_', b's', b'u', b'b', digit @ b'1'..=b'5'] => Parameter::Sub(digit - b'1'),
            [b's', digit @ b'1'..=b'5'] => Parameter::Sub(digit - b'1'),
            _ => return None,
        })
    }

    /// The number is read and the deep link judged as a whole; all else is cut.
    fn is_cut(self) -> bool {
        !matches!(self, Parameter::Offer | Parameter::Publisher | Parameter::DeepLink)
    }
}

/// The parameters of one request, in a buffer of its own that the next request uses again.
#[derive(Default)]
pub struct Query {
    text: String,
    values: [Range<usize>; PARAMETERS],
    pub truncated: bool,
}

impl Query {
    /// Reads a query without its `?`: the first non-empty value of each parameter counts.
    pub fn read(&mut self, query: &str) {
        self.text.clear();
        self.values = Default::default();
        self.truncated = false;
        let mut name = Vec::new();
        for pair in query.as_bytes().split(|byte| *byte == b'&') {
            let (raw_name, raw_value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => continue,
            };
            let parameter = if raw_name.iter().any(|byte| matches!(byte, b'%' | b'+')) {
                name.clear();
                decode(raw_name, &mut name);
                Parameter::by_name(&name)
            } else {
                Parameter::by_name(raw_name)
            };
            let Some(parameter) = parameter.filter(|parameter| self.values[parameter.index()].is_empty()) else {
                continue;
            };
            self.keep(parameter, raw_value);
        }
    }

    pub fn value(&self, parameter: Parameter) -> &str {
        &self.text[self.values[parameter.index()].clone()]
    }

    pub fn sub(&self, number: u8) -> &str {
        self.value(Parameter::Sub(number))
    }

    /// `[0-9]{1,10}` up to 4,294,967,295 (contract E9).
    pub fn number(&self, parameter: Parameter) -> Option<u32> {
        let text = self.value(parameter);
        let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    }

    fn keep(&mut self, parameter: Parameter, raw: &[u8]) {
        let start = self.text.len();
        if raw.iter().all(|byte| byte.is_ascii() && !matches!(byte, b'%' | b'+')) {
            self.text.push_str(std::str::from_utf8(raw).unwrap_or_default());
        } else {
            let mut bytes = Vec::with_capacity(raw.len());
            decode(raw, &mut bytes);
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        if parameter.is_cut() {
            let kept = cut(&self.text[start..], VALUE_BYTES).len();
            self.truncated |= start + kept < self.text.len();
            self.text.truncate(start + kept);
        }
        self.values[parameter.index()] = start..self.text.len();
    }
}

/// The longest start of `text` with at most `bytes` bytes that ends at a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// `+` is a space, one round of percent-decoding, a bad `%` stays (contract E7).
fn decode(raw: &[u8], into: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let hex = |at: usize| raw.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (raw[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                into.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                into.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                into.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Query {
        let mut read = Query::default();
        read.read("sub1=left-over&url=x");
        read.read(query);
        read
    }

    #[test]
    fn e6_aliases_are_one_parameter() {
        let cases = [
            ("oid=1", Parameter::Offer),
            ("affid=1", Parameter::Publisher),
            ("pid=1", Parameter::Publisher),
            ("ued=1", Parameter::DeepLink),
            ("deeplink=1", Parameter::DeepLink),
            ("aff_sub=1", Parameter::Sub(0)),
            ("subid=1", Parameter::Sub(0)),
            ("aff_sub5=1", Parameter::Sub(4)),
            ("s3=1", Parameter::Sub(2)),
            ("sub10=1", Parameter::Sub(9)),
            ("msclkid=1", Parameter::Msclkid),
            ("coupon_code=1", Parameter::Coupon),
        ];
        for (query, parameter) in cases {
            assert_eq!(read(query).value(parameter), "1", "{query}");
        }
        for unknown in ["SUB1=1", "sub0=1", "sub11=1", "s6=1", "aff_sub6=1", "sub=1", "Url=1"] {
            let query = read(unknown);
            assert!(query.values.iter().all(Range::is_empty), "{unknown}");
        }
    }

    #[test]
    fn e7_decoding_is_one_round_and_never_fails() {
        assert_eq!(read("sub1=a+b%20c").sub(0), "a b c");
        assert_eq!(read("sub1=%2541").sub(0), "%41");
        assert_eq!(read("sub1=100%&sub2=%zz%4").sub(0), "100%");
        assert_eq!(read("sub1=100%&sub2=%zz%4").sub(1), "%zz%4");
        assert_eq!(read("sub1=%ff%d9%83").sub(0), "\u{fffd}\u{643}");
        assert_eq!(read("%73ub1=x").sub(0), "x");
    }

    #[test]
    fn e8_the_first_non_empty_counts() {
        assert_eq!(read("sub1=&aff_sub=a&sub1=b").sub(0), "a");
        assert_eq!(read("sub1&sub1=b").sub(0), "b");
        assert_eq!(read("unknown=1&sub1=b&&=x&").sub(0), "b");
        assert_eq!(read("").sub(0), "");
    }

    #[test]
    fn e9_numbers_are_ten_digits_at_most() {
        for (text, number) in [
            ("12", Some(12)),
            ("0000000012", Some(12)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("00000000012", None),
            ("-1", None),
            ("+1", None),
            ("1x", None),
            ("", None),
            ("%31", Some(1)),
        ] {
            assert_eq!(read(&format!("oid={text}")).number(Parameter::Offer), number, "{text}");
        }
    }

    #[test]
    fn e10_long_values_are_cut_at_a_character() {
        let query = read(&format!("sub1={}&sub2=ok", "\u{643}".repeat(200)));
        assert!(query.truncated);
        assert_eq!(query.sub(0).len(), 254);
        assert_eq!(query.sub(1), "ok");
        assert!(!read(&format!("sub1={}", "x".repeat(255))).truncated);
        assert!(!read(&format!("url={}", "x".repeat(2_000))).truncated);
    }
}
