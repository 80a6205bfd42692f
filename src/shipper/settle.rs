//! From a spool's record to Kafka's: the key for readers, and `billable` and `duplicate_of` settled (contract V7).
//!
//! Two places of a click's text change and nothing else: it is not written anew.

use memchr::memmem;
use serde::Deserialize;

use super::Duplicates;
use crate::event::{self, Click};
use crate::spool::{SpoolId, Topic};
use crate::time::TimeMs;

/// What goes to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub seq: u64,
    pub key: Box<[u8]>,
    pub value: Box<[u8]>,
    /// When the record was written, as far as it tells.
    pub at: Option<TimeMs>,
}

/// Records of one spool, as they were read.
#[derive(Default)]
pub struct Batch {
    pub records: Vec<(u64, Box<[u8]>)>,
    pub bytes: usize,
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

impl Batch {
    pub fn push(&mut self, seq: u64, record: &[u8]) {
        self.bytes += record.len();
        self.records.push((seq, record.into()));
    }
}

/// The records for Kafka, in order.
pub fn settle(topic: Topic, batch: Batch, duplicates: &mut Duplicates) -> (Vec<Ready>, Tally) {
    match topic {
        Topic::Clicks => clicks(batch, duplicates),
        Topic::Conversions => {
            (batch.records.into_iter().map(|(seq, record)| report(seq, record)).collect(), Tally::default())
        }
    }
}

fn clicks(batch: Batch, duplicates: &mut Duplicates) -> (Vec<Ready>, Tally) {
    let mut tally = Tally::default();
    let read: Vec<Option<Click<'_>>> =
        batch.records.iter().map(|(_, record)| serde_json::from_slice::<Click<'_>>(record).ok()).collect();
    let heads: Vec<Option<Head>> = read.iter().map(|click| click.as_ref().map(Head::of)).collect();
    let is_click = |record: &[u8]| event::address(record).is_none_or(|address| address.event != "unparked");
    let unread = batch.records.iter().zip(&heads).filter(|((_, record), head)| head.is_none() && is_click(record));
    tally.unread = unread.count() as u64;
    // A click that is not billable takes no part (contract E29).
    let asked: Vec<Click<'_>> = read.into_iter().flatten().filter(|click| click.billable).collect();
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
    let mut ready = Vec::with_capacity(batch.records.len());
    for ((seq, mut value), head) in batch.records.into_iter().zip(heads) {
        let duplicate_of =
            if head.as_ref().is_some_and(|head| head.billable) { answers.next().flatten() } else { None };
        if let Some(settled) = duplicate_of.and_then(|other| not_billable(&value, &other)) {
            value = settled;
            tally.duplicates += 1;
        }
        let (key, at) = match head {
            Some(head) => (head.key.into(), Some(head.at)),
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
    fn of(click: &Click<'_>) -> Head {
        Head { key: click.visitor_key.to_hex(), at: click.clicked_at_ms, billable: click.billable }
    }
}

/// The same click as a duplicate, with its flag (contract E27). In JSON a quote inside a string has a backslash before it,
/// so this text stands nowhere but at the fields themselves: our edges write flags before `billable`.
fn not_billable(click: &[u8], duplicate_of: &str) -> Option<Box<[u8]>> {
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

fn report(seq: u64, value: Box<[u8]>) -> Ready {
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
    Ready { seq, key: key.into_bytes().into(), value, at }
}

/// The key of what speaks of no visitor and no order.
fn spool_of(record: &[u8]) -> Box<[u8]> {
    let spool = |address: event::Address<'_>| SpoolId(address.spool).to_string().into_bytes().into();
    event::address(record).map(spool).unwrap_or_default()
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

    #[test]
    fn v7_duplicates_are_settled_in_place_and_all_else_stays_as_it_is() {
        let before = batch(&[true, false, true]);
        let texts: Vec<Box<[u8]>> = before.records.iter().map(|(_, record)| record.clone()).collect();
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
        let again = String::from_utf8(not_billable(flagged.as_bytes(), "IDfirst").unwrap().into_vec()).unwrap();
        assert!(again.contains(r#""flags":["sec_gpc","duplicate"],"billable":false"#), "{again}");
        assert_eq!((&*ready[2].key, ready[2].at), (&b"00000000000000ab"[..], Some(TimeMs(17))));
    }

    #[test]
    fn v7_without_an_answer_clicks_go_as_they_are_and_are_counted() {
        let before = batch(&[true, false]);
        let texts: Vec<Box<[u8]>> = before.records.iter().map(|(_, record)| record.clone()).collect();
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
