//! What stands in a click ID (contract E42), as an outsider reads it: nobody but the server can verify it.

use data_encoding::BASE64URL_NOPAD;

pub const LENGTH: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClickId(pub [u8; 36]);

impl ClickId {
    /// Of its 48 characters.
    pub fn parse(text: &[u8]) -> Option<ClickId> {
        let mut bytes = [0; 36];
        if text.len() != LENGTH || BASE64URL_NOPAD.decode_mut(text, &mut bytes).ok()? != 36 {
            return None;
        }
        (bytes[0] >> 4 == 1).then_some(ClickId(bytes))
    }

    pub fn clicked_at_ms(&self) -> i64 {
        self.0[1..7].iter().fold(0, |time, byte| time << 8 | i64::from(*byte))
    }

    pub fn offer_id(&self) -> u32 {
        u32::from_be_bytes([self.0[7], self.0[8], self.0[9], self.0[10]])
    }

    pub fn publisher_id(&self) -> u32 {
        u32::from_be_bytes([self.0[11], self.0[12], self.0[13], self.0[14]])
    }
}

impl std::fmt::Display for ClickId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e42_the_fields_stand_where_the_contract_says() {
        let mut bytes = [0u8; 36];
        bytes[0] = 0x13;
        bytes[1..7].copy_from_slice(&[0x01, 0xa2, 0x03, 0x04, 0x05, 0x06]);
        bytes[7..11].copy_from_slice(&12u32.to_be_bytes());
        bytes[11..15].copy_from_slice(&34u32.to_be_bytes());
        let text = BASE64URL_NOPAD.encode(&bytes);
        let id = ClickId::parse(text.as_bytes()).unwrap();
        assert_eq!((id.clicked_at_ms(), id.offer_id(), id.publisher_id()), (0x01a2_0304_0506, 12, 34));
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn e46_what_is_no_click_id_is_none() {
        for text in ["", "A", &"A".repeat(48), &"/".repeat(48), &"E".repeat(49)] {
            assert_eq!(ClickId::parse(text.as_bytes()), None, "{text}");
        }
        assert!(ClickId::parse("E".repeat(48).as_bytes()).is_some());
    }
}
