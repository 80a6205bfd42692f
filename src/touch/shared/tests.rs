use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ::redis::Value;

use super::*;
use crate::catalog::{OfferId, PublisherId};
use crate::click::{ClickId, Keys, VisitorKey};
use crate::redis::testing::{self, Server, link_to};
use crate::time::{DAY_MS, TimeMs};

mod figures;
mod model;

const KEPT_MS: i64 = 44 * DAY_MS;

fn kept(buckets: u32, visitor_day_touches: u32) -> Kept {
    Kept { buckets, visitor_day_touches, kept_ms: KEPT_MS }
}

fn touches(link: Link, kept: Kept) -> SharedTouches {
    SharedTouches::new(link, kept, Arc::default())
}

/// Days are those of the server's clock.
fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    now - now % DAY_MS
}

struct Clicks(Keys);

impl Clicks {
    fn new() -> Clicks {
        Clicks(Keys::parse(&Keys::file_text(&[1; 64])).unwrap())
    }

    fn click(&self, at: i64, visitor: u64, random: u32) -> ClickId {
        let (offer, publisher) = (OfferId(1 + random % 300), PublisherId(1 << (random % 32)));
        ClickId::sign(&self.0, TimeMs(at), offer, publisher, VisitorKey(visitor), (random % 8) as u8, random)
    }
}

fn plain(click_id: ClickId) -> Touched<'static> {
    Touched { click_id, link: None, source: None, sub1: None }
}

fn position(next: i64) -> Position {
    Position { next, last: next as u64 * 7 }
}

fn found(index: &mut SharedTouches, visitor: u64, since: i64) -> Vec<ClickId> {
    let looked = index.find(&[(VisitorKey(visitor), TimeMs(since))]).unwrap();
    let mut ids = looked.found[0].click_ids.clone();
    ids.sort();
    ids
}

#[test]
fn what_was_added_is_found_with_its_position_and_labels() {
    for buckets in [1, 4] {
        let mut index = touches(link_to(&testing::settings()), kept(buckets, 4_096));
        let clicks = Clicks::new();
        let long = "ü".repeat(127);
        let ids: Vec<ClickId> = (0..40)
            .map(|n| clicks.click(today() - i64::from(n % 4) * DAY_MS + i64::from(n), (n % 3).into(), n))
            .collect();
        let labelled = |n: usize| Touched {
            click_id: ids[n],
            link: n.is_multiple_of(2).then_some("phone"),
            source: n.is_multiple_of(3).then_some(long.as_str()),
            sub1: n.is_multiple_of(5).then_some("a"),
        };
        let all: Vec<Touched<'_>> = (0..40).map(labelled).collect();
        assert_eq!(index.positions(), Ok(BTreeMap::new()));
        index.add(3, None, position(20), &all[..20]).unwrap();
        index.add(3, Some(position(20)), position(40), &all[20..]).unwrap();
        index.add(5, None, position(9), &[]).unwrap();
        let positions = BTreeMap::from([(3, position(40)), (5, position(9))]);
        assert_eq!(index.positions(), Ok(positions.clone()));

        let wanted: Vec<(VisitorKey, TimeMs)> = (0..4).map(|v| (VisitorKey(v), TimeMs(today() - DAY_MS + 7))).collect();
        let looked = index.find(&wanted).unwrap();
        assert_eq!(looked.positions, positions);
        for ((visitor, since), found) in wanted.iter().zip(&looked.found) {
            let mut got = found.click_ids.clone();
            got.sort();
            let right = |id: &&ClickId| id.visitor_key() == *visitor && id.clicked_at() >= *since;
            let mut expected: Vec<ClickId> = ids.iter().filter(right).copied().collect();
            expected.sort();
            assert_eq!((got, found.cut), (expected, false));
        }
        let labels = index.labels(&ids).unwrap();
        for (n, labels) in labels.iter().enumerate() {
            let touch = labelled(n);
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let (link, source, sub1) = (owned(touch.link), owned(touch.source), owned(touch.sub1));
            assert_eq!(labels.as_ref(), Some(&Labels { link, source, sub1 }), "{n}");
        }
        assert_eq!(index.labels(&[clicks.click(today(), 1, 999)]), Ok(vec![None]));
        assert_eq!(index.find(&[]).unwrap().positions, positions);
    }
}

