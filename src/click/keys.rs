//! `click.keys_file`: the secrets that sign click IDs and name visitors (contract E44).

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG_BYTES: usize = 8;
const KEY_BYTES: usize = 32;

/// Signing keys by number, which may be replaced while they are used, and the visitor secret that never rotates.
pub struct Keys {
    signing: ArcSwap<Signing>,
    visitor: [u8; KEY_BYTES],
}

/// HMAC-SHA256 (RFC 2104) with the state after its key: two blocks are left to compute for what we sign.
type Signer = Hmac<Sha256>;

/// Keys by number; `first` signs.
struct Signing {
    first: u8,
    by_number: [Option<Signer>; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the visitor key changed: it never may, every visitor and every conversion would get another name")]
pub struct VisitorKeyChanged;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("not `NUMBER:HEX` (0-15, 64 hex digits) or `visitor:HEX` (64 hex digits)")]
    Line { line: usize },
    #[error("this key stands twice, once is allowed")]
    Twice { line: usize },
    #[error("no signing key: a line `NUMBER:HEX` is needed")]
    NoSigningKey,
    #[error("no visitor key: a line `visitor:HEX` is needed")]
    NoVisitorKey,
}

impl KeysError {
    /// Where it is; what is missing is so from the first line on.
    pub fn line(&self) -> usize {
        match self {
            KeysError::Line { line } | KeysError::Twice { line } => *line,
            KeysError::NoSigningKey | KeysError::NoVisitorKey => 1,
        }
    }
}

impl Keys {
    /// Reads the file's text: the first number signs, all verify. Empty lines and `#` comments are skipped.
    pub fn parse(text: &str) -> Result<Keys, KeysError> {
        let mut by_number = [const { None }; 16];
        let mut signing = None;
        let mut visitor = None;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = KeysError::Line { line: line_number };
            let Some((name, hex)) = line.split_once(':') else { return Err(wrong) };
            let Some(secret) = secret(hex.trim()) else { return Err(wrong) };
            if name.trim() == "visitor" {
                if visitor.replace(secret).is_some() {
                    return Err(KeysError::Twice { line: line_number });
                }
                continue;
            }
            // One spelling each: no sign, no leading zero.
            let Some(number) = (0..16_u8).find(|number| number.to_string() == name.trim()) else { return Err(wrong) };
            if by_number[usize::from(number)].replace(signer(&secret)).is_some() {
                return Err(KeysError::Twice { line: line_number });
            }
            signing.get_or_insert(number);
        }
        let signing = Signing { first: signing.ok_or(KeysError::NoSigningKey)?, by_number };
        let visitor = visitor.ok_or(KeysError::NoVisitorKey)?;
        Ok(Keys { signing: ArcSwap::from_pointee(signing), visitor })
    }

    /// Takes the signing keys of a file that was read again (contract P9).
    pub fn replace(&self, other: Keys) -> Result<(), VisitorKeyChanged> {
        if self.visitor != other.visitor {
            return Err(VisitorKeyChanged);
        }
        self.signing.store(other.signing.into_inner());
        Ok(())
    }

    /// The text of a new key file, from 64 random bytes.
    pub fn file_text(random: &[u8; 2 * KEY_BYTES]) -> String {
        format!(
            "# Keys of click IDs. Keep this file secret and keep it: without it every click ID is a forgery.\n\
             # The first numbered key signs, all verify; `visitor` must never change.\n0:{}\nvisitor:{}\n",
            HEXLOWER.encode(&random[..KEY_BYTES]),
            HEXLOWER.encode(&random[KEY_BYTES..]),
        )
    }

    /// Writes the signing key's number into the low nibble of the first byte, and returns the tag over all of them.
    pub(super) fn sign(&self, signed: &mut [u8]) -> [u8; TAG_BYTES] {
        let signing = self.signing.load();
        signed[0] = signed[0] & 0xf0 | signing.first;
        // The first key is one of them.
        signing.tag(signing.first, signed).unwrap_or_default()
    }

    /// `None`: key `number` is not listed.
    pub(super) fn verify(&self, number: u8, signed: &[u8], tag: &[u8]) -> Option<bool> {
        let expected = self.signing.load().tag(number, signed)?;
        Some(subtle::ConstantTimeEq::ct_eq(&expected[..], tag).into())
    }

    /// First 16 bytes of the visitor secret: the SipHash key of visitor keys (contract E43).
    pub fn visitor_siphash_key(&self) -> &[u8; 16] {
        // The array is 32 bytes long.
        self.visitor.first_chunk().expect("16 of 32 bytes")
    }

    /// A secret of its own for each further purpose (`conversion`, `ip 2026-11-24`), stable while the visitor secret is.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        signer(&self.visitor).chain_update(purpose).finalize().into_bytes().into()
    }
}

