//! The click's event, written by hand into a buffer that is kept from click to click (contract V1-V7).

use std::io::Write;

/// A JSON object being written, one field behind the other.
pub struct Object<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Object<'b> {
    /// Begins with the fields that every event has.
    pub fn event(out: &'b mut Vec<u8>, name: &str, spool: u64, seq: u64) -> Object<'b> {
        out.clear();
        // Writing into a Vec does not fail.
        let _ = write!(
            out,
            "{{\"event\":\"{name}\",\"schema\":{},\"spool\":\"{spool:016x}\",\"seq\":",
            crate::event::SCHEMA
        );
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        Object { out }
    }

    /// A string; an empty one is left out.
    pub fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            push_string(self.out, value);
        }
    }

    /// A string that needs no escaping: ours, of base64, hex or the like.
    pub fn plain(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    pub fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A list of words of ours.
    pub fn words(&mut self, name: &str, words: impl Iterator<Item = &'static str>) {
        self.name(name);
        self.out.push(b'[');
        for (index, word) in words.enumerate() {
            self.out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
            self.out.extend_from_slice(word.as_bytes());
            self.out.push(b'"');
        }
        self.out.push(b']');
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// A JSON string (RFC 8259, 7): quote, backslash and controls are escaped, all else stands as it is.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn v1_any_text_is_valid_json_and_reads_back(text in ".*", other in "\\PC*") {
            let mut out = Vec::new();
            let mut object = Object::event(&mut out, "click", 0xabc, 7);
            object.text("a", &text);
            object.text("b", &other);
            object.words("flags", ["bot", "prefetch"].into_iter());
            object.boolean("billable", false);
            object.number("n", -5);
            object.end();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read["a"].as_str().unwrap_or_default(), &text);
            prop_assert_eq!(read["b"].as_str().unwrap_or_default(), &other);
            prop_assert_eq!(&read["spool"], "0000000000000abc");
            prop_assert_eq!(&read["flags"][1], "prefetch");
        }
    }
}
