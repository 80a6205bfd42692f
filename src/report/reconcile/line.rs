//! One spool, seen from every side that knows it: the disk it lies on, what its edge told over Kafka, and the store.

use std::io::{self, Write};

use super::Spooled;
use crate::spool::{SpoolId, Topic};
use crate::store::{KnownSpool, Mark};
use crate::time::TimeMs;

/// An edge that has told nothing of an open spool for so long is silent: it tells each minute.
const SILENT_MS: i64 = 180_000;

/// What came before a seal in the same partition may be applied a little later than the seal is written down.
const SETTLED_MS: i64 = 60_000;

/// A gap that an operator had passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub first: u64,
    pub last: u64,
    pub reason: String,
    pub at: TimeMs,
}

pub struct Line {
    pub spool: SpoolId,
    pub topic: Topic,
    pub disk: Option<Spooled>,
    /// What its edge told; never in one process.
    pub told: Option<KnownSpool>,
    pub mark: Mark,
    /// So many were seen in Kafka or on the disk, behind gaps.
    pub witnessed: u64,
    pub lost: u64,
    /// Kept on the edge; fed again in another spool; passed by command.
    pub parked: u64,
    pub fed: u64,
    pub passed: Vec<Passed>,
    pub attributed: u64,
}

impl Line {
    pub fn of(spool: SpoolId, topic: Topic) -> Line {
        let (witnessed, lost, parked, fed, attributed) = (0, 0, 0, 0, 0);
        let (mark, passed) = (Mark::new(spool, topic), Vec::new());
        Line { spool, topic, disk: None, told: None, mark, witnessed, lost, parked, fed, passed, attributed }
    }

    /// As far as anybody knows.
    pub fn spooled(&self) -> u64 {
        let on_disk = self.disk.map_or(0, |disk| disk.records);
        let told = self.told.as_ref().and_then(|told| told.state.seq).map_or(0, |last| last.saturating_add(1));
        on_disk.max(told).max(self.mark.next).max(self.mark.sealed.unwrap_or(0)).max(self.witnessed)
    }

    /// Answered, and not in the spool.
    pub fn unspooled(&self) -> u64 {
        let told = self.told.as_ref().map_or(0, |told| told.state.unspooled);
        self.disk.map_or(0, |disk| disk.unspooled).max(told)
    }

    pub fn answered(&self) -> u64 {
        self.spooled() + self.unspooled()
    }

    /// In Kafka. In one process this stage is the cursor of what is consumed (contract P6).
    pub fn shipped(&self) -> u64 {
        let told = self.told.as_ref().map_or(0, |told| told.state.shipped);
        let cursor = self.disk.and_then(|disk| disk.shipped).unwrap_or(0);
        told.max(cursor).max(self.mark.next).max(self.witnessed)
    }

    /// Answered, in the spool, and not known to be on disk then.
    pub fn late(&self) -> u64 {
        let told = self.told.as_ref().map_or(0, |told| told.state.late);
        self.disk.map_or(0, |disk| disk.late).max(told)
    }

    pub fn tail(&self) -> u64 {
        self.disk.map_or(0, |disk| disk.tail)
    }

    pub fn unshipped(&self) -> u64 {
        self.spooled().saturating_sub(self.shipped())
    }

    /// Not applied of what is spooled.
    pub fn lag(&self) -> u64 {
        self.spooled() - self.mark.next
    }

    /// Not applied of what is in Kafka.
    pub fn consumer_lag(&self) -> u64 {
        self.shipped() - self.mark.next
    }

