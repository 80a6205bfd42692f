//! JSON as strict as the contract wants it (I24): no key twice, at most 32 levels, no lone surrogate, nothing behind the
//! value. Numbers keep their text, so that `1`, `1.0` and `1e3` can be told apart and none is rounded.
//!
//! RFC 8259. The recursion is bounded by `MAX_DEPTH`, so no input can overflow the stack.

use std::borrow::Cow;
use std::collections::HashSet;

pub const MAX_DEPTH: usize = 32;

/// Objects up to this many keys are searched for duplicates without a hash table.
const FEW_KEYS: usize = 16;

/// A JSON value that borrows from its text where it can.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// As written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Members<'a>),
}

impl Value<'_> {
    /// As JSON without white space; numbers as they were written.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(text) => out.push_str(text),
            Value::String(text) => write_string(text, out),
            Value::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    value.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    // A string serialises.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// In the order in which they stand, no key twice.
pub type Members<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct NotJson {
    pub at: usize,
    pub what: &'static str,
}

/// Reads exactly one value.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, NotJson> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(NotJson { at: 0, what: "a byte order mark is not allowed" });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| NotJson { at: error.valid_up_to(), what: "not UTF-8" })?;
    let mut reader = Reader { text, at: 0 };
    reader.skip_whitespace();
    let value = reader.value(0)?;
    reader.skip_whitespace();
    if reader.at == text.len() { Ok(value) } else { reader.wrong("something stands behind the value") }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => self.wrong("nested more than 32 deep"),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            None => self.wrong("a value is missing"),
            Some(_) => self.wrong("not a JSON value"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        let mut members = Members::new();
        let mut keys = HashSet::new();
        self.at += 1;
        self.skip_whitespace();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.wrong("a key in quotes is expected");
            }
            let key_at = self.at;
            let key = self.string()?;
            if !is_new(&members, &mut keys, key.clone()) {
                return Err(NotJson { at: key_at, what: "this key stands twice in its object" });
            }
            self.skip_whitespace();
            self.expect(b':', "`:` is expected")?;
            self.skip_whitespace();
            let value = self.value(depth)?;
            members.push((key, value));
            self.skip_whitespace();
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            self.expect(b',', "`,` or `}` is expected")?;
            self.skip_whitespace();
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, NotJson> {
        let mut values = Vec::new();
        self.at += 1;
        self.skip_whitespace();
        if self.take(b']') {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            self.skip_whitespace();
            if self.take(b']') {
                return Ok(Value::Array(values));
            }
            self.expect(b',', "`,` or `]` is expected")?;
            self.skip_whitespace();
        }
    }

    fn number(&mut self) -> Result<Value<'a>, NotJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(Value::Number(Cow::Borrowed(&self.text[start..self.at])))
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        if count == 0 { self.wrong("a digit is expected") } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotJson> {
        self.at += 1;
        let mut whole: Cow<'a, str> = Cow::Borrowed("");
        loop {
            let plain = self.rest().bytes().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count();
            // The bytes stopped at are ASCII, so the cut is between characters.
            whole += &self.text[self.at..self.at + plain];
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(whole);
                }
                Some(b'\\') => whole.to_mut().push(self.escape()?),
                Some(_) => return self.wrong("a control character in a string must be escaped"),
                None => return self.wrong("the string does not end"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        self.at += 1;
        let character = match self.peek() {
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(same),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.wrong("not an escape of JSON"),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode_escape(&mut self) -> Result<char, NotJson> {
        let start = self.at;
        let lone = NotJson { at: start, what: "half of a surrogate pair" };
        let first = self.code_unit()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        if first >= 0xdc00 || !self.rest().starts_with("\\u") {
            return Err(lone);
        }
        self.at += 1;
        let second = self.code_unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(lone)
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u32, NotJson> {
        let digits = self.rest().as_bytes().get(1..5).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.wrong("four hex digits are expected") };
        self.at += 5;
        Ok(digits.iter().fold(0, |unit, digit| unit * 16 + char::from(*digit).to_digit(16).unwrap_or(0)))
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, NotJson> {
        if !self.rest().starts_with(word) {
            return self.wrong("not a JSON value");
        }
        self.at += word.len();
        Ok(value)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { self.wrong(what) }
    }

    fn skip_whitespace(&mut self) {
        self.at += self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, what })
    }
}

/// Whether `key` does not stand among `members` yet; `keys` is filled once they are many.
fn is_new<'a>(members: &Members<'a>, keys: &mut HashSet<Cow<'a, str>>, key: Cow<'a, str>) -> bool {
    if members.len() < FEW_KEYS {
        return members.iter().all(|(known, _)| *known != key);
    }
    if keys.is_empty() {
        keys.extend(members.iter().map(|(known, _)| known.clone()));
    }
    keys.insert(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> &'static str {
        parse(bytes).expect_err("refused").what
    }

    #[test]
    fn i24_what_is_not_strict_json_is_refused() {
        for (bytes, what) in [
            (&b""[..], "a value is missing"),
            (b" \n", "a value is missing"),
            (b"\xef\xbb\xbf{}", "a byte order mark is not allowed"),
            (b"{\"a\":\"\xff\"}", "not UTF-8"),
            (b"\"\xed\xa0\x80\"", "not UTF-8"),
            (br#"{"a":1,"a":1}"#, "this key stands twice in its object"),
            (br#"{"a":1,"\u0061":1}"#, "this key stands twice in its object"),
            (br#"[{"b":{"a":1,"c":2,"a":3}}]"#, "this key stands twice in its object"),
            (br#""\ud800""#, "half of a surrogate pair"),
            (br#""\udc00\ud800""#, "half of a surrogate pair"),
            (br#""\ud800\u0041""#, "half of a surrogate pair"),
            (br#""\ud800x""#, "half of a surrogate pair"),
            (br#""\ud800\u""#, "four hex digits are expected"),
            (br#""\u+041""#, "four hex digits are expected"),
            (br#""\x""#, "not an escape of JSON"),
            (b"\"a\nb\"", "a control character in a string must be escaped"),
            (b"\"abc", "the string does not end"),
            (b"NaN", "not a JSON value"),
            (b"-Infinity", "a digit is expected"),
            (b"nul", "not a JSON value"),
            (b"01", "something stands behind the value"),
            (b"1.", "a digit is expected"),
            (b".5", "not a JSON value"),
            (b"+1", "not a JSON value"),
            (b"1e", "a digit is expected"),
            (b"{} {}", "something stands behind the value"),
            (b"{}\0", "something stands behind the value"),
            (b"[1,]", "not a JSON value"),
            (br#"{"a":1,}"#, "a key in quotes is expected"),
            (b"{a:1}", "a key in quotes is expected"),
            (br#"{"a" 1}"#, "`:` is expected"),
            (b"[1 2]", "`,` or `]` is expected"),
            (b"'a'", "not a JSON value"),
            (b"// a\n1", "not a JSON value"),
        ] {
            assert_eq!(fault(bytes), what, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn i24_nesting_ends_at_32() {
        let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
        assert!(parse(nested("[", "]", 32).as_bytes()).is_ok());
        assert!(parse(nested("{\"a\":", "}", 32).as_bytes()).is_ok());
        for text in [nested("[", "]", 33), nested("{\"a\":", "}", 33), "[".repeat(100_000), nested("[", "]", 100_000)] {
            assert_eq!(fault(text.as_bytes()), "nested more than 32 deep");
        }
    }

    #[test]
    fn numbers_keep_their_text_and_strings_are_decoded() {
        let text = br#" {"n":[-0,1.0,1e3,99999999999999999999999,0.5E-7],"s":"\u06f1\ud83d\ude00\/\"\n","b":[true,false,null,{},[]]} "#;
        let Ok(Value::Object(members)) = parse(text) else { panic!("not read") };
        let numbers = ["-0", "1.0", "1e3", "99999999999999999999999", "0.5E-7"];
        assert_eq!(members[0].1, Value::Array(numbers.map(|n| Value::Number(n.into())).to_vec()));
        assert_eq!(members[1].1, Value::String("۱😀/\"\n".into()));
        assert!(matches!(&members[2].1, Value::Array(values) if values.len() == 5));
        let mut written = String::new();
        Value::Object(members).write(&mut written);
        let expected =
            r#"{"n":[-0,1.0,1e3,99999999999999999999999,0.5E-7],"s":"۱😀/\"\n","b":[true,false,null,{},[]]}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn i24_duplicates_are_found_among_many_keys_in_little_time() {
        let keys: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":0")).collect();
        assert!(parse(format!("{{{}}}", keys.join(",")).as_bytes()).is_ok());
        assert_eq!(
            fault(format!("{{{},\"k99999\":1}}", keys.join(",")).as_bytes()),
            "this key stands twice in its object"
        );
        assert_eq!(fault(format!("{{{},\"k3\":1}}", keys.join(",")).as_bytes()), "this key stands twice in its object");
    }

    proptest::proptest! {
        /// Whatever is accepted here is JSON to serde_json too; what it refuses beyond our stricter rules is refused.
        #[test]
        fn i24_never_panics_and_accepts_only_json(bytes in r#"[\[\]{}:,"\\u0-9a-fdnulltrueE.+\- ]{0,40}"#) {
            if parse(bytes.as_bytes()).is_ok() {
                proptest::prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&bytes).is_ok(), "{bytes}");
            }
        }
    }
}
