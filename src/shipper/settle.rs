//! From a spool's record to Kafka's: the key for readers, and `billable` and `duplicate_of` settled (contract V7).
//!
//! Two places of a click's text change and nothing else: it is not written anew. Records lie in one buffer from the disk to
//! the client: an allocation for each would cost as much as reading it.

use std::ops::{Deref, Range};

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;

use super::Duplicates;
use crate::event::{self, Glance};
use crate::spool::{SpoolId, Topic};
use crate::time::TimeMs;

/// What goes to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub seq: u64,
    pub key: Key,
    pub value: Bytes,
    /// When the record was written, as far as it tells.
    pub at: Option<TimeMs>,
}

/// What readers get together what belongs together by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Visitor([u8; 16]),
    /// An order's, a spool's, or empty.
    Text(Box<str>),
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Key::Visitor(key) => key,
            Key::Text(text) => text.as_bytes(),
        }
    }
}

/// Records of one spool, as they were read.
#[derive(Default)]
pub struct Batch {
    /// Numbers, and where in `bytes` each stands.
    pub records: Vec<(u64, Range<usize>)>,
    pub bytes: Vec<u8>,
}

/// What was found out on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub duplicates: u64,
    /// Clicks that nobody was asked about.
    pub unasked: u64,
    /// Records that are no event. They are sent as they are: whoever reads them judges.
    pub unread: u64,
}

/// Room for a record: about what a click takes.
const RECORD_BYTES: usize = 768;
/// Records for which there is room from the beginning.
const MOST_AT_FIRST: usize = 4_096;

impl Batch {
    /// For about so many records.
    pub fn of(records: usize) -> Batch {
        let room = records.min(MOST_AT_FIRST);
        Batch { records: Vec::with_capacity(room), bytes: Vec::with_capacity(room * RECORD_BYTES) }
    }

    pub fn push(&mut self, seq: u64, record: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.records.push((seq, start..self.bytes.len()));
    }
}

/// The records for Kafka, in order.
pub fn settle(topic: Topic, batch: Batch, duplicates: &mut Duplicates) -> (Vec<Ready>, Tally) {
    match topic {
        Topic::Clicks => clicks(batch, duplicates),
        Topic::Conversions => {
            let whole = Bytes::from(batch.bytes);
            let reports = batch.records.into_iter().map(|(seq, place)| report(seq, whole.slice(place)));
            (reports.collect(), Tally::default())
        }
    }
}

fn clicks(batch: Batch, duplicates: &mut Duplicates) -> (Vec<Ready>, Tally) {
    let mut tally = Tally::default();
    let mut heads = Vec::with_capacity(batch.records.len());
    // A click that is not billable takes no part (contract E29).
    let mut asked = Vec::with_capacity(batch.records.len());
    for (_, place) in &batch.records {
        let record = batch.bytes.get(place.clone());
        let click = record.and_then(Glance::of);
        tally.unread += u64::from(click.is_none() && record.is_none_or(is_click));
        heads.push(click.as_ref().map(Head::of));
        asked.extend(click.filter(|click| click.billable));
    }
    let mut answers = if asked.is_empty() {
        Vec::new()
    } else {
        duplicates(&asked).unwrap_or_else(|_| {
            tally.unasked = asked.len() as u64;
            Vec::new()
        })
    }
    .into_iter();
    drop(asked);
    let whole = Bytes::from(batch.bytes);
    let mut ready = Vec::with_capacity(batch.records.len());
    for ((seq, place), head) in batch.records.into_iter().zip(heads) {
        let mut value = whole.slice(place);
        let duplicate_of =
            if head.as_ref().is_some_and(|head| head.billable) { answers.next().flatten() } else { None };
        if let Some(settled) = duplicate_of.and_then(|other| not_billable(&value, &other)) {
            value = settled;
            tally.duplicates += 1;
        }
        let (key, at) = match head {
            Some(head) => (Key::Visitor(head.key), Some(head.at)),
            None => (spool_of(&value), None),
        };
        ready.push(Ready { seq, key, value, at });
    }
    (ready, tally)
}

struct Head {
    key: [u8; 16],
    at: TimeMs,
    billable: bool,
}

impl Head {
    fn of(click: &Glance<'_>) -> Head {
        Head { key: click.visitor_key.to_hex(), at: click.clicked_at_ms, billable: click.billable }
    }
}

/// The same click as a duplicate, with its flag (contract E27). In JSON a quote inside a string has a backslash before it,
/// so this text stands nowhere but at the fields themselves: our edges write flags before `billable`.
fn not_billable(click: &[u8], duplicate_of: &str) -> Option<Bytes> {
    const BILLABLE: &[u8] = br#"],"billable":true"#;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !duplicate_of.bytes().all(is_plain) {
        return None;
    }
    // It stands near the end.
    let at = memmem::rfind(click, BILLABLE)?;
    let (before, after) = (&click[..at], &click[at + BILLABLE.len()..]);
    let flag: &[u8] = if before.ends_with(b"[") { br#""duplicate""# } else { br#","duplicate""# };
    let settled = br#"],"billable":false,"duplicate_of":""#;
    let parts = [before, flag, settled, duplicate_of.as_bytes(), b"\"", after];
    Some(parts.concat().into())
}