#[test]
fn a_position_that_moved_is_told_and_adding_again_is_right() {
    let mut index = touches(link_to(&testing::settings()), kept(1, 4_096));
    let clicks = Clicks::new();
    let touch = plain(clicks.click(today(), 1, 1));
    index.add(0, None, position(10), &[touch]).unwrap();
    // Its answer was lost: the same again.
    index.add(0, None, position(10), &[touch]).unwrap();
    let other = plain(clicks.click(today(), 1, 2));
    let another_topic = Position { next: 10, last: 1 };
    for wrong in [None, Some(position(9)), Some(position(11)), Some(another_topic)] {
        assert_eq!(index.add(0, wrong, position(12), &[other]), Err(AddError::Moved));
    }
    assert_eq!(found(&mut index, 1, 0), [touch.click_id]);
    assert_eq!(index.metrics.moved.value(), 4);
    index.forget(0).unwrap();
    assert_eq!(index.positions(), Ok(BTreeMap::new()));
    assert_eq!(index.add(0, Some(position(10)), position(12), &[]), Err(AddError::Moved));
    index.add(0, None, position(12), &[touch, other]).unwrap();
    assert_eq!(found(&mut index, 1, 0).len(), 2);
}

#[test]
fn buckets_that_a_crash_left_apart_are_brought_together() {
    let settings = testing::settings();
    let mut index = touches(link_to(&settings), kept(3, 4_096));
    let clicks = Clicks::new();
    let ids: Vec<ClickId> = (0..30u32).map(|n| clicks.click(today(), u64::from(n) << 32, n)).collect();
    let all: Vec<Touched<'_>> = ids.iter().copied().map(plain).collect();
    index.add(0, None, position(10), &all[..10]).unwrap();
    // As if only the first bucket had got the next twenty.
    let first = index.buckets().next().unwrap();
    let in_first: Vec<&Touched<'_>> =
        all[10..].iter().filter(|touch| index.bucket_of(touch.click_id.visitor_key()) == 0).collect();
    index.add_to(&first, (0, Some(position(10)), position(30)), &Part::default(), &in_first).unwrap();
    assert_eq!(index.positions().unwrap()[&0], position(10));
    // The next batch is cut elsewhere than the one before the crash.
    index.add(0, Some(position(10)), position(25), &all[10..25]).unwrap();
    assert_eq!(index.positions().unwrap()[&0], position(25));
    index.add(0, Some(position(25)), position(30), &all[25..]).unwrap();
    assert_eq!(index.positions().unwrap()[&0], position(30));
    let wanted: Vec<_> = ids.iter().map(|id| (id.visitor_key(), TimeMs(0))).collect();
    let looked = index.find(&wanted).unwrap();
    for (id, found) in ids.iter().zip(&looked.found) {
        assert_eq!(found.click_ids, [*id]);
    }
    assert_eq!(index.add(0, Some(position(99)), position(100), &[]), Err(AddError::Moved));
    // Another number of buckets begins anew.
    assert_eq!(touches(link_to(&settings), kept(2, 4_096)).positions(), Ok(BTreeMap::new()));
}

/// One bucket forgot the topic that was, and the other did not.
#[test]
fn what_was_forgotten_halfway_is_forgotten_when_it_begins_anew() {
    let mut index = touches(link_to(&testing::settings()), kept(2, 4_096));
    index.add(0, None, position(1_000), &[]).unwrap();
    let first = index.buckets().next().unwrap();
    index.link.ask(&[::redis::cmd("HDEL").arg(&first.positions).arg(0).clone()]).unwrap();
    assert_eq!(index.positions(), Ok(BTreeMap::new()));
    index.add(0, None, position(10), &[]).unwrap();
    for bucket in index.buckets().collect::<Vec<_>>() {
        let kept = index.link.ask(&[::redis::cmd("HGETALL").arg(&bucket.positions).clone()]).unwrap();
        assert_eq!(packing::positions(kept.into_iter().next().unwrap()), [(0, position(10))].into());
    }
}

#[test]
fn a_part_that_was_lost_stops_the_rest() {
    let mut index = touches(link_to(&testing::settings()), kept(1, 4_096));
    let clicks = Clicks::new();
    let (one, other) = (plain(clicks.click(today(), 1, 1)), plain(clicks.click(today(), 1, 2)));
    let bucket = index.buckets().next().unwrap();
    for from in [None, Some(position(5))] {
        let moves = (0, from, position(7));
        let part = Part { behind: String::new(), leaves: "1".into() };
        let rest = Part { behind: "1".into(), leaves: String::new() };
        if let Some(from) = from {
            index.add(0, None, from, &[]).unwrap();
        }
        index.add_to(&bucket, moves, &part, &[&one]).unwrap();
        assert_eq!(index.positions().unwrap().get(&0).copied(), from);
        // Gone, and the position is as before the part.
        index.link.ask(&[::redis::cmd("FLUSHDB")]).unwrap();
        if let Some(from) = from {
            index.add(0, None, from, &[]).unwrap();
        }
        assert_eq!(index.add_to(&bucket, moves, &rest, &[&other]), Err(AddError::Moved));
        // A writer that begins again is not held up by a mark.
        index.add_to(&bucket, moves, &part, &[&one]).unwrap();
        index.add(0, from, position(7), &[one, other]).unwrap();
        assert_eq!(index.positions().unwrap()[&0], position(7));
        assert_eq!(found(&mut index, 1, 0).len(), 2);
        index.link.ask(&[::redis::cmd("FLUSHDB")]).unwrap();
    }
}

