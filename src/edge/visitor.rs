//! Who clicks: the cookie (contract E31), and the address as far as it is written down (contract V11, V12).

use std::hash::Hasher;
use std::net::IpAddr;

use data_encoding::HEXLOWER;
use http::HeaderMap;
use http::header::COOKIE;
use siphasher::sip::SipHasher24;

use crate::click::{Keys, VisitorId};
use crate::time::TimeMs;

const COOKIE_NAME: &[u8] = b"aff_vid=";

/// The visitor of the first valid cookie, of several lines too.
pub fn from_cookie(headers: &HeaderMap) -> Option<VisitorId> {
    headers.get_all(COOKIE).iter().find_map(|line| {
        let pairs = line.as_bytes().split(|byte| *byte == b';');
        pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE_NAME)).find_map(VisitorId::parse)
    })
}

/// The keyed hash of the full address; its key changes daily and all edges agree on it.
pub struct AddressKeys {
    day: i64,
    key: [u8; 16],
}

impl AddressKeys {
    pub fn new() -> AddressKeys {
        AddressKeys { day: i64::MIN, key: [0; 16] }
    }

    /// 16 lower-case hex digits.
    pub fn hash(&mut self, address: IpAddr, now: TimeMs, keys: &Keys) -> [u8; 16] {
        if now.day_number() != self.day {
            self.day = now.day_number();
            let date = now.to_rfc3339();
            self.key.copy_from_slice(&keys.derive(&format!("ip {}", &date[..10]))[..16]);
        }
        let mut hasher = SipHasher24::new_with_key(&self.key);
        let bytes = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        hasher.write(&bytes);
        let mut hex = [0; 16];
        HEXLOWER.encode_mut(&hasher.finish().to_be_bytes(), &mut hex);
        hex
    }
}

/// /24 of IPv4, /48 of IPv6.
pub fn cut_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().unwrap());
        }
        from_cookie(&headers).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn e31_the_first_valid_cookie_counts() {
        let (a, b) = ("a".repeat(22), "b".repeat(22));
        assert_eq!(cookies(&[&format!("x=1; aff_vid={a}; y=2")]), Some(a.clone()));
        assert_eq!(cookies(&[&format!("aff_vid=short; aff_vid={b}")]), Some(b.clone()));
        assert_eq!(cookies(&["x=1", &format!("aff_vid={a}"), &format!("aff_vid={b}")]), Some(a.clone()));
        for none in ["aff_vid=", "xaff_vid=aaaaaaaaaaaaaaaaaaaaaa", "AFF_VID=aaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(cookies(&[none]), None, "{none}");
        }
        assert_eq!(cookies(&[&format!("aff_vid=\"{a}\"")]), None);
    }

    #[test]
    fn v11_addresses_are_cut() {
        let cut = |text: &str| cut_address(text.parse().unwrap()).to_string();
        assert_eq!(cut("192.0.2.77"), "192.0.2.0");
        assert_eq!(cut("2001:db8:1:2:3::4"), "2001:db8:1::");
    }

    #[test]
    fn v12_the_key_changes_daily_and_is_shared_by_all_edges() {
        let keys = Keys::parse(&Keys::file_text(&[7; 64])).unwrap();
        let address = "192.0.2.77".parse().unwrap();
        let (mut one, mut other) = (AddressKeys::new(), AddressKeys::new());
        let day = 86_400_000;
        let today = one.hash(address, TimeMs(5 * day), &keys);
        assert_eq!(other.hash(address, TimeMs(6 * day - 1), &keys), today);
        assert_ne!(one.hash(address, TimeMs(6 * day), &keys), today);
        assert_ne!(one.hash("192.0.2.78".parse().unwrap(), TimeMs(6 * day), &keys), today);
    }
}
