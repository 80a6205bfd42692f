//! What an edge tells of its spools beside their records (contract V10), and how every reader of the topics finds out
//! which record it holds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::TimeMs;

/// A `heartbeat` (each minute) or a `seal` (the spool is shipped for good): how everybody else knows what is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolState {
    #[serde(with = "hex")]
    pub spool: u64,
    /// The last number that is on disk; absent while there is none. All that went before it in Kafka's partition was
    /// produced before this was.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_number")]
    pub seq: Option<u64>,
    /// `clicks` or `conversions`.
    pub topic: String,
    /// The edge's name.
    pub edge: String,
    pub at_ms: TimeMs,
    /// Records that Kafka has acknowledged: all below this number.
    #[serde(deserialize_with = "number")]
    pub shipped: u64,
    /// When the first record was written that is not shipped; absent when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unshipped_ms: Option<TimeMs>,
    /// Answers that have no record, and answers whose record was not known to be on disk in time.
    #[serde(deserialize_with = "number")]
    pub unspooled: u64,
    #[serde(deserialize_with = "number")]
    pub late: u64,
}

/// Stands in place of a record that Kafka will not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    #[serde(with = "hex")]
    pub spool: u64,
    #[serde(deserialize_with = "number")]
    pub seq: u64,
    /// Why, in a word: `too_large`, `refused`, or `lost` for what the edge's disk lost.
    pub why: String,
    /// Size of the record.
    #[serde(deserialize_with = "number")]
    pub bytes: u64,
    pub parked_at_ms: TimeMs,
}

/// Stands behind a record that was parked in another spool and is fed again in this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unparked {
    #[serde(with = "hex")]
    pub spool: u64,
    #[serde(deserialize_with = "number")]
    pub seq: u64,
    /// Where a `parked` event stands in its place.
    #[serde(with = "hex")]
    pub of_spool: u64,
    #[serde(deserialize_with = "number")]
    pub of_seq: u64,
    pub unparked_at_ms: TimeMs,
}

/// Numbers of records, and all that is counted in them, are below this: with a microsecond for each a spool takes nine
/// years to get there. What says more is no record of ours, and would not fit into what is computed and stored.
pub const NUMBERS: u64 = 1 << 48;

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number < NUMBERS { Ok(number) } else { Err(serde::de::Error::custom("a number is below 2^48")) }
}

fn some_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<u64>::deserialize(from)?;
    number.map(|number| self::number(serde::de::value::U64Deserializer::new(number))).transpose()
}

/// Which record of which spool this is: its event's name, spool and number, without reading the rest. All our writers
/// begin alike; whatever begins otherwise is read as JSON.
pub fn address(record: &[u8]) -> Option<Address<'_>> {
    let address = written_by_us(record).or_else(|| {
        #[derive(Deserialize)]
        struct Head<'a> {
            event: &'a str,
            #[serde(with = "hex")]
            spool: u64,
            #[serde(default)]
            seq: Option<u64>,
        }
        let head: Head<'_> = serde_json::from_slice(record).ok()?;
        Some(Address { event: head.event, spool: head.spool, seq: head.seq })
    })?;
    address.seq.is_none_or(|seq| seq < NUMBERS).then_some(address)
}

