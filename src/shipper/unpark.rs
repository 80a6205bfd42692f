//! `afflux reship SPOOL --parked`: parked records are fed again, under a new spool ID (contract V10).
//!
//! Three files in the directory of the spool say how far that is, each whole or not there:
//!
//! 1. `feeding` names the new spool and, in order, the numbers that go into it. Written first: so whoever goes on after a
//!    kill makes the same spool with the same records, and a reader that has one of them drops it.
//! 2. The new spool is made, and gets its name when it is whole and sealed. From then on any shipper ships it.
//! 3. `fed` says where each number went. Then `feeding` goes, and `parked`, once all of it is fed.
//!
//! Behind each record stands an `unparked` event, by which the books know that nothing is missing any more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::parked::{self, Entry};
use crate::event::{self, Event, Unparked};
use crate::spool::{self, Item, Known, PARKED_FILE, SpoolId};
use crate::time::TimeMs;

const FEEDING: &str = "feeding";
const FED: &str = "fed";

/// Records of the new spool for each one that was parked: itself, and the event behind it.
const EACH: u64 = 2;

/// Records that are fed at once, and their bytes; of more the next call takes the rest. They are in memory meanwhile.
const MAX_RECORDS: usize = 1_024;
const MAX_BYTES: usize = 64 << 20;

/// What was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// The spool that they are in now.
    pub spool: SpoolId,
    pub records: usize,
    /// Parked, and not fed yet.
    pub left: usize,
    /// Of these what is no event under its number, and cannot be given another.
    pub foreign: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum NotFed {
    #[error("{0}: no such spool in this directory")]
    Unknown(SpoolId),
    #[error("{0}: nothing of it is parked here; what a disk lost is not kept by anybody, and cannot be fed again")]
    Nothing(SpoolId),
    #[error("{spool}: {records} records are parked that are no events of ours; they cannot be fed again")]
    Foreign { spool: SpoolId, records: usize },
    #[error("{0}: its parked records are being changed at this moment; try again")]
    Busy(SpoolId),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// The place at which a test lets the process be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Planned,
    Made,
    Told,
    Forgotten,
}

/// The new spool, and the numbers that go into it in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    spool: SpoolId,
    numbers: Vec<u64>,
}

/// Feeds what is parked of a spool again. On disk when it returns; a shipper that runs, or the next one, ships it.
pub fn feed(directory: &Path, spool: SpoolId, now: TimeMs) -> Result<Fed, NotFed> {
    feed_until(directory, spool, now, |_| true)
}

