//! The 36 bytes of a click ID (contract E42).

use data_encoding::BASE64URL_NOPAD;

use super::{Keys, VisitorKey};
use crate::catalog::{OfferId, PublisherId};
use crate::time::TimeMs;

pub const CLICK_ID_BYTES: usize = 36;
pub const CLICK_ID_CHARACTERS: usize = 48;
const SIGNED_BYTES: usize = 28;
const VERSION: u8 = 1;
const LATEST_MS: i64 = (1 << 48) - 1;

pub const LABEL_NON_NAVIGATION: u8 = 1;
pub const LABEL_PREFETCH: u8 = 2;
pub const LABEL_BOT: u8 = 4;

/// A click ID taken apart. Equality and order are those of the raw bytes (contract M5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickId([u8; CLICK_ID_BYTES]);

/// What verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Verified(ClickId),
    /// Another length, alphabet or version.
    Malformed,
    WrongTag,
    /// Signed with a key number that `click.keys_file` does not list.
    UnknownKey,
}

impl ClickId {
    /// Signs a new ID with the first key. `clicked_at` is cut to 48 bits.
    pub fn sign(
        keys: &Keys,
        clicked_at: TimeMs,
        offer_id: OfferId,
        publisher_id: PublisherId,
        visitor_key: VisitorKey,
        labels: u8,
        random: u32,
    ) -> ClickId {
        let mut bytes = [0; CLICK_ID_BYTES];
        bytes[0] = VERSION << 4;
        bytes[1..7].copy_from_slice(&clicked_at.0.clamp(0, LATEST_MS).to_be_bytes()[2..]);
        bytes[7..11].copy_from_slice(&offer_id.0.to_be_bytes());
        bytes[11..15].copy_from_slice(&publisher_id.0.to_be_bytes());
        bytes[15..23].copy_from_slice(&visitor_key.0.to_be_bytes());
        bytes[23] = labels;
        bytes[24..28].copy_from_slice(&random.to_be_bytes());
        let tag = keys.sign(&mut bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(&tag);
        ClickId(bytes)
    }

    /// Decodes 48 base64url characters without looking at the tag. `None`: another length, alphabet or version.
    pub fn decode(text: &str) -> Option<ClickId> {
        if text.len() != CLICK_ID_CHARACTERS {
            return None;
        }
        let mut bytes = [0; CLICK_ID_BYTES];
        BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).ok()?;
        ClickId::from_bytes(bytes)
    }

    /// The raw bytes as stored; `None` for another version.
    pub fn from_bytes(bytes: [u8; CLICK_ID_BYTES]) -> Option<ClickId> {
        (bytes[0] >> 4 == VERSION).then_some(ClickId(bytes))
    }

    /// For looking at: only what `check` says of it is to be believed.
    pub(super) fn of_any_version(bytes: [u8; CLICK_ID_BYTES]) -> ClickId {
        ClickId(bytes)
    }

    /// Decodes and verifies in constant time over the tag.
    pub fn verify(text: &str, keys: &Keys) -> Verdict {
        match ClickId::decode(text) {
            None => Verdict::Malformed,
            Some(id) => id.check(keys),
        }
    }

    pub fn check(self, keys: &Keys) -> Verdict {
        match keys.verify(self.key_number(), &self.0[..SIGNED_BYTES], &self.0[SIGNED_BYTES..]) {
            None => Verdict::UnknownKey,
            Some(false) => Verdict::WrongTag,
            Some(true) => Verdict::Verified(self),
        }
    }

    pub fn as_bytes(&self) -> &[u8; CLICK_ID_BYTES] {
        &self.0
    }

    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    pub fn key_number(&self) -> u8 {
        self.0[0] & 15
    }

    pub fn clicked_at(&self) -> TimeMs {
        let mut wide = [0; 8];
        wide[2..].copy_from_slice(&self.0[1..7]);
        TimeMs(i64::from_be_bytes(wide))
    }

    pub fn offer_id(&self) -> OfferId {
        OfferId(self.word(7))
    }

    pub fn publisher_id(&self) -> PublisherId {
        PublisherId(self.word(11))
    }

    pub fn visitor_key(&self) -> VisitorKey {
        VisitorKey(u64::from(self.word(15)) << 32 | u64::from(self.word(19)))
    }

    pub fn labels(&self) -> u8 {
        self.0[23]
    }

    pub fn random(&self) -> u32 {
        self.word(24)
    }

    /// False when the request was not a visitor's navigation (contract M13): a fact, as it is signed.
    pub fn navigated(&self) -> bool {
        self.labels() & LABEL_NON_NAVIGATION == 0
    }

    /// Writes the 48 characters.
    pub fn encode(&self) -> [u8; CLICK_ID_CHARACTERS] {
        let mut text = [0; CLICK_ID_CHARACTERS];
        BASE64URL_NOPAD.encode_mut(&self.0, &mut text);
        text
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

impl std::fmt::Display for ClickId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(std::str::from_utf8(&self.encode()).unwrap_or_default())
    }
}

impl std::fmt::Debug for ClickId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, out)
    }
}

impl serde::Serialize for ClickId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ClickId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        ClickId::decode(&text).ok_or_else(|| serde::de::Error::custom("not a click ID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let text = format!("3:{}\n# old\n0:{}\nvisitor:{}\n", "11".repeat(32), "22".repeat(32), "33".repeat(32));
        Keys::parse(&text).unwrap()
    }

    fn sample(keys: &Keys) -> ClickId {
        let at = TimeMs(1_795_329_000_450);
        ClickId::sign(keys, at, OfferId(12), PublisherId(34), VisitorKey(0x0102_0304_0506_0708), 5, 0xdead_beef)
    }

    #[test]
    fn e42_every_field_reads_back() {
        let keys = keys();
        let text = sample(&keys).to_string();
        assert_eq!(text.len(), CLICK_ID_CHARACTERS);
        let Verdict::Verified(id) = ClickId::verify(&text, &keys) else { panic!("not verified") };
        assert_eq!((id.version(), id.key_number()), (1, 3));
        assert_eq!(id.clicked_at(), TimeMs(1_795_329_000_450));
        assert_eq!((id.offer_id(), id.publisher_id()), (OfferId(12), PublisherId(34)));
        assert_eq!(id.visitor_key(), VisitorKey(0x0102_0304_0506_0708));
        assert_eq!((id.labels(), id.random()), (5, 0xdead_beef));
        assert!(!id.navigated());
    }

    #[test]
    fn e46_any_changed_bit_is_refused() {
        let keys = keys();
        let id = sample(&keys);
        for bit in 0..CLICK_ID_BYTES * 8 {
            let mut bytes = *id.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = ClickId::from_bytes(bytes).map(|id| id.check(&keys));
            assert!(!matches!(verdict, Some(Verdict::Verified(_))), "bit {bit}");
        }
    }

    #[test]
    fn e46_other_spellings_are_malformed() {
        let keys = keys();
        let text = sample(&keys).to_string();
        for wrong in [
            format!("{text}A"),
            format!("{text}="),
            text[1..].into(),
            format!(" {}", &text[1..]),
            format!("+{}", &text[1..]),
        ] {
            assert_eq!(ClickId::verify(&wrong, &keys), Verdict::Malformed, "{wrong}");
        }
    }

    #[test]
    fn e46_an_unlisted_key_number_is_told_apart() {
        let other = Keys::parse(&format!("4:{}\nvisitor:{}", "44".repeat(32), "33".repeat(32))).unwrap();
        assert_eq!(ClickId::verify(&sample(&other).to_string(), &keys()), Verdict::UnknownKey);
    }
}
