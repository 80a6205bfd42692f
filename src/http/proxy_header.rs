//! The header of PROXY protocol v2 (haproxy.org, proxy-protocol.txt, 2.2), read strictly: who connected to the proxy that
//! connected to us (contract E41).
//!
//! Pure. It never asks for a byte behind the header: what follows belongs to TLS or HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, and the length of what follows.
pub const FIXED_BYTES: usize = 16;
/// All of a header. Addresses take 52 bytes and the spec hopes for 536; HAProxy's and AWS's fields (the name asked for in
/// TLS, of the client's certificate, of the endpoint) stay below 1 KiB. That much a connection may make us keep.
pub const MOST_BYTES: usize = 4_096;

const TCP4_BYTES: usize = 12;
const TCP6_BYTES: usize = 36;
/// Type and length of a field behind the addresses.
const FIELD_BYTES: usize = 3;

/// What the bytes that came tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// They are the beginning of one that has so many bytes at least.
    Needs(usize),
    Whole(Whole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Bytes of the header.
    pub length: usize,
    /// Who is connected. `None`: the proxy itself (LOCAL, as its health checks are), or it does not know (UNSPEC).
    pub source: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    #[error("no header of PROXY protocol v2")]
    Malformed,
    #[error("a header of more than {MOST_BYTES} bytes")]
    TooLong,
}

/// Reads the header at the start of `bytes`. What can be no header is refused by its first wrong byte.
pub fn read(bytes: &[u8]) -> Result<Header, BadHeader> {
    if bytes.iter().zip(&SIGNATURE).any(|(byte, expected)| byte != expected) {
        return Err(BadHeader::Malformed);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Header::Needs(FIXED_BYTES));
    };
    let [.., command, family, high, low] = *fixed;
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED_BYTES + payload;
    if !matches!(command, 0x20 | 0x21) {
        return Err(BadHeader::Malformed);
    }
    if length > MOST_BYTES {
        return Err(BadHeader::TooLong);
    }
    let Some(payload) = rest.get(..payload) else { return Ok(Header::Needs(length)) };
    // Of LOCAL the rest is not looked at.
    let source = if command == 0x20 { None } else { source(family, payload)? };
    Ok(Header::Whole(Whole { length, source }))
}

/// The family and what stands behind it. Only streams are connected to us: UDP and Unix sockets are refused.
fn source(family: u8, payload: &[u8]) -> Result<Option<SocketAddr>, BadHeader> {
    let (source, fields) = match family {
        0x00 => return Ok(None),
        0x11 => {
            let (block, fields) = payload.split_first_chunk::<TCP4_BYTES>().ok_or(BadHeader::Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
            (SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])), fields)
        }
        0x21 => {
            let (block, fields) = payload.split_first_chunk::<TCP6_BYTES>().ok_or(BadHeader::Malformed)?;
            let (address, rest) = block.split_first_chunk::<16>().ok_or(BadHeader::Malformed)?;
            let port = match rest {
                [.., high, low, _, _] => u16::from_be_bytes([*high, *low]),
                _ => return Err(BadHeader::Malformed),
            };
            (SocketAddr::new(IpAddr::from(Ipv6Addr::from(*address)).to_canonical(), port), fields)
        }
        _ => return Err(BadHeader::Malformed),
    };
    if are_whole(fields) { Ok(Some(source)) } else { Err(BadHeader::Malformed) }
}

/// Whether the fields behind the addresses, which nobody reads, end where the header does.
fn are_whole(mut fields: &[u8]) -> bool {
    while let [_, high, low, ..] = fields {
        let length = FIELD_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        let Some(rest) = fields.get(length..) else { return false };
        fields = rest;
    }
    fields.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, payload].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

    fn v6(source: &str) -> Vec<u8> {
        let address = source.parse::<Ipv6Addr>().unwrap().octets();
        [&address[..], &[0; 16], &[0x30, 0x39, 0, 80]].concat()
    }

    fn source_of(bytes: &[u8]) -> Result<Option<String>, BadHeader> {
        read(bytes).map(|header| match header {
            Header::Whole(whole) => whole.source.map(|source| source.to_string()),
            Header::Needs(more) => panic!("needs {more}"),
        })
    }

    #[test]
    fn e41_the_source_is_read_and_an_ipv4_one_inside_of_ipv6_is_ipv4() {
        for (bytes, expected) in [
            (header(0x21, 0x11, &V4), Some("192.0.2.7:12345")),
            (header(0x21, 0x21, &v6("2001:db8::7")), Some("[2001:db8::7]:12345")),
            (header(0x21, 0x21, &v6("::ffff:192.0.2.7")), Some("192.0.2.7:12345")),
            (header(0x21, 0x11, &[&V4[..], &[4, 0, 1, 0, 0xea, 0, 2, 1, 2]].concat()), Some("192.0.2.7:12345")),
            (header(0x21, 0x00, b""), None),
            (header(0x21, 0x00, &[1; 100]), None),
            (header(0x20, 0x00, b""), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x20, 0xff, b"x"), None),
        ] {
            assert_eq!(source_of(&bytes), Ok(expected.map(str::to_owned)), "{bytes:?}");
            for length in 0..bytes.len() {
                let needs = read(&bytes[..length]);
                let expected = if length < FIXED_BYTES { FIXED_BYTES } else { bytes.len() };
                assert_eq!(needs, Ok(Header::Needs(expected)), "{length} of {bytes:?}");
            }
            let longer = [&bytes[..], b"GET /"].concat();
            assert!(matches!(read(&longer), Ok(Header::Whole(whole)) if whole.length == bytes.len()));
        }
    }

    #[test]
    fn e41_what_is_no_header_is_refused_by_its_first_wrong_byte() {
        for bytes in [
            b"G".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            header(0x11, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x12, &V4),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x41, &V4),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &v6("::1")[..35]),
            header(0x21, 0x11, &[&V4[..], &[4]].concat()),
            header(0x21, 0x11, &[&V4[..], &[4, 0, 2, 0]].concat()),
        ] {
            assert_eq!(read(&bytes), Err(BadHeader::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn e41_a_header_is_bounded_to_the_byte() {
        let padded = |length: usize| {
            let field = length - FIXED_BYTES - TCP4_BYTES - FIELD_BYTES;
            let filler = [&[4][..], &(field as u16).to_be_bytes(), &vec![0; field]].concat();
            header(0x21, 0x11, &[&V4[..], &filler].concat())
        };
        assert!(source_of(&padded(MOST_BYTES)).is_ok());
        assert_eq!(read(&padded(MOST_BYTES + 1)), Err(BadHeader::TooLong));
        // Before any of it came.
        assert_eq!(read(&padded(MOST_BYTES + 1)[..FIXED_BYTES]), Err(BadHeader::TooLong));
    }

    proptest! {
        #[test]
        fn e41_any_bytes_are_read_within_their_bounds(
            prefix in 0usize..=14,
            fixed in prop::collection::vec(prop::sample::select(vec![0u8, 0x11, 0x12, 0x20, 0x21]), 4),
            tail in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let begun = [&SIGNATURE[..], &[0x21, fixed[0]]].concat();
            let bytes = [&begun[..prefix], &fixed[..], &tail].concat();
            match read(&bytes) {
                Ok(Header::Needs(more)) => prop_assert!(more > bytes.len() && more <= MOST_BYTES),
                Ok(Header::Whole(whole)) => {
                    prop_assert!(whole.length <= bytes.len());
                    // Nothing behind its end matters.
                    prop_assert_eq!(read(&bytes[..whole.length]), Ok(Header::Whole(whole)));
                }
                Err(_) => {}
            }
        }
    }
}
