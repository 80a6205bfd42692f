//! Ten million links in a gigabyte: records one behind the other in an arena, and a table of where they begin.
//!
//! A slot of the table holds 32 bits of the code's hash beside the record's place, so a lookup touches two cold cache
//! lines: the slot's and the record's. (A table of places alone would read a record at every probe, and one with
//! separate control bytes would miss a third time.) The slot's index is the hash scaled to the table's length, so a
//! larger table is filled in the order of the smaller one.
//!
//! Codes come from operators and the hash is not keyed: nobody outside chooses what is in the table.

use xxhash_rust::xxh3::xxh3_64;

use super::{OfferId, PublisherId};

/// Links by code.
#[derive(Default)]
pub struct Links {
    table: Table,
    arena: Vec<u8>,
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
    #[error("a code of 1 to 255 bytes and a URL of at most 65,535 are stored")]
    Length,
}

/// Length of code (u8), length of URL (u16, 0: none), offer (u32), publisher (u32); then the code and the URL.
const HEAD_BYTES: usize = 11;

impl Links {
    /// The link with exactly this code.
    pub fn find(&self, code: &[u8]) -> Option<Link<'_>> {
        let place = self.table.find(hash(code), |place| code_at(&self.arena, place) == code)?;
        Some(link_at(&self.arena, place))
    }

    pub fn len(&self) -> usize {
        self.table.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn add(&mut self, link: Link<'_>) -> Result<(), NotALink> {
        let mut records = Records::default();
        records.push(link, 0)?;
        records.iter().try_for_each(|record| self.add_record(&record))
    }

    /// Adds what was encoded apart, perhaps by another thread.
    pub fn add_record(&mut self, record: &Record<'_>) -> Result<(), NotALink> {
        let code = code_at(record.bytes, 0);
        if self.table.find(record.hash, |place| code_at(&self.arena, place) == code).is_some() {
            return Err(NotALink::Twice);
        }
        // The last place is kept back: with all bits of the hash set it would look like an empty slot.
        let place = u32::try_from(self.arena.len()).ok().filter(|place| *place != u32::MAX).ok_or(NotALink::TooMany)?;
        self.arena.extend_from_slice(record.bytes);
        self.table.insert(record.hash, place);
        Ok(())
    }

    /// Gives back what growing took too much.
    pub fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.table.shrink();
    }
}

/// Links encoded as the arena holds them, each with its hash and the line it came from.
#[derive(Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Hash, where the record ends, line.
    marks: Vec<(u32, usize, usize)>,
}

pub struct Record<'a> {
    bytes: &'a [u8],
    hash: u32,
    pub line: usize,
}

impl Record<'_> {
    pub fn code(&self) -> &str {
        std::str::from_utf8(code_at(self.bytes, 0)).unwrap_or_default()
    }
}

impl Records {
    pub fn push(&mut self, link: Link<'_>, line: usize) -> Result<(), NotALink> {
        let url = link.url.unwrap_or_default();
        let code_bytes = u8::try_from(link.code.len()).map_err(|_| NotALink::Length)?;
        let url_bytes = u16::try_from(url.len()).map_err(|_| NotALink::Length)?;
        if code_bytes == 0 {
            return Err(NotALink::Length);
        }
        self.bytes.push(code_bytes);
        self.bytes.extend_from_slice(&url_bytes.to_le_bytes());
        self.bytes.extend_from_slice(&link.offer_id.0.to_le_bytes());
        self.bytes.extend_from_slice(&link.publisher_id.0.to_le_bytes());
        self.bytes.extend_from_slice(link.code.as_bytes());
        self.bytes.extend_from_slice(url.as_bytes());
        self.marks.push((hash(link.code.as_bytes()), self.bytes.len(), line));
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut from = 0;
        self.marks.iter().map(move |&(hash, to, line)| {
            let bytes = &self.bytes[from..to];
            from = to;
            Record { bytes, hash, line }
        })
    }
}

fn hash(code: &[u8]) -> u32 {
    // The upper half; any 32 of the 64 bits are as good as others.
    (xxh3_64(code) >> 32) as u32
}

fn code_at(arena: &[u8], place: usize) -> &[u8] {
    let code_bytes = usize::from(arena[place]);
    &arena[place + HEAD_BYTES..][..code_bytes]
}

fn link_at(arena: &[u8], place: usize) -> Link<'_> {
    let head = &arena[place..place + HEAD_BYTES];
    let url_bytes = usize::from(u16::from_le_bytes([head[1], head[2]]));
    let code = code_at(arena, place);
    let url = &arena[place + HEAD_BYTES + code.len()..][..url_bytes];
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Link {
        // `Records::push` wrote text, so both are.
        code: text(code).unwrap_or_default(),
        offer_id: OfferId(u32::from_le_bytes([head[3], head[4], head[5], head[6]])),
        publisher_id: PublisherId(u32::from_le_bytes([head[7], head[8], head[9], head[10]])),
        url: text(url).filter(|url| !url.is_empty()),
    }
}

