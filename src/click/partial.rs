//! What can be read of a text that should be a click ID and may be cut, lengthened or of another version: for `afflux
//! click`, which shows it to somebody who looks for the fault (contract P4). Nothing of it is to be believed.

use data_encoding::BASE64URL_NOPAD;

use super::ClickId;
use super::id::{CLICK_ID_BYTES, CLICK_ID_CHARACTERS};

/// As many of the 36 bytes as there are, the rest zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialId {
    /// Another version is read as if it were laid out like ours: most likely a byte of ours is damaged.
    pub id: ClickId,
    pub known_bytes: usize,
}

impl PartialId {
    /// `None` when there is nothing to be read: not even the version is ours in what is not whole.
    pub fn read(text: &str) -> Option<PartialId> {
        let text = text.trim();
        let is_of_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let characters = text.bytes().take(CLICK_ID_CHARACTERS).take_while(is_of_alphabet).count();
        // Four characters are three bytes.
        let known_bytes = characters * 3 / 4;
        let mut padded = [b'A'; CLICK_ID_CHARACTERS];
        padded[..characters].copy_from_slice(&text.as_bytes()[..characters]);
        let mut bytes = [0; CLICK_ID_BYTES];
        BASE64URL_NOPAD.decode_mut(&padded, &mut bytes).ok()?;
        bytes[known_bytes..].fill(0);
        let is_ours = ClickId::from_bytes(bytes).is_some();
        (known_bytes == CLICK_ID_BYTES || known_bytes > 0 && is_ours)
            .then(|| PartialId { id: ClickId::of_any_version(bytes), known_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{OfferId, PublisherId};
    use crate::click::{Keys, VisitorKey};
    use crate::time::TimeMs;

    #[test]
    fn p4_a_cut_a_long_and_another_version_are_read_as_far_as_they_go() {
        let keys = Keys::parse(&Keys::file_text(&[7; 64])).unwrap();
        let id = ClickId::sign(&keys, TimeMs(1_795_329_000_450), OfferId(12), PublisherId(34), VisitorKey(5), 1, 9);
        let text = id.to_string();
        let whole = PartialId { id, known_bytes: 36 };
        for same in [text.clone(), format!("{text}A"), format!("{text}="), format!(" {text}\n")] {
            assert_eq!(PartialId::read(&same), Some(whole), "{same}");
        }
        let other = PartialId::read(&format!("I{}", &text[1..])).unwrap();
        assert_eq!((other.id.version(), other.id.offer_id(), other.known_bytes), (2, OfferId(12), 36));
        let cut = PartialId::read(&text[..20]).unwrap();
        assert_eq!((cut.known_bytes, cut.id.publisher_id()), (15, PublisherId(34)));
        let broken = PartialId::read(&format!("{}+{}", &text[..16], &text[17..])).unwrap();
        assert_eq!((broken.known_bytes, broken.id.clicked_at()), (12, TimeMs(1_795_329_000_450)));
        for nothing in ["", "short", "-----", "+++", "é"] {
            assert_eq!(PartialId::read(nothing), None, "{nothing}");
        }
    }
}