#[test]
fn beyond_the_cap_touches_are_left_out_and_look_ups_say_so() {
    for cap in [1, 5, 14, 200] {
        let mut index = touches(link_to(&testing::settings()), kept(1, cap));
        let clicks = Clicks::new();
        let all: Vec<Touched<'_>> = (0..cap + 3).map(|n| plain(clicks.click(today() + i64::from(n), 7, n))).collect();
        let whole = |index: &mut SharedTouches| index.find(&[(VisitorKey(7), TimeMs(0))]).unwrap().found.remove(0);
        index.add(0, None, position(1), &all[..cap as usize]).unwrap();
        assert!(!whole(&mut index).cut);
        index.add(0, Some(position(1)), position(2), &all).unwrap();
        let looked = whole(&mut index);
        assert_eq!((looked.click_ids.len(), looked.cut), (cap as usize, true));
        assert_eq!(index.metrics.left_out.value(), 3);
        // Another day is not.
        let next = today() - DAY_MS;
        index.add(0, Some(position(2)), position(3), &[plain(clicks.click(next, 7, 1_000))]).unwrap();
        assert_eq!(whole(&mut index).click_ids.len(), cap as usize + 1);
        assert!(index.labels(&[all[0].click_id]).unwrap()[0].is_some());
    }
}

#[test]
fn many_visitors_make_a_day_deeper_and_stay_in_small_hashes() {
    let mut index = touches(link_to(&testing::settings()), kept(1, 4_096));
    let clicks = Clicks::new();
    let mut next = 0;
    for day in [today() - DAY_MS, today()] {
        for from in (0..6_000u64).step_by(1_500) {
            let ids = (from..from + 1_500).map(|n| clicks.click(day, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n as u32));
            let all: Vec<Touched<'_>> = ids.map(plain).collect();
            let before = (next > 0).then(|| position(next));
            next += 1_500;
            index.add(0, before, position(next), &all).unwrap();
        }
    }
    let wanted: Vec<_> =
        (0..6_000u64).map(|n| (VisitorKey(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), TimeMs(0))).collect();
    let looked = index.find(&wanted).unwrap();
    assert!(looked.found.iter().all(|found| found.click_ids.len() == 2));
    let mut keys = ::redis::cmd("KEYS");
    keys.arg("t:*");
    let keys = packing::values(index.link.ask(&[keys]).unwrap().remove(0));
    let encodings: Vec<Cmd> = keys.iter().cloned().filter_map(packing::bytes).map(encoding).collect();
    let encodings = index.link.ask(&encodings).unwrap();
    let large = encodings.iter().filter(|encoding| **encoding != Value::BulkString(b"listpack".to_vec())).count();
    assert!((150..400).contains(&keys.len()), "{} keys", keys.len());
    assert_eq!(large, 0);
    // Every key goes by itself.
    let ages: Vec<Cmd> = keys.into_iter().filter_map(packing::bytes).map(|key| command("TTL", &key)).collect();
    for age in index.link.ask(&ages).unwrap() {
        let Value::Int(left) = age else { panic!("no TTL") };
        assert!((43 * 86_400..46 * 86_400).contains(&left), "{left}");
    }
}

fn command(name: &str, key: &[u8]) -> Cmd {
    let mut command = ::redis::cmd(name);
    command.arg(key);
    command
}

fn encoding(key: Vec<u8>) -> Cmd {
    let mut command = ::redis::cmd("OBJECT");
    command.arg("ENCODING").arg(key);
    command
}

#[test]
fn what_is_too_old_is_not_kept_and_days_that_are_over_are_forgotten() {
    let mut index = touches(link_to(&testing::settings()), kept(1, 4_096));
    let clicks = Clicks::new();
    let old = plain(clicks.click(today() - KEPT_MS - 2 * DAY_MS, 1, 1));
    let ahead = plain(clicks.click(today() + 400 * DAY_MS, 1, 2));
    index.add(0, None, position(1), &[old, ahead]).unwrap();
    assert_eq!(found(&mut index, 1, 0), [ahead.click_id]);
    let days = index.buckets().next().unwrap().days;
    let mut stale = ::redis::cmd("HSET");
    stale.arg(&days).arg(1).arg("86400;0:5");
    index.link.ask(&[stale]).unwrap();
    index.add(0, Some(position(1)), position(2), &[plain(clicks.click(today(), 1, 3))]).unwrap();
    assert_eq!(index.link.ask(&[command("HLEN", days.as_bytes())]), Ok(vec![Value::Int(2)]));
}