/// Open addressing with linear probing; at most three of four slots are taken, so every probe ends.
struct Table {
    slots: Vec<u64>,
    taken: usize,
}

const EMPTY: u64 = u64::MAX;
const FIRST_SLOTS: usize = 16;

impl Default for Table {
    fn default() -> Table {
        Table { slots: vec![EMPTY; FIRST_SLOTS], taken: 0 }
    }
}

impl Table {
    fn find(&self, hash: u32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut index = self.home(hash);
        loop {
            let slot = self.slots[index];
            if slot == EMPTY {
                return None;
            }
            // The lower half is the place.
            let place = slot as u32 as usize;
            if slot >> 32 == u64::from(hash) && is_it(place) {
                return Some(place);
            }
            index = self.next(index);
        }
    }

    fn insert(&mut self, hash: u32, place: u32) {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            self.resize(self.slots.len() * 2);
        }
        self.put(u64::from(hash) << 32 | u64::from(place));
        self.taken += 1;
    }

    /// Two slots of three taken, where growth left more than half of them empty.
    fn shrink(&mut self) {
        let enough = (self.taken * 3 / 2).max(FIRST_SLOTS);
        if self.slots.len() > self.taken * 2 && enough < self.slots.len() {
            self.resize(enough);
        }
    }

    fn resize(&mut self, length: usize) {
        let slots = std::mem::replace(&mut self.slots, vec![EMPTY; length]);
        for slot in slots.into_iter().filter(|slot| *slot != EMPTY) {
            self.put(slot);
        }
    }

    fn put(&mut self, new: u64) {
        // The upper half is the hash.
        let mut index = self.home((new >> 32) as u32);
        while self.slots[index] != EMPTY {
            index = self.next(index);
        }
        self.slots[index] = new;
    }

    fn home(&self, hash: u32) -> usize {
        // Below the length, for the hash is below 2^32.
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn next(&self, index: usize) -> usize {
        if index + 1 == self.slots.len() { 0 } else { index + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link<'a>(code: &'a str, offer: u32, url: Option<&'a str>) -> Link<'a> {
        Link { code, offer_id: OfferId(offer), publisher_id: PublisherId(offer + 1), url }
    }

    #[test]
    fn ten_thousand_links_are_found_and_others_are_not() {
        let mut links = Links::default();
        let code = |number: u32| format!("code-{number}");
        let url = |number: u32| format!("https://shop.example/p/{number}");
        for number in 0..10_000 {
            let url = url(number);
            let url = (number % 3 != 0).then_some(url.as_str());
            assert_eq!(links.add(link(&code(number), number, url)), Ok(()));
        }
        links.shrink();
        assert_eq!(links.len(), 10_000);
        for number in 0..10_000 {
            let (code, url) = (code(number), url(number));
            let url = (number % 3 != 0).then_some(url.as_str());
            assert_eq!(links.find(code.as_bytes()), Some(link(&code, number, url)));
            assert_eq!(links.find(format!("code-{}", number + 10_000).as_bytes()), None);
        }
        assert_eq!(links.find(b""), None);
        assert_eq!(links.find(b"CODE-1"), None);
    }

    #[test]
    fn a_code_stands_once() {
        let mut links = Links::default();
        assert_eq!(links.add(link("a", 1, None)), Ok(()));
        assert_eq!(links.add(link("a", 2, None)), Err(NotALink::Twice));
        assert_eq!(links.add(link("A", 3, None)), Ok(()));
        assert_eq!(links.add(link("", 3, None)), Err(NotALink::Length));
        assert_eq!(links.add(link(&"x".repeat(256), 3, None)), Err(NotALink::Length));
        links.shrink();
        assert_eq!(links.find(b"a").map(|link| link.offer_id), Some(OfferId(1)));
        assert_eq!(links.len(), 2);
    }

    #[test]
    fn equal_hashes_are_told_apart_and_probes_wrap_around() {
        let mut table = Table::default();
        for place in 0..1_000 {
            table.insert(u32::MAX, place);
        }
        table.shrink();
        for place in 0..1_000 {
            assert_eq!(table.find(u32::MAX, |found| found == place), Some(place));
        }
        assert_eq!(table.find(u32::MAX, |_| false), None);
        assert_eq!(table.find(0, |_| true), None);
    }

    #[test]
    fn an_empty_catalog_has_no_links() {
        let links = Links::default();
        assert!(links.is_empty() && links.find(b"phone").is_none());
    }
}
