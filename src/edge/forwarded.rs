//! Who asks when a proxy asks for somebody: `X-Forwarded-For` and `X-Forwarded-Proto`, from trusted networks alone
//! (contract E40, E32).

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName};

use super::answer::Peer;
use super::networks::Networks;

/// Hops that are looked at. A request that came by more trusted proxies than this goes in circles.
const MOST_HOPS: usize = 32;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How the address of a request that a proxy handed on was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Named by the field.
    Named,
    /// There is no field: the peer's own.
    Absent,
    /// A hop that had to be read is no address: the peer's.
    Malformed,
    TooManyHops,
    /// There is a field, and the peer is no trusted proxy: the peer's.
    Untrusted,
}

pub const FORWARDED: [(Forwarded, &str); 5] = [
    (Forwarded::Named, "named"),
    (Forwarded::Absent, "absent"),
    (Forwarded::Malformed, "malformed"),
    (Forwarded::TooManyHops, "too_many_hops"),
    (Forwarded::Untrusted, "untrusted"),
];

/// Whom the request is from, and how that was found. `None`: the peer is no trusted proxy, and does not claim to be one.
pub fn asks(peer: Peer, headers: &HeaderMap, trusted: &Networks) -> Option<(Peer, Forwarded)> {
    if !trusted.contains(peer.address) {
        return headers.contains_key(FOR).then_some((peer, Forwarded::Untrusted));
    }
    let (address, found) = match source(headers, trusted) {
        Ok(Some(address)) => (address, Forwarded::Named),
        Ok(None) => (peer.address, Forwarded::Absent),
        Err(failed) => (peer.address, failed),
    };
    Some((Peer { address, tls: peer.tls || came_by_https(headers) }, found))
}

/// From the right, where the nearest proxy wrote, to the first hop that is none of ours: what stands left of it anybody may
/// have written. Of hops that are all ours the leftmost. Several lines are one list, in their order.
fn source(headers: &HeaderMap, trusted: &Networks) -> Result<Option<IpAddr>, Forwarded> {
    let mut found = None;
    let lines = headers.get_all(FOR).iter().rev();
    for (count, hop) in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).enumerate() {
        if count == MOST_HOPS {
            return Err(Forwarded::TooManyHops);
        }
        let address = hop_address(hop.trim_ascii()).ok_or(Forwarded::Malformed)?;
        found = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    Ok(found)
}

/// An address alone, or with a port: `192.0.2.1`, `192.0.2.1:567`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:567`.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_canonical(), port)
        }
        None => {
            let colon = text.find(':')?;
            (text[..colon].parse::<std::net::Ipv4Addr>().ok()?.into(), &text[colon..])
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let has_port = text.starts_with('[') && port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    has_port.then_some(address)
}

/// What the nearest proxy wrote: the last word of the last line.
fn came_by_https(headers: &HeaderMap) -> bool {
    let last = headers.get_all(PROTO).iter().next_back();
    let word = last.and_then(|line| line.as_bytes().rsplit(|byte| *byte == b',').next());
    word.is_some_and(|word| word.trim_ascii().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    fn found(peer: &str, lines: &[&str]) -> Option<(String, Forwarded)> {
        let trusted = Networks::parse("10.0.0.0/8\n2001:db8:1::/48").unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FOR, http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let peer = Peer { address: peer.parse().unwrap(), tls: false };
        asks(peer, &headers, &trusted).map(|(peer, found)| (peer.address.to_string(), found))
    }

    #[test]
    fn e40_hops_are_read_from_the_right_to_the_first_that_is_not_trusted() {
        for (lines, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
            (&["198.51.100.1, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
            (&["198.51.100.1", "192.0.2.7", "10.1.1.1,10.1.1.2"], "192.0.2.7"),
            (&["anything at all,192.0.2.7"], "192.0.2.7"),
            (&["10.1.1.1, 10.1.1.2"], "10.1.1.1"),
            (&["192.0.2.7:567"], "192.0.2.7"),
            (&["[2001:db8::7]:567"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["2001:db8::7\t,  2001:db8:1::1"], "2001:db8::7"),
            (&["::ffff:192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7"),
            (&["[::ffff:192.0.2.7]:1"], "192.0.2.7"),
        ] {
            assert_eq!(found(PEER, lines), Some((expected.to_owned(), Forwarded::Named)), "{lines:?}");
        }
        assert_eq!(found("::ffff:10.0.0.1", &["192.0.2.7"]), Some(("192.0.2.7".to_owned(), Forwarded::Named)));
        assert_eq!(found(PEER, &[]), Some((PEER.to_owned(), Forwarded::Absent)));
    }

    #[test]
    fn e40_a_hop_that_is_no_address_leaves_the_peers() {
        for lines in [
            &[""][..],
            &["unknown"],
            &["192.0.2.7,"],
            &["192.0.2.7, _hidden, 10.1.1.1"],
            &["192.0.2.7:"],
            &["192.0.2.7:65536"],
            &["192.0.2.7:+1"],
            &["192.0.2.7 1"],
            &["192.0.2"],
            &["2001:db8::7]:1"],
            &["[2001:db8::7"],
            &["[2001:db8::7]1"],
            &["[192.0.2.7]:1"],
            &["fe80::1%eth0"],
            &["for=192.0.2.7"],
            &["192.0.2.7\u{e9}"],
        ] {
            assert_eq!(found(PEER, lines), Some((PEER.to_owned(), Forwarded::Malformed)), "{lines:?}");
        }
        let hops = |count: usize| vec!["10.1.1.1"; count].join(",");
        assert_eq!(found(PEER, &[&hops(MOST_HOPS)]), Some(("10.1.1.1".to_owned(), Forwarded::Named)));
        assert_eq!(found(PEER, &[&hops(MOST_HOPS + 1)]), Some((PEER.to_owned(), Forwarded::TooManyHops)));
    }

    #[test]
    fn e40_others_are_not_believed_loopback_neither() {
        for peer in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8:2::1"] {
            assert_eq!(found(peer, &["198.51.100.1"]), Some((peer.to_owned(), Forwarded::Untrusted)));
            assert_eq!(found(peer, &[]), None);
        }
    }

    #[test]
    fn e32_the_nearest_proxy_says_whether_it_was_https() {
        for (lines, expected) in [
            (&["https"][..], true),
            (&["HTTPS"], true),
            (&["http"], false),
            (&["http, https"], true),
            (&["https", "http"], false),
            (&["https,"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PROTO, line.parse().unwrap());
            }
            assert_eq!(came_by_https(&headers), expected, "{lines:?}");
        }
    }
}