/// The same event as another record: under this spool and number. `None` for what our writers did not write under `from`.
/// A click has no ID by which it counts once, so it says whose place it takes; otherwise nothing changes.
pub fn readdressed(record: &[u8], from: (u64, u64), to: (u64, u64)) -> Option<Vec<u8>> {
    let address = written_by_us(record)?;
    if (address.spool, address.seq) != (from.0, Some(from.1)) {
        return None;
    }
    let head = |(spool, seq): (u64, u64)| {
        format!(r#"{{"event":"{}","schema":1,"spool":"{spool:016x}","seq":{seq}"#, address.event)
    };
    let rest = record.strip_prefix(head(from).as_bytes())?;
    let of = if address.event == "click" { of(from) } else { String::new() };
    Some([head(to).as_bytes(), of.as_bytes(), without_former(rest)].concat())
}

const OF_SPOOL: &str = r#","of_spool":""#;
const OF_SEQ: &str = r#"","of_seq":"#;

fn of((spool, seq): (u64, u64)) -> String {
    format!("{OF_SPOOL}{spool:016x}{OF_SEQ}{seq}")
}

/// What was fed before, and is parked again, took the place of the last one alone.
fn without_former(rest: &[u8]) -> &[u8] {
    let former = || {
        let seq = rest.strip_prefix(OF_SPOOL.as_bytes())?.get(16..)?.strip_prefix(OF_SEQ.as_bytes())?;
        let digits = seq.iter().take_while(|byte| byte.is_ascii_digit()).count();
        seq.get(digits..)
    };
    former().unwrap_or(rest)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'r> {
    pub event: &'r str,
    pub spool: u64,
    pub seq: Option<u64>,
}

fn written_by_us(record: &[u8]) -> Option<Address<'_>> {
    let rest = record.strip_prefix(br#"{"event":""#)?;
    let end = memchr::memchr(b'"', rest)?;
    let event = std::str::from_utf8(&rest[..end]).ok()?;
    let rest = rest[end..].strip_prefix(br#"","schema":1,"spool":""#)?;
    let spool = parse_hex(std::str::from_utf8(rest.get(..16)?).ok()?)?;
    let rest = rest[16..].strip_prefix(br#"","seq":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let seq = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    matches!(rest.get(digits), Some(b',' | b'}')).then_some(Address { event, spool, seq: Some(seq) })
}

/// Exactly 16 lower-case digits, as a spool's name is written.
fn parse_hex(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 16 && text.bytes().all(is_digit)).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

mod hex {
    use super::*;

    pub fn serialize<S: Serializer>(spool: &u64, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&format_args!("{spool:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        super::parse_hex(&text).ok_or_else(|| serde::de::Error::custom("a spool has 16 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn v3_every_record_says_where_it_stands() {
        let ours = br#"{"event":"click","schema":1,"spool":"00000000000000ff","seq":12,"click_id":"x"}"#;
        assert_eq!(address(ours), Some(Address { event: "click", spool: 255, seq: Some(12) }));
        assert_eq!(written_by_us(ours), address(ours));
        let others = br#"{ "seq": 3, "spool": "ffffffffffffffff", "event": "refund", "schema": 1 }"#;
        assert_eq!(address(others), Some(Address { event: "refund", spool: u64::MAX, seq: Some(3) }));
        for wrong in
            [&b"x"[..], br#"{"event":"click","spool":"ff","seq":1}"#, br#"{"event":"click","schema":1,"spool":"#]
        {
            assert_eq!(address(wrong), None);
        }
    }

    #[test]
    fn v10_a_record_that_is_fed_again_changes_its_address_alone_and_a_click_says_whose_place_it_takes() {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
        let refund = br#"{"event":"refund","schema":1,"spool":"00000000000000ff","seq":12,"order_id":"\"seq\":12"}"#;
        let wanted = r#"{"event":"refund","schema":1,"spool":"0000000000000007","seq":0,"order_id":"\"seq\":12"}"#;
        assert_eq!(text(readdressed(refund, (255, 12), (7, 0))), wanted);

        let record =
            br#"{"event":"click","schema":1,"spool":"00000000000000ff","seq":12,"click_id":"x","sub1":"\"seq\":12"}"#;
        let fed = readdressed(record, (255, 12), (7, 0)).unwrap();
        let wanted = r#"{"event":"click","schema":1,"spool":"0000000000000007","seq":0,"of_spool":"00000000000000ff","of_seq":12,"click_id":"x","sub1":"\"seq\":12"}"#;
        assert_eq!(String::from_utf8(fed.clone()).unwrap(), wanted);
        // Parked once more.
        let wanted = r#"{"event":"click","schema":1,"spool":"0000000000000009","seq":4,"of_spool":"0000000000000007","of_seq":0,"click_id":"x","sub1":"\"seq\":12"}"#;
        assert_eq!(text(readdressed(&fed, (7, 0), (9, 4))), wanted);
        assert_eq!(readdressed(record, (255, 1), (7, 0)), None);
        assert_eq!(readdressed(b"rubbish", (255, 12), (7, 0)), None);
        let unparked = Unparked { spool: 7, seq: 1, of_spool: 255, of_seq: 12, unparked_at_ms: TimeMs(1) };
        let written = Event::unparked(&unparked);
        assert!(matches!(Event::parse(written.as_bytes()), Ok(Event::Unparked(read)) if read == unparked));
        assert_eq!(written_by_us(written.as_bytes()).and_then(|address| address.seq), Some(1));
    }

    #[test]
    fn v3_a_number_that_no_spool_reaches_is_no_record() {
        for (seq, is_one) in [(NUMBERS - 1, true), (NUMBERS, false), (1 << 63, false), (u64::MAX, false)] {
            let ours = format!(r#"{{"event":"click","schema":1,"spool":"00000000000000ff","seq":{seq}}}"#);
            assert_eq!(address(ours.as_bytes()).is_some(), is_one, "{seq}");
            let others = format!(r#"{{"seq":{seq},"spool":"00000000000000ff","event":"click"}}"#);
            assert_eq!(address(others.as_bytes()).is_some(), is_one, "{seq}");
            for field in ["seq", "shipped", "unspooled", "late"] {
                let mut state = serde_json::json!({"event": "seal", "schema": 1, "spool": "00000000000000ff", "seq": 1,
                    "topic": "clicks", "edge": "e", "at_ms": 1, "shipped": 1, "unspooled": 0, "late": 0});
                state[field] = seq.into();
                assert_eq!(Event::parse(state.to_string().as_bytes()).is_ok(), is_one, "{field} {seq}");
            }
            let parked = format!(
                r#"{{"event":"parked","schema":1,"spool":"00000000000000ff","seq":1,"why":"lost","bytes":{seq},"parked_at_ms":1}}"#
            );
            assert_eq!(Event::parse(parked.as_bytes()).is_ok(), is_one, "{seq}");
        }
    }

    #[test]
    fn v10_states_and_parked_records_read_back() {
        let state = SpoolState {
            spool: 7,
            seq: Some(9),
            topic: "clicks".into(),
            edge: "edge-1".into(),
            at_ms: TimeMs(5),
            shipped: 8,
            oldest_unshipped_ms: Some(TimeMs(4)),
            unspooled: 0,
            late: 2,
        };
        let written = Event::heartbeat(&state);
        assert!(
            written.starts_with(r#"{"event":"heartbeat","schema":1,"spool":"0000000000000007","seq":9,"#),
            "{written}"
        );
        assert!(matches!(Event::parse(written.as_bytes()), Ok(Event::Heartbeat(read)) if *read == state));
        let none = SpoolState { seq: None, oldest_unshipped_ms: None, ..state };
        let written = Event::seal(&none);
        assert!(matches!(Event::parse(written.as_bytes()), Ok(Event::Seal(read)) if *read == none));
        assert_eq!(address(written.as_bytes()), Some(Address { event: "seal", spool: 7, seq: None }));
        let parked = Parked { spool: 7, seq: 1, why: "too_large".into(), bytes: 9, parked_at_ms: TimeMs(1) };
        let written = Event::parked(&parked);
        assert!(matches!(Event::parse(written.as_bytes()), Ok(Event::Parked(read)) if read == parked));
    }
}
