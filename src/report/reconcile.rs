//! `afflux reconcile`: what was answered, spooled, consumed and attributed, by spool and topic (contract P1, P6).
//!
//! Answered is what was spooled and what had no room in the spool (undurable); a report that was spooled and refused with
//! 503, since its fdatasync did not come, counts as well. Consumed is the cursor: it has passed what is applied, and what
//! a disk lost or nothing could apply, which is named. Attributed are the conversions whose report stands in the spool
//! and somebody earned.
//!
//! Lag heals by itself and is no fault; a gap or damage never does, and is named with what to do about it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::command::{CommandError, Verdict};
use crate::spool::{SpoolId, Topic};
use crate::store::{Mark, Quarantine, Reader, RowId, StoreError, View};
use crate::time::TimeMs;

/// Conversions looked at together: what is held in memory.
const PAGE: usize = 1_000;

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
}

/// What the disk says: of each spool, and of what should be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub spooled: Vec<Spooled>,
    /// Directories that are not readable as a spool of their place.
    pub faults: Vec<String>,
}

/// What the store says of all spools. Without a store nothing is applied.
#[derive(Debug, Default)]
struct Applied {
    marks: Vec<Mark>,
    quarantined: Vec<Quarantine>,
    dead_letters: u64,
    attributed: HashMap<SpoolId, u64>,
}

/// One spool, seen from both sides.
struct Line {
    spool: SpoolId,
    topic: Topic,
    disk: Option<Spooled>,
    mark: Mark,
    lost: u64,
    attributed: u64,
}

impl Applied {
    fn read(reader: &mut Reader) -> Result<Applied, StoreError> {
        reader.view(|view| {
            let (marks, quarantined) = (view.marks()?, view.quarantined()?);
            let attributed = attributed(view)?;
            Ok(Applied { marks, quarantined, dead_letters: view.dead_letter_count()?, attributed })
        })
    }
}

/// Conversions that somebody earned, by the spool of their report.
fn attributed(view: View<'_>) -> Result<HashMap<SpoolId, u64>, StoreError> {
    let mut counts = HashMap::new();
    let mut after = RowId(0);
    loop {
        let rows = view.conversions_after(after, PAGE)?;
        let Some(last) = rows.last() else { return Ok(counts) };
        after = last.id;
        for row in &rows {
            if view.shares(row.id)?.iter().any(|share| share.publisher_id.is_some()) {
                *counts.entry(row.spool).or_default() += 1;
            }
        }
    }
}

/// Compares; `reader` is `None` where there is no store yet.
pub fn reconcile(reader: Option<&mut Reader>, disk: &Disk, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let applied = reader.map(Applied::read).transpose()?.unwrap_or_default();
    let lines = lines(&applied, &disk.spooled);
    writeln!(
        out,
        "{:<16} {:<11} {:<8} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "spool", "topic", "state", "answered", "spooled", "consumed", "attributed", "lag"
    )?;
    for line in &lines {
        line.write(out)?;
    }
    for topic in [Topic::Clicks, Topic::Conversions] {
        write_sums(topic, &lines, out)?;
    }
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
    let notes = [
        (sum(Line::late), "answers went out before their record was known to be on disk"),
        (sum(Line::tail), "records behind a torn one at the end of a crashed spool: not used"),
        (sum(|line| line.lost), "records lost by a disk and passed"),
        (applied.dead_letters, "records kept as dead letters: they could not be applied"),
    ];
    for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "{count} {what}")?;
    }
    let spools = disk.faults.iter().map(|fault| format!("SPOOL {fault}"));
    let bad: Vec<String> = lines.iter().filter_map(Line::fault).chain(spools).collect();
    bad.iter().try_for_each(|fault| writeln!(out, "{fault}"))?;
    lines.iter().filter_map(Line::silence).try_for_each(|silence| writeln!(out, "{silence}"))?;
    Ok(Verdict::good_if(bad.is_empty()))
}

/// The chain of counts of a topic, each sum as it must be.
fn write_sums(topic: Topic, lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    let sum = |of: fn(&Line) -> u64| lines.iter().filter(|line| line.topic == topic).map(of).sum::<u64>();
    let (spooled, lag, consumed) = (sum(Line::spooled), sum(Line::lag), sum(|line| line.mark.next));
    let (answered, undurable) = (sum(Line::answered), sum(Line::unspooled));
    write!(out, "{}: {answered} answered = {spooled} spooled + {undurable} undurable; ", topic.name())?;
    write!(out, "{spooled} spooled = {consumed} consumed + {lag} lag")?;
    match topic {
        Topic::Clicks => writeln!(out),
        Topic::Conversions => writeln!(out, "; {} attributed", sum(|line| line.attributed)),
    }
}

