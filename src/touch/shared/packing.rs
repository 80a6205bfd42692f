//! Touches, positions and answers as bytes; `layout.lua` tells what they are to the scripts.
//!
//! A click ID without its visitor and day, which are known from where it lies: version and key, milliseconds of the day,
//! offer and publisher as variable-length integers, labels, random, tag. 20 bytes mostly instead of 36.

use std::collections::BTreeMap;

use ::redis::Value;

use super::super::{Found, Labels, Touched};
use super::{Position, array};
use crate::click::{CLICK_ID_BYTES, ClickId, VisitorKey};
use crate::time::{DAY_MS, TimeMs};

/// Of a record's first byte: how long its ID is.
const ID_LENGTH: u8 = 31;
/// And which labels follow: link, source, sub1.
const LABEL_FLAGS: [u8; 3] = [32, 64, 128];
/// Labels, random and tag: the end of a click ID, as it is.
const TAIL: std::ops::Range<usize> = 23..CLICK_ID_BYTES;

pub fn position(position: Position) -> String {
    format!("{}:{:016x}", position.next, position.last)
}

/// Behind a `+` stands the mark of a part (see `add.lua`).
fn read_position(text: &[u8]) -> Option<Position> {
    let (next, last) = std::str::from_utf8(text).ok()?.split('+').next()?.split_once(':')?;
    Some(Position { next: next.parse().ok()?, last: u64::from_str_radix(last, 16).ok()? })
}

/// Of an HGETALL. What cannot be read is none, as if it were not there.
pub fn positions(answer: Value) -> BTreeMap<i32, Position> {
    let pairs: Vec<Vec<u8>> = values(answer).into_iter().filter_map(bytes).collect();
    let read = |[partition, position]: &[Vec<u8>; 2]| {
        let partition = std::str::from_utf8(partition).ok()?.parse().ok()?;
        Some((partition, read_position(position)?))
    };
    pairs.as_chunks().0.iter().filter_map(read).collect()
}

/// Of `add.lua`: touches left out, or `None` where the position is not what it was believed to be.
pub fn added(answer: Value) -> Option<u64> {
    match &values(answer)[..] {
        [Value::Int(1), Value::Int(left_out)] => Some(u64::try_from(*left_out).unwrap_or_default()),
        _ => None,
    }
}

pub fn id(click_id: ClickId) -> Vec<u8> {
    let whole = click_id.as_bytes();
    let in_day = click_id.clicked_at().0.rem_euclid(DAY_MS);
    let mut packed = Vec::with_capacity(28);
    packed.push(whole[0]);
    // A day has fewer milliseconds than four bytes count.
    packed.extend_from_slice(&u32::try_from(in_day).unwrap_or_default().to_be_bytes());
    write_number(click_id.offer_id().0, &mut packed);
    write_number(click_id.publisher_id().0, &mut packed);
    packed.extend_from_slice(&whole[TAIL]);
    packed
}

fn read_id(packed: &[u8], visitor: VisitorKey, day: i64) -> Option<ClickId> {
    let (first, rest) = packed.split_first()?;
    let (in_day, rest) = rest.split_first_chunk()?;
    let at = day.checked_mul(DAY_MS)?.checked_add(i64::from(u32::from_be_bytes(*in_day)))?;
    let (offer, rest) = read_number(rest)?;
    let (publisher, rest) = read_number(rest)?;
    let mut whole = [0; CLICK_ID_BYTES];
    whole[0] = *first;
    whole[1..7].copy_from_slice(&at.to_be_bytes()[2..]);
    whole[7..11].copy_from_slice(&offer.to_be_bytes());
    whole[11..15].copy_from_slice(&publisher.to_be_bytes());
    whole[15..23].copy_from_slice(&visitor.0.to_be_bytes());
    if rest.len() != TAIL.len() {
        return None;
    }
    whole[TAIL].copy_from_slice(rest);
    ClickId::from_bytes(whole)
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn write_number(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(number).ok()?, &bytes[place + 1..]));
        }
    }
    None
}

/// Labels are cut to 255 bytes before they come here; an empty one is none.
pub fn record(touch: &Touched<'_>) -> Vec<u8> {
    let id = id(touch.click_id);
    // At most 28.
    let mut head = id.len() as u8;
    let mut labels = Vec::new();
    for (flag, label) in LABEL_FLAGS.into_iter().zip([touch.link, touch.source, touch.sub1]) {
        let Some(label) = label.filter(|label| !label.is_empty()) else { continue };
        let label = &label[..label.floor_char_boundary(usize::from(u8::MAX))];
        head |= flag;
        labels.push(label.len() as u8);
        labels.extend_from_slice(label.as_bytes());
    }
    [&[head], &id[..], &labels].concat()
}

/// One record at the beginning of `text`: its ID, its head with its labels, and the rest.
fn split_record(text: &[u8]) -> Option<(&[u8], Labels, &[u8])> {
    let (head, rest) = text.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(head & ID_LENGTH))?;
    let (labels, rest) = read_labels(*head, rest)?;
    Some((id, labels, rest))
}

fn read_labels(head: u8, mut rest: &[u8]) -> Option<(Labels, &[u8])> {
    let mut labels = Labels::default();
    for (flag, label) in LABEL_FLAGS.into_iter().zip([&mut labels.link, &mut labels.source, &mut labels.sub1]) {
        if head & flag != 0 {
            let (length, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at_checked(usize::from(*length))?;
            *label = Some(String::from_utf8_lossy(text).into_owned());
            rest = behind;
        }
    }
    Some((labels, rest))
}

type PositionsAndFound = (BTreeMap<i32, Position>, Vec<Found>);

/// Of `find.lua`: as many visitors as it answered.
pub fn found(answer: Value, visitors: impl Iterator<Item = (VisitorKey, TimeMs)>) -> Option<PositionsAndFound> {
    let mut answers = array(answer)?.into_iter();
    let positions = positions(answers.next()?);
    let found = visitors.zip(answers).map(|((visitor, since), days)| found_of(days, visitor, since));
    Some((positions, found.collect()))
}

/// A click that lies there twice, as it came with another clock once, is one.
fn found_of(answer: Value, visitor: VisitorKey, since: TimeMs) -> Found {
    let mut answers = values(answer).into_iter();
    let mut found = Found { cut: answers.next() == Some(Value::Int(1)), click_ids: Vec::new() };
    while let (Some(Value::Int(day)), Some(records)) = (answers.next(), answers.next().and_then(bytes)) {
        let mut rest = &records[..];
        while let Some((id, _, behind)) = split_record(rest) {
            found.click_ids.extend(read_id(id, visitor, day).filter(|id| id.clicked_at() >= since));
            rest = behind;
        }
    }
    found
}

/// Of `labels.lua`, for one click.
pub fn labels(answer: Value, click_id: ClickId) -> Option<Labels> {
    let mut answer = values(answer).into_iter();
    let (kind, text) = (answer.next()?, answer.next().and_then(bytes)?);
    if kind == Value::Int(1) {
        return match text.split_first() {
            None => Some(Labels::default()),
            Some((head, rest)) => read_labels(*head, rest).map(|(labels, _)| labels),
        };
    }
    let wanted = id(click_id);
    let mut rest = &text[..];
    while let Some((id, labels, behind)) = split_record(rest) {
        if id == wanted {
            return Some(labels);
        }
        rest = behind;
    }
    None
}

pub fn values(value: Value) -> Vec<Value> {
    array(value).unwrap_or_default()
}

pub fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}
