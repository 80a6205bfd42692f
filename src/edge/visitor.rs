//! Who clicks: the cookie (contract E31), and the address as far as it is written down (contract V11, V12).

use std::hash::Hasher;
use std::net::IpAddr;

use data_encoding::HEXLOWER;
use siphasher::sip::SipHasher24;

use crate::click::{Keys, VisitorId};
use crate::time::TimeMs;

const COOKIE_NAME: &[u8] = b"aff_vid=";

/// The visitor of the first valid cookie in a line of them.
pub fn in_cookie(line: &[u8]) -> Option<VisitorId> {
    let pairs = line.split(|byte| *byte == b';');
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE_NAME)).find_map(VisitorId::parse)
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
        // An IPv4 address is hashed in its mapped form, so both forms of it are one visitor (contract E40).
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

/// /24 of IPv4, /48 of IPv6. A mapped address is IPv4: cut as IPv6 it would be the same for all of them.
pub fn cut_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
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
    use http::HeaderMap;
    use http::header::COOKIE;

    use super::super::said::Said;
    use super::*;

    fn cookies(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().unwrap());
        }
        Said::read(&headers).visitor.map(|id| id.as_str().to_owned())
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
        assert_eq!(cut("2001:db8:1:ffff:ffff:ffff:ffff:ffff"), "2001:db8:1::");
        assert_eq!(cut("::ffff:192.0.2.77"), "192.0.2.0");
        assert_eq!(cut("0.0.0.1"), "0.0.0.0");
        assert_eq!(cut("::1"), "::");
    }

    fn keys() -> Keys {
        Keys::parse(&Keys::file_text(&[7; 64])).unwrap()
    }

    fn hash(address: &str, at: &str) -> String {
        let at = TimeMs::parse_rfc3339(at).unwrap();
        let hash = AddressKeys::new().hash(address.parse().unwrap(), at, &keys());
        String::from_utf8(hash.to_vec()).unwrap()
    }

    #[test]
    fn v12_the_key_changes_at_midnight_utc_and_comes_back_with_its_day() {
        let address = "192.0.2.77";
        let before = hash(address, "2026-12-31T23:59:59.999Z");
        assert_eq!(hash(address, "2026-12-31T00:00:00.000Z"), before);
        assert_ne!(hash(address, "2027-01-01T00:00:00.000Z"), before);
        assert_eq!(hash(address, "2027-01-01T03:29:59.999+03:30"), before, "the date is that of UTC");
        // One worker over midnight, and a clock that goes back over it.
        let mut worker = AddressKeys::new();
        let mut at = |text: &str| {
            let at = TimeMs::parse_rfc3339(text).unwrap();
            String::from_utf8(worker.hash(address.parse().unwrap(), at, &keys()).to_vec()).unwrap()
        };
        assert_eq!(at("2026-12-31T23:59:59.999Z"), before);
        assert_ne!(at("2027-01-01T00:00:00.000Z"), before);
        assert_eq!(at("2026-12-31T23:59:59.999Z"), before);
    }

    #[test]
    fn v12_the_hash_is_of_the_full_address_in_either_family() {
        let day = "2026-12-01T12:00:00.000Z";
        assert_eq!(hash("::ffff:192.0.2.77", day), hash("192.0.2.77", day), "mapped is IPv4");
        assert_ne!(hash("192.0.2.77", day), hash("192.0.2.78", day), "more than the cut address");
        assert_ne!(hash("2001:db8:1::1", day), hash("2001:db8:1::2", day));
        assert_eq!(hash("2001:db8:1:0::1", day), hash("2001:DB8:1::1", day));
        assert_eq!(hash("2001:db8::1", day).len(), 16);
    }

    #[test]
    fn v12_another_visitor_key_is_another_hash_and_a_new_signing_key_is_not() {
        let text = |signing: &str, visitor: &str| {
            Keys::parse(&format!("0:{}\nvisitor:{}\n", signing.repeat(32), visitor.repeat(32))).unwrap()
        };
        let hash = |keys: &Keys| AddressKeys::new().hash("192.0.2.77".parse().unwrap(), TimeMs(0), keys);
        assert_eq!(hash(&text("01", "02")), hash(&text("03", "02")));
        assert_ne!(hash(&text("01", "02")), hash(&text("01", "04")));
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