fn lines(applied: &Applied, spooled: &[Spooled]) -> Vec<Line> {
    let mut lines: BTreeMap<SpoolId, Line> = BTreeMap::new();
    for disk in spooled {
        let mark = Mark::new(disk.spool, disk.topic);
        let line = Line { spool: disk.spool, topic: disk.topic, disk: Some(*disk), mark, lost: 0, attributed: 0 };
        lines.insert(disk.spool, line);
    }
    for mark in &applied.marks {
        let new = || Line { spool: mark.spool, topic: mark.topic, disk: None, mark: *mark, lost: 0, attributed: 0 };
        lines.entry(mark.spool).or_insert_with(new).mark = *mark;
    }
    for range in &applied.quarantined {
        if let Some(line) = lines.get_mut(&range.spool) {
            line.lost += range.last - range.first + 1;
        }
    }
    for (spool, count) in &applied.attributed {
        if let Some(line) = lines.get_mut(spool) {
            line.attributed = *count;
        }
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    lines.sort_by_key(|line| (line.topic, line.mark.first, line.spool));
    lines
}

impl Line {
    /// As far as anybody knows.
    fn spooled(&self) -> u64 {
        let on_disk = self.disk.map_or(0, |disk| disk.records);
        on_disk.max(self.mark.next).max(self.mark.sealed.unwrap_or(0))
    }

    /// Answered, and not in the spool.
    fn unspooled(&self) -> u64 {
        self.disk.map_or(0, |disk| disk.unspooled)
    }

    fn answered(&self) -> u64 {
        self.spooled() + self.unspooled()
    }

    /// Answered, in the spool, and not known to be on disk then.
    fn late(&self) -> u64 {
        self.disk.map_or(0, |disk| disk.late)
    }

    fn tail(&self) -> u64 {
        self.disk.map_or(0, |disk| disk.tail)
    }

    fn lag(&self) -> u64 {
        self.spooled() - self.mark.next
    }

    fn state(&self) -> &'static str {
        match self.disk {
            Some(disk) if disk.written_to => "open",
            Some(disk) if disk.sealed => "sealed",
            Some(_) => "unsealed",
            None if self.mark.sealed.is_some() => "deleted",
            None => "missing",
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (topic, state) = (self.topic.name(), self.state());
        let (answered, spooled, consumed, lag) = (self.answered(), self.spooled(), self.mark.next, self.lag());
        let attributed = match self.topic {
            Topic::Clicks => "-".to_owned(),
            Topic::Conversions => self.attributed.to_string(),
        };
        write!(out, "{:016x} {topic:<11} {state:<8} {answered:>12} {spooled:>12}", self.spool.0)?;
        writeln!(out, " {consumed:>12} {attributed:>10} {lag:>10}")
    }

    /// A gap or damage.
    fn fault(&self) -> Option<String> {
        let spool = format!("{:016x}", self.spool.0);
        let due = self.mark.next;
        let waits = "the spool waits for them: restore its segments from a copy and they are applied by themselves";
        let unapplied = self.lag() > 0;
        match self.disk {
            _ if self.mark.gap.is_some() => {
                let last = self.mark.gap.unwrap_or(due).saturating_sub(1);
                Some(format!("GAP spool {spool}: records {due} to {last} are missing; {waits}"))
            }
            Some(disk) if unapplied && disk.first > due => {
                Some(format!("GAP spool {spool}: records {due} to {} are missing; {waits}", disk.first - 1))
            }
            None if unapplied => {
                Some(format!("GAP spool {spool}: records {due} to {} are missing; {waits}", self.spooled() - 1))
            }
            Some(disk) if self.lost.max(disk.damaged) > 0 => Some(format!(
                "DAMAGE spool {spool}: {} records cannot be read; `afflux spool verify` names the place",
                self.lost.max(disk.damaged)
            )),
            None if self.lost > 0 => {
                Some(format!("DAMAGE spool {spool}: {} records could not be read and were passed", self.lost))
            }
            _ => None,
        }
    }

    /// Nobody knows whether there was more.
    fn silence(&self) -> Option<String> {
        let silent = match self.disk {
            Some(disk) => !disk.written_to && !disk.sealed,
            None => self.mark.sealed.is_none(),
        };
        let last = self.mark.last.map_or_else(|| "never".to_owned(), TimeMs::to_rfc3339);
        silent.then(|| {
            format!("SILENT spool {:016x}: not sealed, and nobody writes to it; last heard of {last}", self.spool.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, testing};

    fn spooled(spool: u64, records: u64) -> Spooled {
        let (spool, topic) = (SpoolId(spool), Topic::Clicks);
        let (first, sealed, written_to) = (0, true, false);
        let (damaged, unspooled, late, tail) = (0, 0, 0, 0);
        Spooled { spool, topic, first, records, sealed, written_to, damaged, unspooled, late, tail }
    }

    fn mark(spool: u64, next: u64, sealed: Option<u64>) -> Mark {
        Mark { next, sealed, last: Some(TimeMs(0)), ..Mark::new(SpoolId(spool), Topic::Clicks) }
    }

    fn run(marks: &[Mark], lost: &[Quarantine], spools: &[Spooled]) -> (Verdict, String) {
        let [file, database] = testing::homes().map(|home| {
            let mut store = Store::open(&home.place).unwrap();
            let batch = store.begin().unwrap();
            marks.iter().for_each(|mark| batch.move_mark(mark, 0).unwrap());
            lost.iter().for_each(|range| batch.quarantine(*range).unwrap());
            batch.commit().unwrap();
            let mut out = Vec::new();
            let disk = Disk { spooled: spools.to_vec(), faults: Vec::new() };
            let verdict = reconcile(Some(&mut Reader::open(&home.place).unwrap()), &disk, &mut out).unwrap();
            (verdict, String::from_utf8(out).unwrap())
        });
        assert_eq!(file, database);
        file
    }

    #[test]
    fn p6_lag_and_what_retention_deleted_are_no_faults() {
        let gone = mark(2, 7, Some(7));
        let (verdict, text) = run(&[mark(1, 3, None), gone], &[], &[spooled(1, 5)]);
        assert_eq!(verdict, Verdict::Good, "{text}");
        assert!(
            text.contains("clicks: 12 answered = 12 spooled + 0 undurable; 12 spooled = 10 consumed + 2 lag\n"),
            "{text}"
        );
        assert!(text.contains("0000000000000002 clicks      deleted"), "{text}");
        // Kept segments may begin later than the spool did.
        let kept = Spooled { first: 4, ..spooled(1, 5) };
        assert_eq!(run(&[mark(1, 5, Some(5))], &[], &[kept]).0, Verdict::Good);
    }

    #[test]
    fn p6_a_gap_and_damage_are_named() {
        let gap = Mark { gap: Some(9), ..mark(1, 3, None) };
        let unread = Spooled { first: 4, ..spooled(1, 5) };
        for (marks, spools, words) in [
            (vec![gap], vec![spooled(1, 20)], "GAP spool 0000000000000001: records 3 to 8 are missing"),
            (vec![mark(1, 3, None)], vec![unread], "records 3 to 3 are missing"),
            (vec![mark(1, 3, Some(5))], vec![], "records 3 to 4 are missing"),
            (vec![mark(1, 5, None)], vec![Spooled { damaged: 2, ..spooled(1, 5) }], "DAMAGE"),
        ] {
            let (verdict, text) = run(&marks, &[], &spools);
            assert_eq!(verdict, Verdict::Bad, "{text}");
            assert!(text.contains(words), "{text}");
        }
        let lost = Quarantine { spool: SpoolId(1), first: 1, last: 2 };
        let (verdict, text) = run(&[mark(1, 5, Some(5))], &[lost], &[]);
        assert_eq!(verdict, Verdict::Bad);
        assert!(text.contains("2 records lost by a disk and passed"), "{text}");
    }

    #[test]
    fn p1_answered_is_spooled_and_undurable() {
        let disk = Spooled { late: 3, unspooled: 4, ..spooled(1, 5) };
        let (verdict, text) = run(&[mark(1, 5, Some(5))], &[], &[disk]);
        assert_eq!(verdict, Verdict::Good);
        assert!(
            text.contains("clicks: 9 answered = 5 spooled + 4 undurable; 5 spooled = 5 consumed + 0 lag\n"),
            "{text}"
        );
        assert!(text.contains("\n3 answers went out before their record was known to be on disk\n"), "{text}");
    }

    #[test]
    fn p6_a_silent_spool_is_named() {
        let dead = Spooled { sealed: false, ..spooled(1, 5) };
        let (verdict, text) = run(&[mark(1, 5, None), mark(2, 4, None)], &[], &[dead]);
        assert_eq!(verdict, Verdict::Good);
        assert!(
            text.contains("SILENT spool 0000000000000001") && text.contains("SILENT spool 0000000000000002"),
            "{text}"
        );
    }

    #[test]
    fn without_a_store_everything_lags() {
        let mut out = Vec::new();
        let disk = Disk { spooled: vec![spooled(1, 5)], faults: Vec::new() };
        let verdict = reconcile(None, &disk, &mut out).unwrap();
        assert_eq!(verdict, Verdict::Good);
        assert!(String::from_utf8(out).unwrap().contains("5 spooled = 0 consumed + 5 lag"));
    }

    #[test]
    fn p6_answers_without_a_record_late_ones_and_a_tail_are_counted_apart() {
        let lossy = Spooled { unspooled: 3, late: 4, tail: 2, ..spooled(1, 5) };
        let (verdict, text) = run(&[mark(1, 5, Some(5))], &[], &[lossy]);
        assert_eq!(verdict, Verdict::Good, "{text}");
        assert!(text.contains("8 answered = 5 spooled + 3 undurable"), "{text}");
        assert!(text.contains("4 answers went out before their record was known to be on disk"), "{text}");
        assert!(text.contains("2 records behind a torn one"), "{text}");
    }

    #[test]
    fn p6_a_directory_that_is_no_readable_spool_is_named() {
        let mut out = Vec::new();
        let disk = Disk { spooled: Vec::new(), faults: vec!["clicks-1.bak: not a spool".into()] };
        assert_eq!(reconcile(None, &disk, &mut out).unwrap(), Verdict::Bad);
        assert!(String::from_utf8(out).unwrap().contains("SPOOL clicks-1.bak: not a spool"));
    }
}
