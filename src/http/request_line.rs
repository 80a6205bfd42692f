//! The first line of a request, read strictly, whole or only begun (contract E2, E3, E36-E38).
//!
//! Pure.

use memchr::memchr;

use super::refusal::{self, Refusal};

/// Whether more bytes can make a request line of these.
pub fn may_become_one(start: &[u8]) -> bool {
    let mut parts = start.splitn(3, |byte| *byte == b' ');
    let (method, target, version) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let in_order = |version: &[u8]| [b"HTTP/1.1\r", b"HTTP/1.0\r"].iter().any(|whole| whole.starts_with(version));
    ((target.is_none() && method.is_empty()) || is_method(method))
        && target.is_none_or(|target| is_visible(target) && (version.is_none() || !target.is_empty()))
        && version.is_none_or(in_order)
}

/// Whether a byte may stand in a method or in the name of a field.
pub fn is_token(byte: u8) -> bool {
    KIND[usize::from(byte)] & TOKEN != 0
}

fn is_method(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token(*byte))
}

fn is_visible(target: &[u8]) -> bool {
    target.iter().fold(true, |all, byte| all & (byte.is_ascii_graphic() && *byte != b'#'))
}

/// Checks `METHOD SP target SP HTTP/1.x`; gives the line that hyper must see if it is another.
pub fn check(line: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let first = memchr(b' ', line).ok_or(Refusal::Malformed)?;
    let (method, rest) = (&line[..first], &line[first + 1..]);
    let second = memchr(b' ', rest).ok_or(Refusal::Malformed)?;
    let (target, version) = (&rest[..second], &rest[second + 1..]);
    if !is_method(method) || target.is_empty() || !is_visible(target) || !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err(Refusal::Malformed);
    }
    let new_method = renamed(method);
    let new_target = retargeted(method, target)?;
    if new_method.is_none() && new_target.is_none() {
        return Ok(None);
    }
    let target = new_target.as_deref().unwrap_or(target);
    Ok(Some([new_method.unwrap_or(method), b" ", target, b" ", version, b"\r\n"].concat()))
}

/// Methods that mean something to hyper or to us, and nothing to any service of ours.
fn renamed(method: &[u8]) -> Option<&'static [u8]> {
    (method == b"CONNECT" || method == refusal::METHOD.as_bytes()).then_some(refusal::OTHER.as_bytes())
}

/// The target in a form that the URI parser takes: an absolute one by its path (contract E3), and percent-encoded what
/// browsers send bare and RFC 3986 does not know.
fn retargeted(method: &[u8], target: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let in_order = |byte: &u8| KIND[usize::from(*byte)] & TARGET != 0;
    if (target.first() == Some(&b'/') || target == b"*") && target.iter().all(in_order) {
        return Ok(None);
    }
    let by_path = match target {
        [b'/', ..] => target.to_vec(),
        _ => match memchr::memmem::find(target, b"://") {
            Some(at) if is_scheme(&target[..at]) => path_of(&target[at + 3..]),
            // The method is checked before the path (contract E2).
            _ if !matches!(method, b"GET" | b"HEAD") => b"*".to_vec(),
            _ => return Err(Refusal::Malformed),
        },
    };
    let mut encoded = Vec::with_capacity(by_path.len() + 16);
    for byte in &by_path {
        if in_order(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    Ok(Some(encoded))
}

/// RFC 3986 3.1.
fn is_scheme(text: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(known)
}

fn path_of(after_scheme: &[u8]) -> Vec<u8> {
    let end = after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after_scheme.len());
    let slash: &[u8] = if after_scheme.get(end) == Some(&b'/') { b"" } else { b"/" };
    [slash, &after_scheme[end..]].concat()
}

/// RFC 9110 5.6.2.
const TOKEN: u8 = 1;
/// What `http::Uri` takes in path and query alike.
const TARGET: u8 = 2;

const KIND: [u8; 256] = {
    let mut kind = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let both =
            matches!(b, b'!' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'|' | b'~');
        if b.is_ascii_alphanumeric() || both {
            kind[byte] = TOKEN | TARGET;
        } else if matches!(b, b'#' | b'`') {
            kind[byte] = TOKEN;
        } else if b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'{' | b'}' | b'\\') {
            kind[byte] = TARGET;
        }
        byte += 1;
    }
    kind
};