fn report(seq: u64, value: Bytes) -> Ready {
    #[derive(Deserialize)]
    struct Report<'r> {
        merchant_id: u32,
        #[serde(borrow)]
        order_id: std::borrow::Cow<'r, str>,
        received_at_ms: Option<TimeMs>,
    }
    let (key, at) = match serde_json::from_slice::<Report<'_>>(&value) {
        Ok(report) => (format!("{}/{}", report.merchant_id, report.order_id), report.received_at_ms),
        Err(_) => return Ready { seq, key: spool_of(&value), value, at: None },
    };
    Ready { seq, key: Key::Text(key.into()), value, at }
}

/// The key of what speaks of no visitor and no order.
fn spool_of(record: &[u8]) -> Key {
    let spool = |address: event::Address<'_>| SpoolId(address.spool).to_string();
    Key::Text(event::address(record).map(spool).unwrap_or_default().into())
}

/// Whether a record that cannot be read ought to be a click.
fn is_click(record: &[u8]) -> bool {
    event::address(record).is_none_or(|address| address.event != "unparked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::shipper::Unavailable;

    const CLICK: &str = r#"{"event":"click","schema":1,"spool":"00000000000000ff","seq":SEQ,"click_id":"IDx","clicked_at_ms":17,"offer_id":1,"publisher_id":2,"merchant_id":3,"visitor_key":"00000000000000ab","sub1":"\",\"billable\":true","flags":[],"billable":BILLABLE,"edge":"e"}"#;

    fn batch(billable: &[bool]) -> Batch {
        let mut batch = Batch::default();
        for (seq, billable) in billable.iter().enumerate() {
            let click = CLICK.replace("SEQ", &seq.to_string()).replace("BILLABLE", &billable.to_string());
            batch.push(seq as u64, click.as_bytes());
        }
        batch
    }

    fn texts(batch: &Batch) -> Vec<Bytes> {
        batch.records.iter().map(|(_, place)| Bytes::copy_from_slice(&batch.bytes[place.clone()])).collect()
    }

    #[test]
    fn v7_duplicates_are_settled_in_place_and_all_else_stays_as_it_is() {
        let before = batch(&[true, false, true]);
        let texts = texts(&before);
        let mut duplicates: Duplicates = Box::new(|clicks| {
            assert_eq!(clicks.len(), 2, "only those that are billable");
            Ok(vec![None, Some("IDfirst".into())])
        });
        let (ready, tally) = settle(Topic::Clicks, before, &mut duplicates);
        assert_eq!(tally, Tally { duplicates: 1, ..Tally::default() });
        assert_eq!(ready[0].value, texts[0]);
        assert_eq!(ready[1].value, texts[1]);
        let text = String::from_utf8(ready[2].value.to_vec()).unwrap();
        assert_eq!(text.matches(r#","billable":false,"duplicate_of":"IDfirst","edge""#).count(), 1, "{text}");
        assert!(text.contains(r#""sub1":"\",\"billable\":true""#), "{text}");
        let Ok(Event::Click(click)) = Event::parse(&ready[2].value) else { panic!("{text}") };
        assert!(!click.billable);
        assert_eq!(click.flags, ["duplicate"]);
        let flagged = text.replace(r#"["duplicate"],"billable":false"#, r#"["sec_gpc"],"billable":true"#);
        let again = String::from_utf8(not_billable(flagged.as_bytes(), "IDfirst").unwrap().to_vec()).unwrap();
        assert!(again.contains(r#""flags":["sec_gpc","duplicate"],"billable":false"#), "{again}");
        assert_eq!((&*ready[2].key, ready[2].at), (&b"00000000000000ab"[..], Some(TimeMs(17))));
    }

    #[test]
    fn v7_without_an_answer_clicks_go_as_they_are_and_are_counted() {
        let before = batch(&[true, false]);
        let texts = texts(&before);
        let mut duplicates: Duplicates = Box::new(|_| Err(Unavailable));
        let (ready, tally) = settle(Topic::Clicks, before, &mut duplicates);
        assert_eq!(tally, Tally { unasked: 1, ..Tally::default() });
        assert_eq!(ready.into_iter().map(|ready| ready.value).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn v14_an_order_is_its_key_and_what_is_no_event_goes_all_the_same() {
        let mut batch = Batch::default();
        batch.push(0, br#"{"event":"refund","merchant_id":3,"order_id":"A/\"1","received_at_ms":5}"#);
        batch.push(1, b"rubbish");
        let mut nobody: Duplicates = Box::new(|_| Ok(Vec::new()));
        let (ready, _) = settle(Topic::Conversions, batch, &mut nobody);
        assert_eq!((&*ready[0].key, ready[0].at), (&br#"3/A/"1"#[..], Some(TimeMs(5))));
        assert_eq!((&*ready[1].key, &*ready[1].value), (&b""[..], &b"rubbish"[..]));
    }
}
