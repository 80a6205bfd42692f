//! The touch index: which clicks a visitor made, for as long as they may still earn something.
//!
//! A cache over the clicks spools in tables of the store, written in the transaction of the mark, so it never misses a
//! click that is marked as applied and never has one twice. A table takes the clicks of a day, or a million; a filter
//! in memory says of most tables that the visitor is not in them. A table is dropped when all of it is older than the
//! longest window plus the longest delay of a report. SQL stands in `store::touches`.

mod filter;
pub mod shared;

use crate::click::{ClickId, VisitorKey};
use crate::store::{Batch, Period, StoreError, View};
use crate::time::{DAY_MS, TimeMs};
use filter::Filter;

/// A table is closed at this many rows: its index stays small enough to be written fast (measured).
const PERIOD_TOUCHES: u64 = 1_000_000;

/// Clicks of one visitor that a look-up reads, the latest stored. Far more than a browser can be made to send unseen, and
/// no more than 36 MB; beyond it the look-up is `cut`, which is counted and told.
const MAX_READ: usize = 1_000_000;

/// A click as it is put in. Labels are cut already.
#[derive(Clone, Copy, Debug)]
pub struct Touched<'t> {
    pub click_id: ClickId,
    pub link: Option<&'t str>,
    pub source: Option<&'t str>,
    pub sub1: Option<&'t str>,
}

/// What reports show of a touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub link: Option<String>,
    pub source: Option<String>,
    pub sub1: Option<String>,
}

/// What a look-up found. `cut`: there was more than it may read.
#[derive(Debug, Default)]
pub struct Found {
    pub click_ids: Vec<ClickId>,
    pub cut: bool,
}

/// What is remembered of the tables. Valid for as long as every transaction commits; after one that did not, load anew.
pub struct TouchIndex {
    closed: Vec<Table>,
    /// The one that gets new rows.
    open: Option<Table>,
    period_touches: u64,
}

struct Table {
    period: Period,
    /// None of one that was open when it was loaded: it is looked into each time. To make its filter a million rows would
    /// have to be read before the first click is applied, at each start; that is done once, when it is closed.
    filter: Option<Filter>,
}

impl Table {
    fn may_contain(&self, visitor: VisitorKey) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(visitor))
    }

    fn make_filter(&self, view: View<'_>, period_touches: u64) -> Result<Filter, StoreError> {
        let mut filter = Filter::for_keys(period_touches.max(self.period.touches));
        view.visitors(self.period.number, |visitor| filter.insert(visitor))?;
        Ok(filter)
    }
}

impl TouchIndex {
    pub fn load(view: View<'_>) -> Result<TouchIndex, StoreError> {
        TouchIndex::load_with(view, PERIOD_TOUCHES)
    }

    fn load_with(view: View<'_>, period_touches: u64) -> Result<TouchIndex, StoreError> {
        let mut closed = Vec::new();
        for mut period in view.periods()? {
            let filter = period.filter.take().and_then(Filter::from_bytes);
            closed.push(Table { period, filter });
        }
        let open = closed.pop();
        for table in closed.iter_mut().filter(|table| table.filter.is_none()) {
            table.filter = Some(table.make_filter(view, period_touches)?);
        }
        Ok(TouchIndex { closed, open, period_touches })
    }