#[test]
fn a_heavy_visitor_does_not_keep_others_from_their_answer() {
    let mut index = touches(link_to(&testing::settings()), kept(1, 65_536));
    let clicks = Clicks::new();
    let heavy: Vec<Touched<'_>> = (0..18_000).map(|n| plain(clicks.click(today(), 1, n))).collect();
    index.add(0, None, position(1), &heavy).unwrap();
    let others: Vec<Touched<'_>> = (2..200).map(|v| plain(clicks.click(today(), v, 1))).collect();
    index.add(0, Some(position(1)), position(2), &others).unwrap();
    let wanted: Vec<_> = (1..200).chain([1]).map(|v| (VisitorKey(v), TimeMs(0))).collect();
    let looked = index.find(&wanted).unwrap();
    let counts: Vec<usize> = looked.found.iter().map(|found| found.click_ids.len()).collect();
    assert_eq!((counts[0], counts[199]), (18_000, 18_000));
    assert!(counts[1..199].iter().all(|count| *count == 1));
    assert_eq!(looked.positions[&0], position(2));
}

#[test]
fn full_or_down_is_told_and_what_is_there_is_still_found() {
    let mut server = Server::start(&[]);
    let mut index = touches(server.link(), kept(1, 4_096));
    let clicks = Clicks::new();
    let (one, other) = (plain(clicks.click(today(), 1, 1)), plain(clicks.click(today(), 1, 2)));
    index.add(0, None, position(1), &[one]).unwrap();
    let set = |name: &str, value: &str| {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        command
    };
    assert_eq!(index.check_policy(), Ok(true));
    index.link.ask(&[set("maxmemory-policy", "allkeys-lru"), set("maxmemory", "1gb")]).unwrap();
    assert_eq!(index.check_policy(), Ok(false));
    assert_eq!(index.link.metrics().evicting.value(), 1);
    index.link.ask(&[set("maxmemory-policy", "noeviction"), set("maxmemory", "1")]).unwrap();
    assert_eq!(index.check_policy(), Ok(true));
    assert_eq!(index.link.metrics().evicting.value(), 0);
    assert_eq!(index.add(0, Some(position(1)), position(2), &[other]), Err(AddError::Full));
    assert_eq!(found(&mut index, 1, 0), [one.click_id]);
    index.link.ask(&[set("maxmemory", "0")]).unwrap();
    index.add(0, Some(position(1)), position(2), &[other]).unwrap();
    server.kill();
    assert_eq!(index.add(0, Some(position(2)), position(3), &[]), Err(AddError::Unavailable));
    assert!(index.find(&[]).is_err());
    assert!(index.positions().is_err());
    assert!(index.labels(&[one.click_id]).is_err());
}

#[test]
fn erased_visitors_have_no_touches_and_the_position_stays() {
    for buckets in [1, 3] {
        let mut index = touches(link_to(&testing::settings()), kept(buckets, 4_096));
        let clicks = Clicks::new();
        // Visitor 1 has one click, 2 some parts of a day, 3 a hash of its own; each on two days.
        let of = |visitor: u64, many: u32| (0..many).map(move |n| (visitor, n));
        let ids: Vec<ClickId> = of(1, 1)
            .chain(of(2, 6))
            .chain(of(3, 60))
            .flat_map(|(visitor, n)| [0, DAY_MS].map(|ago| clicks.click(today() - ago, visitor, n)))
            .collect();
        let all: Vec<Touched<'_>> = ids.iter().copied().map(plain).collect();
        index.add(0, None, position(99), &all).unwrap();
        let keys = [VisitorKey(2), VisitorKey(3), VisitorKey(77)];
        assert_eq!(index.erase(&keys, true), Ok(132));
        assert_eq!(found(&mut index, 3, 0).len(), 120, "only counted");
        assert_eq!(index.erase(&keys, false), Ok(132));
        assert_eq!([1, 2, 3].map(|visitor| found(&mut index, visitor, 0).len()), [2, 0, 0]);
        assert_eq!(index.erase(&keys, false), Ok(0));
        assert_eq!(index.positions().unwrap()[&0], position(99));
        assert_eq!(index.labels(&[ids[4]]), Ok(vec![None]));
        // They may come again.
        index.add(0, Some(position(99)), position(100), &[plain(ids[4])]).unwrap();
        assert_eq!(found(&mut index, 2, 0), [ids[4]]);
    }
}
