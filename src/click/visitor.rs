//! Who clicked: the cookie's value, and the key that a merchant sees in its place (contract E31, E43).

use std::hash::Hasher;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use siphasher::sip::SipHasher24;

use super::Keys;
use crate::catalog::MerchantId;

const VISITOR_ID_BYTES: usize = 16;
const VISITOR_ID_CHARACTERS: usize = 22;

/// The value of the cookie `aff_vid`: 22 base64url characters over 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VisitorId([u8; VISITOR_ID_CHARACTERS]);

impl VisitorId {
    pub fn new(random: [u8; VISITOR_ID_BYTES]) -> VisitorId {
        let mut text = [0; VISITOR_ID_CHARACTERS];
        BASE64URL_NOPAD.encode_mut(&random, &mut text);
        VisitorId(text)
    }

    /// Any other value than 22 base64url characters is none (contract E31).
    pub fn parse(text: &[u8]) -> Option<VisitorId> {
        let text: [u8; VISITOR_ID_CHARACTERS] = text.try_into().ok()?;
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        text.iter().all(allowed).then_some(VisitorId(text))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// SipHash-2-4 over the merchant's number and the cookie's characters: two merchants never see one key.
    pub fn key(&self, merchant_id: MerchantId, keys: &Keys) -> VisitorKey {
        let mut hasher = SipHasher24::new_with_key(keys.visitor_siphash_key());
        hasher.write(&merchant_id.0.to_be_bytes());
        hasher.write(&self.0);
        VisitorKey(hasher.finish())
    }
}

impl std::fmt::Debug for VisitorId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A visitor as one merchant knows them. In JSON 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorKey(pub u64);

impl VisitorKey {
    pub fn to_hex(self) -> [u8; 16] {
        let mut hex = [0; 16];
        HEXLOWER.encode_mut(&self.0.to_be_bytes(), &mut hex);
        hex
    }

    pub fn from_hex(text: &str) -> Option<VisitorKey> {
        let mut bytes = [0; 8];
        if text.len() != 16 {
            return None;
        }
        HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).ok()?;
        Some(VisitorKey(u64::from_be_bytes(bytes)))
    }
}

impl serde::Serialize for VisitorKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.to_hex()).unwrap_or_default())
    }
}

impl<'de> serde::Deserialize<'de> for VisitorKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        VisitorKey::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 16 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference vector of SipHash-2-4 (Aumasson and Bernstein, appendix A): key 00..0f, input 00..0e.
    #[test]
    fn e43_hashes_as_the_paper_says() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let input: [u8; 15] = std::array::from_fn(|i| i as u8);
        let mut hasher = SipHasher24::new_with_key(&key);
        hasher.write(&input[..4]);
        hasher.write(&input[4..]);
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn e31_only_22_base64url_characters_are_a_visitor() {
        let id = VisitorId::new([0xff; 16]);
        assert_eq!(VisitorId::parse(id.as_str().as_bytes()), Some(id));
        for wrong in ["", "short", "aaaaaaaaaaaaaaaaaaaaaa=", "aaaaaaaaaaaaaaaaaaaaa+", "aaaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(VisitorId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_visitor_key_reads_back() {
        let key = VisitorKey(0x00ff_1020_3040_5060);
        assert_eq!(VisitorKey::from_hex("00ff102030405060"), Some(key));
        assert_eq!(VisitorKey::from_hex("00FF102030405060"), None);
    }
}