    /// Adds a batch of clicks. A click from the future counts as of tomorrow here, so that it holds no table for ever.
    pub fn add(&mut self, batch: &Batch<'_>, touches: &[Touched<'_>], now: TimeMs) -> Result<(), StoreError> {
        let tomorrow = TimeMs(now.0.saturating_add(DAY_MS));
        let period_touches = self.period_touches;
        let mut rest = touches;
        while let Some(first) = rest.first() {
            let Table { period, filter } = self.open(batch, first.click_id.clicked_at().min(tomorrow))?;
            let room = usize::try_from(period_touches.saturating_sub(period.touches)).unwrap_or(usize::MAX);
            let (fitting, later) = rest.split_at(room.min(rest.len()));
            batch.add_touches(period.number, fitting.iter().copied())?;
            for touch in fitting {
                let clicked_at = touch.click_id.clicked_at();
                period.first = period.first.min(clicked_at);
                period.last = period.last.max(clicked_at.min(tomorrow));
                filter.iter_mut().for_each(|filter| filter.insert(touch.click_id.visitor_key()));
            }
            period.touches += fitting.len() as u64;
            batch.update_period(period)?;
            rest = later;
        }
        Ok(())
    }

    /// The table for a click of this time: the open one, or a new one when that is full or of an earlier day.
    fn open(&mut self, batch: &Batch<'_>, at: TimeMs) -> Result<&mut Table, StoreError> {
        let fits = |period: &Period| period.touches < self.period_touches && at.day_number() <= period.day;
        let number = match self.open.take() {
            None => 1,
            Some(table) if fits(&table.period) => return Ok(self.open.insert(table)),
            Some(mut table) => {
                let made =
                    table.filter.take().map_or_else(|| table.make_filter(batch.view(), self.period_touches), Ok)?;
                batch.update_period(&Period { filter: Some(made.to_bytes()), ..table.period.clone() })?;
                table.filter = Some(made);
                let next = table.period.number + 1;
                self.closed.push(table);
                next
            }
        };
        let period = Period { number, day: at.day_number(), first: at, last: at, touches: 0, filter: None };
        batch.open_period(&period)?;
        Ok(self.open.insert(Table { period, filter: Some(Filter::for_keys(self.period_touches)) }))
    }

    /// Drops the closed tables in which every click is older than `oldest`.
    pub fn drop_older(&mut self, batch: &Batch<'_>, oldest: TimeMs) -> Result<usize, StoreError> {
        let (old, kept) = std::mem::take(&mut self.closed).into_iter().partition(|table| table.period.last < oldest);
        self.closed = kept;
        let old: Vec<Table> = old;
        for table in &old {
            batch.drop_period(table.period.number)?;
        }
        Ok(old.len())
    }

    /// The clicks of a visitor since `since`; the latest 1,000,000 stored.
    pub fn find(&self, view: View<'_>, visitor: VisitorKey, since: TimeMs) -> Result<Found, StoreError> {
        self.find_at_most(MAX_READ, view, visitor, since)
    }

    fn find_at_most(
        &self,
        most: usize,
        view: View<'_>,
        visitor: VisitorKey,
        since: TimeMs,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut left = most;
        for table in self.latest_first() {
            if table.period.last < since || !table.may_contain(visitor) {
                continue;
            }
            let in_period = view.touches(table.period.number, visitor, left)?;
            left -= in_period.click_ids.len();
            found.cut |= in_period.more;
            found.click_ids.extend(in_period.click_ids.into_iter().filter(|id| id.clicked_at() >= since));
        }
        Ok(found)
    }

    /// What reports show of a touch, if it is still known.
    pub fn labels(&self, view: View<'_>, click_id: ClickId) -> Result<Option<Labels>, StoreError> {
        let at = click_id.clicked_at();
        for table in self.latest_first() {
            let period = &table.period;
            if period.first <= at && at <= period.last && table.may_contain(click_id.visitor_key()) {
                let labels = view.touch_labels(period.number, click_id)?;
                if labels.is_some() {
                    return Ok(labels);
                }
            }
        }
        Ok(None)
    }

    fn latest_first(&self) -> impl Iterator<Item = &Table> {
        self.open.iter().chain(self.closed.iter().rev())
    }

    /// All touches in all tables.
    pub fn len(&self) -> u64 {
        self.latest_first().map(|table| table.period.touches).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn tables(&self) -> usize {
        self.latest_first().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{OfferId, PublisherId};
    use crate::click::Keys;
    use crate::store::{Store, testing};

    fn click(keys: &Keys, at: i64, visitor: u64, random: u32) -> ClickId {
        ClickId::sign(keys, TimeMs(at), OfferId(1), PublisherId(2), VisitorKey(visitor), 0, random)
    }

    fn touched(click_id: ClickId) -> Touched<'static> {
        Touched { click_id, link: Some("phone"), source: None, sub1: Some("a") }
    }

    #[test]
    fn finds_across_tables_after_a_restart_and_drops_the_old() {
        let keys = Keys::parse(&Keys::file_text(&[1; 64])).unwrap();
        let home = testing::file();
        let mut store = Store::open(&home.place).unwrap();
        let mut index = TouchIndex::load_with(store.view(), 4).unwrap();
        // Ten clicks of two visitors in tables of four, then one of the next day.
        let ids: Vec<ClickId> = (0..10).map(|n| click(&keys, n, n as u64 % 2, n as u32)).collect();
        let next_day = click(&keys, DAY_MS + 5, 1, 99);
        let touches: Vec<Touched> = ids.iter().copied().map(touched).collect();
        let now = TimeMs(2 * DAY_MS);
        let batch = store.begin().unwrap();
        index.add(&batch, &touches[..5], now).unwrap();
        index.add(&batch, &touches[5..], now).unwrap();
        index.add(&batch, &[touched(next_day)], now).unwrap();
        batch.commit().unwrap();
        assert_eq!((index.tables(), index.len()), (4, 11));

        let mut index = TouchIndex::load_with(store.view(), 4).unwrap();
        let mut found = index.find(store.view(), VisitorKey(1), TimeMs(0)).unwrap();
        found.click_ids.sort();
        assert_eq!(found.click_ids, [ids[1], ids[3], ids[5], ids[7], ids[9], next_day]);
        let since = index.find(store.view(), VisitorKey(1), TimeMs(9)).unwrap();
        assert_eq!(since.click_ids, [next_day, ids[9]]);
        assert!(index.find(store.view(), VisitorKey(7), TimeMs(0)).unwrap().click_ids.is_empty());
        let labels = index.labels(store.view(), ids[3]).unwrap().unwrap();
        assert_eq!((labels.link.as_deref(), labels.source, labels.sub1.as_deref()), (Some("phone"), None, Some("a")));
        assert_eq!(index.labels(store.view(), click(&keys, 3, 1, 77)).unwrap(), None);

        let batch = store.begin().unwrap();
        assert_eq!(index.drop_older(&batch, TimeMs(8)).unwrap(), 2);
        batch.commit().unwrap();
        assert_eq!(index.find(store.view(), VisitorKey(1), TimeMs(0)).unwrap().click_ids, [next_day, ids[9]]);
    }

    #[test]
    fn a_table_that_was_open_at_a_start_gets_its_filter_when_it_is_closed() {
        let keys = Keys::parse(&Keys::file_text(&[1; 64])).unwrap();
        let home = testing::file();
        let mut store = Store::open(&home.place).unwrap();
        let ids: Vec<ClickId> = (0..10).map(|n| click(&keys, n, n as u64, n as u32)).collect();
        let touches: Vec<Touched> = ids.iter().copied().map(touched).collect();
        for part in [&touches[..3], &touches[3..9], &touches[9..]] {
            let mut index = TouchIndex::load_with(store.view(), 4).unwrap();
            let batch = store.begin().unwrap();
            index.add(&batch, part, TimeMs(DAY_MS)).unwrap();
            batch.commit().unwrap();
            assert!(index.closed.iter().all(|table| table.filter.is_some()));
            for index in [index, TouchIndex::load_with(store.view(), 4).unwrap()] {
                let known = ids.iter().take(index.len() as usize);
                for (visitor, id) in known.enumerate() {
                    let found = index.find(store.view(), VisitorKey(visitor as u64), TimeMs(0)).unwrap();
                    assert_eq!(found.click_ids, [*id]);
                }
            }
        }
    }

    #[test]
    fn a_look_up_that_reads_too_much_is_cut_to_the_latest() {
        let keys = Keys::parse(&Keys::file_text(&[1; 64])).unwrap();
        let home = testing::file();
        let mut store = Store::open(&home.place).unwrap();
        let mut index = TouchIndex::load_with(store.view(), 4).unwrap();
        let touches: Vec<Touched> = (0..7).map(|n| touched(click(&keys, n, 5, n as u32))).collect();
        let batch = store.begin().unwrap();
        index.add(&batch, &touches, TimeMs(DAY_MS)).unwrap();
        let whole = index.find_at_most(7, batch.view(), VisitorKey(5), TimeMs(0)).unwrap();
        assert_eq!((whole.click_ids.len(), whole.cut), (7, false));
        for most in [6, 3, 2] {
            let cut = index.find_at_most(most, batch.view(), VisitorKey(5), TimeMs(0)).unwrap();
            assert_eq!((cut.click_ids.len(), cut.cut), (most, true));
            assert_eq!(cut.click_ids[0], touches[6].click_id);
        }
    }
}
