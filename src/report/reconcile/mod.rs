//! `afflux reconcile`: what was answered, spooled, shipped, consumed and attributed, by spool and topic (contract P1, P6).
//!
//! In one process the shipped stage is the cursor of what is consumed. In a cluster every edge tells over Kafka how far its
//! spools are and which are shipped for good; so one look at the store names what is missing, whose it is and what heals it.
//! On an edge, where no store is configured, its disk is compared with what Kafka has acknowledged.
//!
//! Answered is what was spooled and what had no room in the spool (undurable); a report that was spooled and refused with
//! 503, since its fdatasync did not come, counts as well. Consumed is the cursor: it has passed what is applied, and what
//! a disk lost or nothing could apply, which is named. Attributed are the conversions whose report stands in the spool
//! and somebody earned.
//!
//! Lag heals by itself and is no fault; a gap or damage never does, and is named with what to do about it.

mod line;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};

use line::{Line, Passed};
pub use pass::{Range, Wish, pass};

use super::command::{CommandError, Verdict};
use crate::spool::{SpoolId, Topic};
use crate::store::{Fate, KnownSpool, Mark, Quarantine, Reader, Retired, StoreError, View};
use crate::time::TimeMs;

/// What the disk says of one spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    pub spool: SpoolId,
    pub topic: Topic,
    /// The number of the first record that is still there.
    pub first: u64,
    /// How many records it was given.
    pub records: u64,
    /// It gets no more.
    pub sealed: bool,
    /// A process writes to it now.
    pub written_to: bool,
    /// Records of it that cannot be read.
    pub damaged: u64,
    /// Answered without a record: there was no room, or the disk failed.
    pub unspooled: u64,
    /// Answered before their record was known to be on disk.
    pub late: u64,
    /// Valid records behind a torn one, which are not used.
    pub tail: u64,
    /// Acknowledged by Kafka: all below this number. None where nothing ships.
    pub shipped: Option<u64>,
}

/// What the disk says: of each spool, and of what should be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub spooled: Vec<Spooled>,
    /// Directories that are not readable as a spool of their place.
    pub faults: Vec<String>,
}

/// Where and when it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Records go over Kafka.
    pub cluster: bool,
    pub now: TimeMs,
}

/// What the store says of all spools. Without a store nothing is applied.
#[derive(Debug, Default)]
struct Applied {
    marks: Vec<Mark>,
    /// Spools without a line: applied to their ends long ago.
    retired: Vec<Retired>,
    told: Vec<KnownSpool>,
    quarantined: Vec<Quarantine>,
    dead_letters: u64,
    attributed: HashMap<SpoolId, u64>,
    witnessed: HashMap<SpoolId, u64>,
}

impl Applied {
    fn read(view: View<'_>, disk: &Disk) -> Result<Applied, StoreError> {
        let told = view.spool_states()?;
        let quarantined = view.quarantined()?;
        let (marks, retired) = marks(view, disk, &told, &quarantined)?;
        Ok(Applied {
            marks,
            retired,
            told,
            quarantined,
            dead_letters: view.dead_letter_count()?,
            attributed: view.attributed_by_spool()?.into_iter().collect(),
            witnessed: view.witnessed()?.into_iter().collect(),
        })
    }
}

/// All marks but those of retired spools, which are added up; but for those that somebody still has, and those of which
/// something has to be named, however long ago it was.
fn marks(
    view: View<'_>,
    disk: &Disk,
    told: &[KnownSpool],
    quarantined: &[Quarantine],
) -> Result<(Vec<Mark>, Vec<Retired>), StoreError> {
    let (mut marks, mut retired) = (view.marks()?, view.retired()?);
    let at_work: HashSet<SpoolId> = marks.iter().map(|mark| mark.spool).collect();
    let seen = disk.spooled.iter().map(|disk| disk.spool).chain(told.iter().map(|told| SpoolId(told.state.spool)));
    let seen = seen.chain(quarantined.iter().map(|range| range.spool));
    let others: BTreeSet<SpoolId> = seen.filter(|spool| !at_work.contains(spool)).collect();
    for mark in view.retired_of(&others.into_iter().collect::<Vec<_>>())? {
        for sum in retired.iter_mut().filter(|sum| sum.topic == mark.topic) {
            sum.spools -= 1;
            sum.records -= mark.next;
        }
        marks.push(mark);
    }
    Ok((marks, retired))
}