impl Signing {
    /// The cut HMAC-SHA256 under key `number`; `None` when that is not listed.
    fn tag(&self, number: u8, signed: &[u8]) -> Option<[u8; TAG_BYTES]> {
        let key = self.by_number[usize::from(number & 15)].as_ref()?;
        let tag = key.clone().chain_update(signed).finalize().into_bytes();
        tag[..TAG_BYTES].try_into().ok()
    }
}

fn signer(secret: &[u8; KEY_BYTES]) -> Signer {
    // A key of any length is one.
    Signer::new_from_slice(secret).expect("HMAC takes every key")
}

fn secret(hex: &str) -> Option<[u8; KEY_BYTES]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
    bytes.try_into().ok()
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Keys(signing {})", self.signing.load().first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_file_reads_back() {
        let keys = Keys::parse(&Keys::file_text(&[7; 64])).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys(signing 0)");
        assert_eq!(keys.visitor_siphash_key(), &[7; 16]);
        assert_ne!(keys.derive("a"), keys.derive("b"));
    }

    /// Another implementation of RFC 2104, over what is signed of a click and over a name.
    #[test]
    fn e42_tags_and_derived_keys_are_hmac_sha256() {
        use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
        let keys = Keys::parse(&Keys::file_text(&std::array::from_fn(|at| at as u8))).unwrap();
        let (signing, visitor): (Vec<u8>, Vec<u8>) = ((0..32).collect(), (32..64).collect());
        let mut signed: [u8; 28] = std::array::from_fn(|at| at as u8 * 7);
        let tag = keys.sign(&mut signed);
        assert_eq!(tag, sign(&Key::new(HMAC_SHA256, &signing), &signed).as_ref()[..TAG_BYTES]);
        let purpose = "ip 2026-11-24";
        assert_eq!(keys.derive(purpose), sign(&Key::new(HMAC_SHA256, &visitor), purpose.as_bytes()).as_ref());
    }

    #[test]
    fn p9_signing_keys_are_replaced_and_the_visitor_key_never() {
        let hex = |byte: &str| byte.repeat(32);
        let keys = Keys::parse(&format!("0:{}\nvisitor:{}", hex("11"), hex("33"))).unwrap();
        let rotated = format!("1:{}\n0:{}\nvisitor:{}", hex("22"), hex("11"), hex("33"));
        let mut signed = [0x10; 28];
        let tag = keys.sign(&mut signed);
        assert_eq!(keys.replace(Keys::parse(&rotated).unwrap()), Ok(()));
        assert_eq!(keys.verify(0, &signed, &tag), Some(true));
        keys.sign(&mut signed);
        assert_eq!(signed[0], 0x11);
        let other = Keys::parse(&rotated.replace(&hex("33"), &hex("44"))).unwrap();
        assert_eq!(keys.replace(other), Err(VisitorKeyChanged));
    }

    #[test]
    fn wrong_files_name_the_line() {
        let hex = "ab".repeat(32);
        let cases = [
            (format!("0:{hex}\nvisitor:zz"), KeysError::Line { line: 2 }),
            (format!("16:{hex}\nvisitor:{hex}"), KeysError::Line { line: 1 }),
            (format!("1:{hex}\n\n1:{hex}"), KeysError::Twice { line: 3 }),
            (format!("visitor:{hex}"), KeysError::NoSigningKey),
            (format!("0:{hex}"), KeysError::NoVisitorKey),
        ];
        for (text, error) in cases {
            assert_eq!(Keys::parse(&text).err(), Some(error));
        }
    }

    #[test]
    fn e44_a_key_number_has_one_spelling() {
        let parse = |number: &str| {
            let hex = "ab".repeat(32);
            Keys::parse(&format!("{number}:{hex}\nvisitor:{hex}")).map(|keys| format!("{keys:?}"))
        };
        for wrong in ["+5", "-0", "007", "00", "16", "0x5", "", "1 5"] {
            assert_eq!(parse(wrong), Err(KeysError::Line { line: 1 }), "{wrong:?}");
        }
        for number in ["0", "9", "10", "15"] {
            assert_eq!(parse(number), Ok(format!("Keys(signing {number})")));
        }
    }
}