/// `goes_on`: false where it ends as if it was killed there.
fn feed_until(directory: &Path, spool: SpoolId, now: TimeMs, goes_on: impl Fn(Step) -> bool) -> Result<Fed, NotFed> {
    let known = spool::find(directory, spool)?.ok_or(NotFed::Unknown(spool))?;
    let home = &known.directory;
    let _lock = match parked::lock(&home.join(PARKED_FILE), File::options().append(true)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(NotFed::Nothing(spool)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(NotFed::Busy(spool)),
        lock => lock?,
    };
    let entries = parked::read(home, spool)?;
    let fed_before = fed(home)?;
    let plan = match Plan::read(home)? {
        Some(plan) if plan.can_be_kept(directory, &entries, &fed_before)? => plan,
        _ => Plan::make(home, spool, &entries, &fed_before)?,
    };
    let ended = |records| Fed { spool: plan.spool, records, left: 0, foreign: 0 };
    if !goes_on(Step::Planned) {
        return Ok(ended(0));
    }
    if !plan.numbers.iter().all(|number| fed_before.contains(number)) {
        let records = || plan.records(spool, &entries, now);
        spool::write_sealed(directory, (known.topic(), plan.spool), records, now)?;
        if !goes_on(Step::Made) {
            return Ok(ended(0));
        }
        // What was parked is forgotten for it.
        plan.check(directory)?;
        plan.tell(home)?;
    }
    if !goes_on(Step::Told) {
        return Ok(ended(0));
    }
    fs::remove_file(home.join(FEEDING))?;
    File::open(home)?.sync_all()?;
    let fed = fed(home)?;
    let left: Vec<&Entry> = entries.iter().filter(|entry| !fed.contains(&entry.seq)).collect();
    if goes_on(Step::Forgotten) && left.is_empty() {
        fs::remove_file(home.join(PARKED_FILE))?;
        File::open(home)?.sync_all()?;
    }
    let foreign = left.iter().filter(|entry| !is_ours(spool, entry)).count();
    Ok(Fed { spool: plan.spool, records: plan.numbers.len(), left: left.len(), foreign })
}

/// The numbers of a spool that were parked and are fed again.
pub fn fed(home: &Path) -> io::Result<BTreeSet<u64>> {
    let Some(text) = text_of(&home.join(FED))? else { return Ok(BTreeSet::new()) };
    let number = |line: &str| line.split(' ').next()?.parse().ok();
    text.lines().map(|line| number(line).ok_or_else(|| unreadable(FED))).collect()
}

/// The ID of the spool that these records are fed in: of the same ones it is the same, also from an older copy of the
/// directory that knows nothing of it. Readers drop the second.
fn named_after(spool: SpoolId, numbers: &[u64]) -> SpoolId {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    SpoolId(xxh3_64_with_seed(&bytes, spool.0))
}

fn is_ours(spool: SpoolId, entry: &Entry) -> bool {
    event::readdressed(&entry.record, (spool.0, entry.seq), (0, 0)).is_some()
}

impl Plan {
    fn make(home: &Path, spool: SpoolId, entries: &[Entry], fed: &BTreeSet<u64>) -> Result<Plan, NotFed> {
        let left: Vec<&Entry> = entries.iter().filter(|entry| !fed.contains(&entry.seq)).collect();
        let ours = left.iter().filter(|entry| is_ours(spool, entry));
        let mut bytes = 0;
        let within = |entry: &&&Entry| {
            let is_first = bytes == 0;
            bytes += entry.record.len();
            is_first || bytes <= MAX_BYTES
        };
        let numbers: Vec<u64> = ours.take(MAX_RECORDS).take_while(within).map(|entry| entry.seq).collect();
        if numbers.is_empty() {
            return Err(match left.len() {
                0 => NotFed::Nothing(spool),
                records => NotFed::Foreign { spool, records },
            });
        }
        let plan = Plan { spool: named_after(spool, &numbers), numbers };
        let numbers: String = plan.numbers.iter().map(|number| format!("{number}\n")).collect();
        put(home, FEEDING, &format!("{}\n{numbers}", plan.spool))?;
        Ok(plan)
    }

    fn read(home: &Path) -> io::Result<Option<Plan>> {
        let Some(text) = text_of(&home.join(FEEDING))? else { return Ok(None) };
        let mut lines = text.lines();
        let spool = lines.next().and_then(|id| u64::from_str_radix(id, 16).ok()).ok_or_else(|| unreadable(FEEDING))?;
        let numbers = lines.map(|line| line.parse().map_err(|_| unreadable(FEEDING))).collect::<io::Result<_>>()?;
        Ok(Some(Plan { spool: SpoolId(spool), numbers }))
    }

    /// False where a record that it names is damaged by now: nobody can make its spool any more, and as long as nobody has,
    /// another one may be made of the rest.
    fn can_be_kept(&self, directory: &Path, entries: &[Entry], fed: &BTreeSet<u64>) -> io::Result<bool> {
        let is_there = |number: &u64| fed.contains(number) || entries.iter().any(|entry| entry.seq == *number);
        let damaged: Vec<&u64> = self.numbers.iter().filter(|number| !is_there(number)).collect();
        let is_kept = damaged.is_empty() || spool::find(directory, self.spool)?.is_some();
        if !is_kept {
            tracing::error!(numbers = ?damaged, "parked records are damaged and cannot be fed again; the others are");
        }
        Ok(is_kept)
    }

    /// Whether the new spool holds all that was to go into it, as far as nobody has deleted what was shipped of it.
    fn check(&self, directory: &Path) -> io::Result<()> {
        let made = self.numbers.len() as u64 * EACH;
        let is_whole = match spool::find(directory, self.spool)? {
            Some(known) => {
                known.position.sealed.is_some_and(|(records, _)| records == made) && is_readable(&known, made)?
            }
            None => false,
        };
        let why = || format!("{}: the new spool is not whole; move it away and try again", self.spool);
        if is_whole { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidData, why())) }
    }

    /// What goes into the new spool: the same whenever it is made.
    fn records(&self, of: SpoolId, entries: &[Entry], now: TimeMs) -> io::Result<Vec<Vec<u8>>> {
        let mut records = Vec::with_capacity(self.numbers.len() * EACH as usize);
        for (number, seq) in self.numbers.iter().zip((0..).step_by(EACH as usize)) {
            let entry = entries.iter().find(|entry| entry.seq == *number);
            let record =
                entry.and_then(|entry| event::readdressed(&entry.record, (of.0, *number), (self.spool.0, seq)));
            records.push(record.ok_or_else(|| unreadable(PARKED_FILE))?);
            let (spool, of_spool) = (self.spool.0, of.0);
            let unparked = Unparked { spool, seq: seq + 1, of_spool, of_seq: *number, unparked_at_ms: now };
            records.push(Event::unparked(&unparked).into_bytes());
        }
        Ok(records)
    }

    /// Adds where each went to what was fed before.
    fn tell(&self, home: &Path) -> io::Result<()> {
        let mut text = text_of(&home.join(FED))?.unwrap_or_default();
        for (number, seq) in self.numbers.iter().zip((0..).step_by(EACH as usize)) {
            text += &format!("{number} {} {seq}\n", self.spool);
        }
        put(home, FED, &text)
    }
}

