//! The conversion ID: a function of merchant, order and type, so that a retry, a pixel and the API name one conversion
//! alike, ending in a keyed tag, so that it can be told from a guess without a look into the store (contract I7, I40).

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

use crate::catalog::MerchantId;
use crate::click::Keys;

const ORDER_HASH_BYTES: usize = 16;
const TAG_BYTES: usize = 8;
const TAGGED_BYTES: usize = 4 + ORDER_HASH_BYTES;
const ID_BYTES: usize = TAGGED_BYTES + TAG_BYTES;

/// 38 base64url characters over merchant (4 bytes), hash of order and type (16), tag (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversionId([u8; ID_BYTES]);

/// Makes and verifies conversion IDs.
pub struct ConversionIds(hmac::Key);

impl ConversionIds {
    pub fn new(keys: &Keys) -> ConversionIds {
        ConversionIds(hmac::Key::new(hmac::HMAC_SHA256, &keys.derive("conversion")))
    }

    pub fn id(&self, merchant_id: MerchantId, order_id: &str, kind: &str) -> ConversionId {
        let mut hash = hmac::Context::with_key(&self.0);
        hash.update(b"order\0");
        hash.update(&merchant_id.0.to_be_bytes());
        // A type has no NUL (contract I2), so the parts cannot run into each other.
        hash.update(kind.as_bytes());
        hash.update(b"\0");
        hash.update(order_id.as_bytes());
        let mut bytes = [0; ID_BYTES];
        bytes[..4].copy_from_slice(&merchant_id.0.to_be_bytes());
        bytes[4..TAGGED_BYTES].copy_from_slice(&hash.sign().as_ref()[..ORDER_HASH_BYTES]);
        let tag = self.tag(&bytes[..TAGGED_BYTES]);
        bytes[TAGGED_BYTES..].copy_from_slice(&tag);
        ConversionId(bytes)
    }

    /// `None` for anything that we did not make.
    pub fn verify(&self, text: &str) -> Option<ConversionId> {
        let bytes: [u8; ID_BYTES] = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
        let tag = self.tag(&bytes[..TAGGED_BYTES]);
        let equal: bool = subtle::ConstantTimeEq::ct_eq(&tag[..], &bytes[TAGGED_BYTES..]).into();
        equal.then_some(ConversionId(bytes))
    }

    fn tag(&self, tagged: &[u8]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"tag\0");
        context.update(tagged);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

impl ConversionId {
    pub fn merchant_id(&self) -> MerchantId {
        MerchantId(u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }
}

impl std::fmt::Display for ConversionId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_depends_on_merchant_order_and_type_only_and_cannot_be_guessed() {
        let keys = Keys::parse(&Keys::file_text(&[7; 64])).unwrap();
        let ids = ConversionIds::new(&keys);
        let id = ids.id(MerchantId(1), "A-1001", "sale");
        assert_eq!(id, ids.id(MerchantId(1), "A-1001", "sale"));
        assert_ne!(id, ids.id(MerchantId(2), "A-1001", "sale"));
        assert_ne!(id, ids.id(MerchantId(1), "A-1001", "lead"));
        assert_eq!(ids.verify(&id.to_string()), Some(id));
        assert_eq!(id.merchant_id(), MerchantId(1));
        let mut forged = id.to_string().into_bytes();
        forged[30] = if forged[30] == b'A' { b'B' } else { b'A' };
        assert_eq!(ids.verify(std::str::from_utf8(&forged).unwrap()), None);
    }
}