/// Compares; `reader` is `None` where there is no store, or none yet.
pub fn reconcile(
    reader: Option<&mut Reader>,
    disk: &Disk,
    asked: Asked,
    out: &mut dyn Write,
) -> Result<Verdict, CommandError> {
    let Asked { cluster, now } = asked;
    let applied = reader.map(|reader| reader.view(|view| Applied::read(view, disk))).transpose()?.unwrap_or_default();
    let lines = lines(&applied, &disk.spooled);
    write_head(cluster, out)?;
    for line in &lines {
        line.write(cluster, now, out)?;
    }
    for topic in [Topic::Clicks, Topic::Conversions] {
        let of_topic: Vec<&Line> = lines.iter().filter(|line| line.topic == topic).collect();
        let retired = applied.retired.iter().find(|sum| sum.topic == topic && sum.spools > 0);
        retired.iter().try_for_each(|Retired { spools, records, .. }| {
            writeln!(out, "{}: {spools} spools with {records} records are done with long ago", topic.name())
        })?;
        write_sums(topic, &of_topic, cluster, out)?;
    }
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
    let notes = [
        (sum(Line::late), "answers went out before their record was known to be on disk"),
        (sum(Line::tail), "records behind a torn one at the end of a crashed spool: not used"),
        (sum(|line| line.lost), "records lost by a disk and passed"),
        (sum(|line| line.parked), "records parked, as Kafka would not take them, and passed"),
        (sum(|line| line.fed), "records parked, and fed again in another spool"),
        (applied.dead_letters, "records kept as dead letters: they could not be applied"),
    ];
    for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "{count} {what}")?;
    }
    let spools = disk.faults.iter().map(|fault| format!("SPOOL {fault}"));
    let bad: Vec<String> = lines.iter().filter_map(|line| line.fault(cluster, now)).chain(spools).collect();
    bad.iter().try_for_each(|fault| writeln!(out, "{fault}"))?;
    lines.iter().flat_map(Line::passed).try_for_each(|passed| writeln!(out, "{passed}"))?;
    lines.iter().filter_map(|line| line.silence(now)).try_for_each(|silence| writeln!(out, "{silence}"))?;
    Ok(Verdict::good_if(bad.is_empty()))
}

fn write_head(cluster: bool, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{:<16} {:<11} {:<8} {:>12} {:>12}", "spool", "topic", "state", "answered", "spooled")?;
    if cluster {
        write!(out, " {:>12}", "shipped")?;
    }
    write!(out, " {:>12} {:>10} {:>10}", "consumed", "attributed", "lag")?;
    writeln!(out, "{}", if cluster { "  edge/partition" } else { "" })
}

/// The chain of counts of a topic, each sum as it must be.
fn write_sums(topic: Topic, lines: &[&Line], cluster: bool, out: &mut dyn Write) -> io::Result<()> {
    let sum = |of: fn(&Line) -> u64| lines.iter().map(|line| of(line)).sum::<u64>();
    let (spooled, consumed) = (sum(Line::spooled), sum(|line| line.mark.next));
    let (answered, undurable) = (sum(Line::answered), sum(Line::unspooled));
    write!(out, "{}: {answered} answered = {spooled} spooled + {undurable} undurable; ", topic.name())?;
    if cluster {
        let (shipped, unshipped) = (sum(Line::shipped), sum(Line::unshipped));
        write!(out, "{spooled} spooled = {shipped} shipped + {unshipped} unshipped; ")?;
        write!(out, "{shipped} shipped = {consumed} consumed + {} lag", sum(Line::consumer_lag))?;
    } else {
        write!(out, "{spooled} spooled = {consumed} consumed + {} lag", sum(Line::lag))?;
    }
    match topic {
        Topic::Clicks => writeln!(out),
        Topic::Conversions => writeln!(out, "; {} attributed", sum(|line| line.attributed)),
    }
}

fn lines(applied: &Applied, spooled: &[Spooled]) -> Vec<Line> {
    let mut lines: BTreeMap<SpoolId, Line> = BTreeMap::new();
    for disk in spooled {
        lines.entry(disk.spool).or_insert_with(|| Line::of(disk.spool, disk.topic)).disk = Some(*disk);
    }
    for told in &applied.told {
        // A topic of a later version has no line.
        let Some(topic) = Topic::named(&told.state.topic) else { continue };
        let spool = SpoolId(told.state.spool);
        lines.entry(spool).or_insert_with(|| Line::of(spool, topic)).told = Some(told.clone());
    }
    for mark in &applied.marks {
        lines.entry(mark.spool).or_insert_with(|| Line::of(mark.spool, mark.topic)).mark = *mark;
    }
    for range in &applied.quarantined {
        let Some(line) = lines.get_mut(&range.spool) else { continue };
        let (first, last) = (range.first, range.last);
        let count = last - first + 1;
        match &range.fate {
            Fate::Lost => line.lost += count,
            Fate::Parked => line.parked += count,
            Fate::Fed => line.fed += count,
            Fate::Passed { reason, at } => line.passed.push(Passed { first, last, reason: reason.clone(), at: *at }),
        }
    }
    for (spool, count) in &applied.attributed {
        if let Some(line) = lines.get_mut(spool) {
            line.attributed = *count;
        }
    }
    for (spool, count) in &applied.witnessed {
        if let Some(line) = lines.get_mut(spool) {
            line.witnessed = *count;
        }
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    lines.sort_by_key(|line| (line.topic, line.mark.first, line.spool));
    lines
}
