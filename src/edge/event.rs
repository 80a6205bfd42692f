//! The click's event, written by hand into a buffer that is kept from click to click (contract V1-V7).

use std::io::Write;
use std::net::IpAddr;

use data_encoding::HEXLOWER;

/// A field's name as it stands between two values: made when this is compiled, and one copy then.
#[derive(Clone, Copy)]
pub struct Name(pub &'static str);

macro_rules! name {
    ($name:literal) => {
        $crate::edge::event::Name(concat!(",\"", $name, "\":"))
    };
}
pub(super) use name;

/// A JSON object being written, one field behind the other.
pub struct Object<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Object<'b> {
    /// Begins with the fields that every event has.
    pub fn event(out: &'b mut Vec<u8>, name: &str, spool: u64, seq: u64) -> Object<'b> {
        out.clear();
        out.extend_from_slice(b"{\"event\":\"");
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        let mut hex = [0; 16];
        HEXLOWER.encode_mut(&spool.to_be_bytes(), &mut hex);
        let mut object = Object { out };
        object.number(name!("schema"), crate::event::SCHEMA);
        object.plain(name!("spool"), &hex);
        object.number(name!("seq"), seq);
        object
    }

    /// A string; an empty one is left out.
    pub fn text(&mut self, name: Name, value: &str) {
        if !value.is_empty() {
            self.name(name);
            push_string(self.out, value);
        }
    }

    /// A string that needs no escaping: ours, of base64, hex or the like.
    pub fn plain(&mut self, name: Name, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value);
        self.out.push(b'"');
    }

    pub fn number(&mut self, name: Name, value: impl itoa::Integer) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub fn boolean(&mut self, name: Name, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A list of words of ours.
    pub fn words(&mut self, name: Name, words: impl Iterator<Item = &'static str>) {
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

    /// As it is usually written; IPv6 by RFC 5952.
    pub fn address(&mut self, name: Name, address: IpAddr) {
        self.name(name);
        self.out.push(b'"');
        match address {
            IpAddr::V4(v4) => {
                for (place, octet) in v4.octets().iter().enumerate() {
                    if place > 0 {
                        self.out.push(b'.');
                    }
                    self.out.extend_from_slice(itoa::Buffer::new().format(*octet).as_bytes());
                }
            }
            IpAddr::V6(v6) => {
                // Writing into a Vec does not fail.
                let _ = write!(self.out, "{v6}");
            }
        }
        self.out.push(b'"');
    }

    fn name(&mut self, name: Name) {
        self.out.extend_from_slice(name.0.as_bytes());
    }
}

/// A JSON string (RFC 8259, 7): quote, backslash and controls are escaped, all else stands as it is.
fn push_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if bytes.chunks(CHUNK).all(|chunk| !has_special(chunk)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    push_escaped(out, bytes);
    out.push(b'"');
}

/// Bytes that are looked at together.
const CHUNK: usize = 32;

/// Without leaving early: so the compiler makes a few vector instructions of it.
fn has_special(chunk: &[u8]) -> bool {
    chunk.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'))
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
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
            object.text(name!("a"), &text);
            object.text(name!("b"), &other);
            object.words(name!("flags"), ["bot", "prefetch"].into_iter());
            object.boolean(name!("billable"), false);
            object.number(name!("n"), -5);
            object.end();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read["a"].as_str().unwrap_or_default(), &text);
            prop_assert_eq!(read["b"].as_str().unwrap_or_default(), &other);
            prop_assert_eq!(&read["spool"], "0000000000000abc");
            prop_assert_eq!(&read["flags"][1], "prefetch");
        }

        #[test]
        fn v11_an_address_is_written_as_everywhere(address in any::<std::net::IpAddr>()) {
            let mut out = Vec::new();
            let mut object = Object::event(&mut out, "click", 0, 0);
            object.address(name!("ip"), address);
            object.end();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read["ip"].as_str().unwrap(), address.to_string());
        }
    }
}