fn is_readable(known: &Known, until: u64) -> io::Result<bool> {
    let mut reader = known.read_from(known.position.deleted_below)?;
    while reader.next_seq() < until {
        match reader.next(until)? {
            Some(Item::Record { .. }) => {}
            Some(Item::Lost { .. }) | None => return Ok(false),
        }
    }
    Ok(true)
}

fn text_of(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// The file as a whole or not at all, on disk when it returns.
fn put(home: &Path, name: &str, text: &str) -> io::Result<()> {
    let unfinished = home.join(format!(".{name}"));
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, home.join(name))?;
    File::open(home)?.sync_all()
}

fn unreadable(name: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the file `{name}` of the spool is damaged"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::shipper::tests::world::{NOW, order, spools};
    use crate::spool::Topic;

    /// A sealed spool whose first records are parked.
    pub fn parked(directory: &Path, numbers: u64) -> Known {
        let spools = spools(directory);
        let mut writer = spools.writer(Topic::Conversions, 0).unwrap();
        (0..numbers + 2).for_each(|number| order(&mut writer, number));
        let spool = writer.id();
        drop(writer);
        assert_eq!(spools.close(), []);
        let known = spool::find(spools.directory(), spool).unwrap().unwrap();
        (0..numbers).for_each(|number| park_again(&known, number));
        known
    }

    fn park_again(known: &Known, number: u64) {
        let mut reader = known.read_from(number).unwrap();
        let Ok(Some(Item::Record { payload, .. })) = reader.next(number + 1) else { panic!("{number}") };
        parked::park(&known.directory, known.id(), number, payload).unwrap();
    }

    /// Orders of all spools but the one whose records were parked, by their spools and numbers.
    fn fed_orders(directory: &Path, but: SpoolId) -> Vec<(SpoolId, u64, String)> {
        let spools = spools(directory);
        let mut orders = Vec::new();
        for known in spools.list().unwrap().iter().filter(|known| known.id() != but) {
            let mut reader = known.read_from(0).unwrap();
            let (records, _) = known.position.sealed.unwrap();
            while let Some(item) = reader.next(records).unwrap() {
                let Item::Record { seq, payload } = item else { panic!("{item:?}") };
                let address = event::address(payload).unwrap();
                assert_eq!((address.spool, address.seq), (known.id().0, Some(seq)));
                if let Ok(Event::Unparked(unparked)) = Event::parse(payload) {
                    assert_eq!((unparked.of_spool, seq % EACH), (but.0, 1));
                    continue;
                }
                let order: serde_json::Value = serde_json::from_slice(payload).unwrap();
                orders.push((known.id(), seq, order["order_id"].as_str().unwrap().to_owned()));
            }
            assert!(reader.scratches.is_empty(), "{:?}", reader.scratches);
        }
        orders.sort();
        orders
    }

    #[test]
    fn v10_parked_records_are_fed_again_under_a_new_spool_id_and_no_more_than_once() {
        let home = tempfile::tempdir().unwrap();
        let known = parked(home.path(), 3);
        let root = known.directory.parent().unwrap();
        let fed = feed(root, known.id(), NOW).unwrap();
        assert_eq!((fed.records, fed.left, fed.foreign), (3, 0, 0));
        let wanted = [(0, "A0"), (2, "A1"), (4, "A2")].map(|(seq, order)| (fed.spool, seq, order.to_owned()));
        assert_eq!(fed_orders(home.path(), known.id()), wanted);
        assert!(matches!(feed(root, known.id(), NOW), Err(NotFed::Nothing(_))));
        // Kafka lost something: the spool is sent again, and its record is refused again.
        park_again(&known, 1);
        assert!(matches!(feed(root, known.id(), NOW), Err(NotFed::Nothing(_))));
        assert_eq!(parked::numbers(&known.directory, known.id()).unwrap(), [0, 1, 2].into());
        assert!(matches!(feed(root, SpoolId(1), NOW), Err(NotFed::Unknown(_))));
    }

    /// Killed behind any step, and while another record is parked: each is fed once.
    #[test]
    fn v10_a_kill_at_any_step_neither_loses_nor_doubles_a_record() {
        for killed_at in [Step::Planned, Step::Made, Step::Told, Step::Forgotten] {
            let home = tempfile::tempdir().unwrap();
            let known = parked(home.path(), 2);
            let root = known.directory.parent().unwrap();
            feed_until(root, known.id(), NOW, |step| step != killed_at).unwrap();
            park_again(&known, 2);
            let fed = (0..4).find(|_| matches!(feed(root, known.id(), NOW), Err(NotFed::Nothing(_))));
            assert!(fed.is_some(), "{killed_at:?}");
            let orders = fed_orders(home.path(), known.id());
            let ids: Vec<&str> = orders.iter().map(|(_, _, order)| order.as_str()).collect();
            let ids: BTreeSet<&str> = ids.iter().copied().inspect(|_| assert_eq!(ids.len(), 3)).collect();
            assert_eq!(ids, ["A0", "A1", "A2"].into(), "{killed_at:?}");
            assert!(!known.directory.join(PARKED_FILE).exists() && !known.directory.join(FEEDING).exists());
        }
    }

    /// A damaged entry costs itself: named in a plan it keeps nobody from feeding the others, and where its spool was made
    /// it is in there.
    #[test]
    fn v10_a_record_that_is_damaged_after_it_was_planned_keeps_no_other_back() {
        for (killed_at, wanted) in [(Step::Planned, &["A1", "A2"][..]), (Step::Made, &["A0", "A1", "A2"][..])] {
            let home = tempfile::tempdir().unwrap();
            let known = parked(home.path(), 3);
            let root = known.directory.parent().unwrap();
            feed_until(root, known.id(), NOW, |step| step != killed_at).unwrap();
            let path = known.directory.join(PARKED_FILE);
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 0x40;
            fs::write(&path, bytes).unwrap();
            let fed = feed(root, known.id(), NOW).unwrap();
            assert_eq!((fed.records, fed.left), (wanted.len(), 0), "{killed_at:?}");
            let orders: Vec<String> = fed_orders(home.path(), known.id()).into_iter().map(|order| order.2).collect();
            assert_eq!(orders, wanted, "{killed_at:?}");
        }
    }

    #[test]
    fn v10_nothing_is_forgotten_for_a_spool_that_is_not_whole() {
        type Harm = fn(&Path);
        let emptied: Harm =
            |place| fs::read_dir(place).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        let cut: Harm =
            |place| File::options().write(true).open(place.join("0000000000.seg")).unwrap().set_len(4_200).unwrap();
        let removed: Harm = |place| fs::remove_dir_all(place).unwrap();
        for harm in [emptied, cut, removed] {
            let home = tempfile::tempdir().unwrap();
            let known = parked(home.path(), 3);
            let root = known.directory.parent().unwrap();
            let place = || root.join(format!("conversions-{}", Plan::read(&known.directory).unwrap().unwrap().spool));
            let harmed = feed_until(root, known.id(), NOW, |step| {
                if step == Step::Made {
                    harm(&place());
                }
                true
            });
            assert!(matches!(harmed, Err(NotFed::Disk(_))), "{harmed:?}");
            assert_eq!(parked::read(&known.directory, known.id()).unwrap().len(), 3);
            assert_eq!(super::fed(&known.directory).unwrap(), BTreeSet::new());
            let _ = fs::remove_dir_all(place());
            assert_eq!(feed(root, known.id(), NOW).unwrap().records, 3);
            assert_eq!(fed_orders(home.path(), known.id()).len(), 3);
        }
    }

    #[test]
    fn v10_an_older_copy_of_the_directory_feeds_the_same_spool() {
        let home = tempfile::tempdir().unwrap();
        let known = parked(home.path(), 3);
        let root = known.directory.parent().unwrap();
        let older = home.path().join("older");
        let copied = std::process::Command::new("cp").arg("-a").args([root, &older]).status().unwrap();
        assert!(copied.success());
        let fed = [root, &older].map(|directory| feed(directory, known.id(), NOW).unwrap());
        assert_eq!(fed[0], fed[1]);
    }

    #[test]
    fn a_half_made_spool_is_made_anew_and_what_is_no_event_stays() {
        let home = tempfile::tempdir().unwrap();
        let known = parked(home.path(), 1);
        let root = known.directory.parent().unwrap();
        parked::park(&known.directory, known.id(), 7, b"rubbish").unwrap();
        feed_until(root, known.id(), NOW, |_| false).unwrap();
        let plan = Plan::read(&known.directory).unwrap().unwrap();
        let unfinished = root.join(format!(".conversions-{}.new", plan.spool));
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join("0000000000.seg"), b"half").unwrap();
        let fed = feed(root, known.id(), NOW).unwrap();
        assert_eq!((fed.spool, fed.records, fed.left, fed.foreign), (plan.spool, 1, 1, 1));
        assert!(!unfinished.exists());
        assert_eq!(fed_orders(home.path(), known.id()).len(), 1);
        assert!(matches!(feed(root, known.id(), NOW), Err(NotFed::Foreign { records: 1, .. })));
    }
}