    fn state(&self, now: TimeMs) -> &'static str {
        match (self.disk, &self.told) {
            (Some(disk), _) if disk.written_to => "open",
            (_, Some(told)) if told.sealed => "sealed",
            (Some(disk), _) if disk.sealed => "sealed",
            (None, Some(told)) if !is_silent(told, now) => "open",
            (None, Some(_)) => "silent",
            (Some(_), _) => "unsealed",
            (None, None) if self.mark.sealed.is_some() => "deleted",
            (None, None) => "missing",
        }
    }

    pub fn write(&self, cluster: bool, now: TimeMs, out: &mut dyn Write) -> io::Result<()> {
        let (topic, state) = (self.topic.name(), self.state(now));
        let (answered, spooled, consumed, lag) = (self.answered(), self.spooled(), self.mark.next, self.lag());
        let attributed = match self.topic {
            Topic::Clicks => "-".to_owned(),
            Topic::Conversions => self.attributed.to_string(),
        };
        write!(out, "{:016x} {topic:<11} {state:<8} {answered:>12} {spooled:>12}", self.spool.0)?;
        if cluster {
            write!(out, " {:>12}", self.shipped())?;
        }
        write!(out, " {consumed:>12} {attributed:>10} {lag:>10}")?;
        match &self.told {
            Some(told) if cluster => writeln!(out, "  {}/{}", told.state.edge, told.partition),
            _ if cluster => writeln!(out, "  -"),
            _ => writeln!(out),
        }
    }

    /// A gap or damage.
    pub fn fault(&self, cluster: bool, now: TimeMs) -> Option<String> {
        if let Some((first, last)) = self.missing(cluster, now) {
            return Some(self.gap(cluster, first, last));
        }
        match self.disk {
            Some(disk) if self.lost.max(disk.damaged) > 0 => Some(format!(
                "DAMAGE spool {}: {} records cannot be read; `afflux spool verify` names the place",
                self.spool,
                self.lost.max(disk.damaged)
            )),
            _ if self.lost > 0 => {
                Some(format!("DAMAGE spool {}: {} records could not be read and were passed", self.spool, self.lost))
            }
            _ if self.parked > 0 => Some(format!(
                "PARKED spool {}: Kafka would not take {} records; they are kept in the file `parked` of its directory{}; `afflux reship {} --parked` there feeds them again",
                self.spool,
                self.parked,
                self.told.as_ref().map_or_else(String::new, |told| format!(" on {}", told.state.edge)),
                self.spool
            )),
            _ => None,
        }
    }

    /// The gap that is open: both ends included.
    pub fn missing(&self, cluster: bool, now: TimeMs) -> Option<(u64, u64)> {
        let due = self.mark.next;
        if let Some(found) = self.mark.gap {
            return Some((due, found.saturating_sub(1)));
        }
        let unapplied = self.lag() > 0;
        match self.disk {
            Some(disk) if unapplied && disk.first > due && self.shipped() < disk.first => Some((due, disk.first - 1)),
            None if unapplied && !cluster => Some((due, self.spooled() - 1)),
            _ if self.is_cut_short(now) => Some((due, self.spooled() - 1)),
            _ => None,
        }
    }

    /// Its seal came out of Kafka, and what must have come before it did not.
    fn is_cut_short(&self, now: TimeMs) -> bool {
        let told = self.told.as_ref().filter(|told| told.sealed);
        told.is_some_and(|told| self.consumer_lag() > 0 && now.0.saturating_sub(told.state.at_ms.0) > SETTLED_MS)
    }

    fn gap(&self, cluster: bool, first: u64, last: u64) -> String {
        let spool = self.spool;
        let missing = format!("GAP spool {spool}: records {first} to {last} are missing");
        match &self.told {
            Some(told) if cluster => {
                format!("{missing}; `afflux reship {spool} {first}` on {} sends them again", told.state.edge)
            }
            None if cluster => format!("{missing}; `afflux reship {spool} {first}` on its edge sends them again"),
            _ => format!(
                "{missing}; the spool waits for them: restore its segments from a copy and they are applied by themselves"
            ),
        }
    }

    /// What was passed by command, with why.
    pub fn passed(&self) -> impl Iterator<Item = String> {
        self.passed.iter().map(|Passed { first, last, reason, at }| {
            let at = at.to_rfc3339();
            format!("PASSED spool {}: records {first} to {last}, by command at {at}: {reason}", self.spool)
        })
    }

    /// Nobody knows whether there was more.
    pub fn silence(&self, now: TimeMs) -> Option<String> {
        let here = self.disk.map(|disk| !disk.written_to && !disk.sealed);
        let there = self.told.as_ref().map(|told| !told.sealed && is_silent(told, now));
        let silent = here.or(there).unwrap_or(self.mark.sealed.is_none());
        let heard = self.told.as_ref().map(|told| told.state.at_ms).max(self.mark.last);
        let last = heard.map_or_else(|| "never".to_owned(), TimeMs::to_rfc3339);
        let edge = self.told.as_ref().map_or_else(String::new, |told| format!(" of {}", told.state.edge));
        silent.then(|| {
            format!("SILENT spool {}{edge}: not sealed, and nobody writes to it; last heard of {last}", self.spool)
        })
    }
}

fn is_silent(told: &KnownSpool, now: TimeMs) -> bool {
    now.0.saturating_sub(told.state.at_ms.0) > SILENT_MS
}
