//! Dedicated links, millions of them: one arena of bytes and a table of offsets, no allocation for a link.
//!
//! A record: code length (1 byte), code, offer and publisher (4 + 4, little-endian), URL length (2), URL. Ten million
//! links with 60-byte URLs take about 880 MB.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::{OfferId, PublisherId};

#[derive(Default)]
pub struct Links {
    arena: Vec<u8>,
    offsets: HashTable<u32>,
}

/// A dedicated link. `url` is already checked against the offer's hosts and re-serialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    pub code: &'a str,
    pub offer_id: OfferId,
    pub publisher_id: PublisherId,
    pub url: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALink {
    #[error("this code stands twice")]
    Twice,
    #[error("more than 4 GiB of links")]
    TooMany,
}

impl Links {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The link with exactly this code.
    pub fn find(&self, code: &[u8]) -> Option<Link<'_>> {
        let found = self.offsets.find(xxh3_64(code), |offset| self.code_at(*offset) == code)?;
        Some(self.link_at(*found))
    }

    /// Adds a link; lengths (code 1-64, URL up to 2,048) were checked before.
    pub fn add(&mut self, link: Link<'_>) -> Result<(), NotALink> {
        let offset = u32::try_from(self.arena.len()).map_err(|_| NotALink::TooMany)?;
        let (arena, hash) = (&self.arena, xxh3_64(link.code.as_bytes()));
        let entry = self.offsets.entry(
            hash,
            |known| code_in(arena, *known) == link.code.as_bytes(),
            |known| xxh3_64(code_in(arena, *known)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(_) => return Err(NotALink::Twice),
            hashbrown::hash_table::Entry::Vacant(place) => place.insert(offset),
        };
        let url = link.url.unwrap_or_default();
        self.arena.push(link.code.len() as u8);
        self.arena.extend_from_slice(link.code.as_bytes());
        self.arena.extend_from_slice(&link.offer_id.0.to_le_bytes());
        self.arena.extend_from_slice(&link.publisher_id.0.to_le_bytes());
        self.arena.extend_from_slice(&(url.len() as u16).to_le_bytes());
        self.arena.extend_from_slice(url.as_bytes());
        Ok(())
    }

    /// Gives back what growing took too much.
    pub fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        let arena = &self.arena;
        self.offsets.shrink_to_fit(|known| xxh3_64(code_in(arena, *known)));
    }

    fn code_at(&self, offset: u32) -> &[u8] {
        code_in(&self.arena, offset)
    }

    fn link_at(&self, offset: u32) -> Link<'_> {
        let code = self.code_at(offset);
        let rest = &self.arena[offset as usize + 1 + code.len()..];
        let word = |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let length = usize::from(u16::from_le_bytes([rest[8], rest[9]]));
        // Only `add` writes here, from `str`s.
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        Link {
            code: text(code),
            offer_id: OfferId(word(0)),
            publisher_id: PublisherId(word(4)),
            url: (length > 0).then(|| text(&rest[10..10 + length])),
        }
    }
}

fn code_in(arena: &[u8], offset: u32) -> &[u8] {
    let start = offset as usize + 1;
    &arena[start..start + usize::from(arena[start - 1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_is_found_and_no_other() {
        let mut links = Links::default();
        for number in 0..10_000u32 {
            let (code, url) = (format!("c{number}"), format!("https://shop.example/{number}"));
            let url = (number % 3 > 0).then_some(url.as_str());
            let link = Link { code: &code, offer_id: OfferId(number), publisher_id: PublisherId(number + 1), url };
            links.add(link).unwrap();
            assert_eq!(links.add(link), Err(NotALink::Twice));
        }
        links.shrink();
        for number in 0..10_000u32 {
            let link = links.find(format!("c{number}").as_bytes()).unwrap();
            assert_eq!((link.offer_id, link.publisher_id), (OfferId(number), PublisherId(number + 1)));
            assert_eq!(link.url.is_some(), number % 3 > 0);
        }
        assert_eq!(links.find(b"c10000"), None);
        assert_eq!(links.len(), 10_000);
    }
}
