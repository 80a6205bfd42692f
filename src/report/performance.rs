//! The report of performance: clicks and money added up by what was asked for (contract I42-I46).
//!
//! Amounts of different currencies are never added: whatever rows are grouped by, they are grouped by currency too.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit, ZonedRound};

use super::query::{GroupKey, Question};
use crate::catalog::MerchantId;
use crate::money::Currency;
use crate::rollup::cut;
use crate::store::{RollupRow, ShareRow, StoreError, View};
use crate::time::TimeMs;

/// Past it the report is refused (contract I43).
pub const MAX_ROWS: usize = 100_000;

/// One value of a group key. Nothing comes first, times in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Number(u32),
    Text(String),
    /// The start of a day or hour, and how it is written.
    Time(i64, String),
}

/// 128 bit: no sum of stored rows can overflow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub clicks: i128,
    pub billable_clicks: i128,
    pub rejected_clicks: i128,
    pub conversions: i128,
    pub amount: i128,
    pub commission: i128,
    pub reversed: i128,
}

/// Rows sorted by their group keys; the currency stands behind them.
#[derive(Debug)]
pub struct Performance {
    pub group_by: Vec<GroupKey>,
    pub rows: BTreeMap<Vec<Cell>, Sums>,
}

#[derive(Debug, thiserror::Error)]
pub enum NotReported {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("more than {MAX_ROWS} rows: ask for fewer groups or a shorter time")]
    TooManyRows,
    #[error("takes too long: ask for a shorter time")]
    TooSlow,
}

impl NotReported {
    /// The parameter that could be changed.
    pub fn parameter(&self) -> &'static str {
        if matches!(self, NotReported::TooManyRows) { "group_by" } else { "from" }
    }
}

/// What a report may show, and in which zone its days are.
pub struct Frame<'f> {
    /// Only this merchant's rows; `None`: all.
    pub merchant_id: Option<MerchantId>,
    pub zone: &'f TimeZone,
    /// Clicks have no currency of their own; they stand under that of their merchant.
    pub currency_of: &'f dyn Fn(MerchantId) -> Option<Currency>,
    pub deadline: Instant,
}

impl Frame<'_> {
    fn check_time(&self) -> Result<(), NotReported> {
        if Instant::now() > self.deadline { Err(NotReported::TooSlow) } else { Ok(()) }
    }
}

impl Performance {
    pub fn empty(question: &Question) -> Performance {
        Performance { group_by: question.group_by.clone(), rows: BTreeMap::new() }
    }

    pub fn of(view: View<'_>, question: &Question, frame: &Frame<'_>) -> Result<Performance, NotReported> {
        let mut report = Performance::empty(question);
        let mut labels = TimeLabels { zone: frame.zone, last: None };
        let is_shown = |merchant_id| frame.merchant_id.is_none_or(|own| own == merchant_id);
        view.click_rollups(question.from, question.to, |row| {
            frame.check_time()?;
            if is_shown(row.merchant_id) { report.add_clicks(&row, frame, &mut labels) } else { Ok(()) }
        })?;
        let mut conversion: Vec<ShareRow> = Vec::new();
        view.shares_between(question.from, question.to, |share| {
            frame.check_time()?;
            if !is_shown(share.merchant_id) {
                return Ok(());
            }
            if conversion.first().is_some_and(|first| first.conversion != share.conversion) {
                report.add_conversion(&std::mem::take(&mut conversion), &mut labels)?;
            }
            conversion.push(share);
            Ok::<(), NotReported>(())
        })?;
        report.add_conversion(&conversion, &mut labels)?;
        Ok(report)
    }

    fn add_clicks(
        &mut self,
        row: &RollupRow<'_>,
        frame: &Frame<'_>,
        labels: &mut TimeLabels<'_>,
    ) -> Result<(), NotReported> {
        let currency = (frame.currency_of)(row.merchant_id);
        let label = |text: &str| if text.is_empty() { Cell::Null } else { Cell::Text(text.to_owned()) };
        let cell = |key: &GroupKey| match key {
            GroupKey::Day | GroupKey::Hour => labels.cell(*key, row.quarter),
            GroupKey::Merchant => Cell::Number(row.merchant_id.0),
            GroupKey::Offer => Cell::Number(row.offer_id.0),
            // Nobody is publisher 0: it stands for many that do not exist.
            GroupKey::Publisher if row.publisher_id.0 == 0 => Cell::Null,
            GroupKey::Publisher => Cell::Number(row.publisher_id.0),
            GroupKey::Link => label(row.link),
            GroupKey::Source => label(row.source),
            GroupKey::Sub1 => label(row.sub1),
            GroupKey::Type | GroupKey::CouponCode => Cell::Null,
            GroupKey::Currency => currency_cell(currency),
        };
        let key = self.group_by.iter().map(cell).collect();
        let sums = self.row(key, currency)?;
        sums.clicks += i128::from(row.counts.clicks);
        sums.billable_clicks += i128::from(row.counts.billable);
        sums.rejected_clicks += i128::from(row.counts.rejected);
        Ok(())
    }

    /// A conversion counts once in every row that has a share of it, with its whole amount; the money of shares adds up.
    fn add_conversion(&mut self, shares: &[ShareRow], labels: &mut TimeLabels<'_>) -> Result<(), NotReported> {
        let mut counted: Vec<Vec<Cell>> = Vec::new();
        for share in shares {
            let key: Vec<Cell> = self.group_by.iter().map(|key| share_cell(*key, share, labels)).collect();
            let first = !counted.contains(&key);
            let sums = self.row(key.clone(), Some(share.currency))?;
            if first {
                sums.conversions += 1;
                sums.amount += i128::from(share.amount);
                counted.push(key);
            }
            sums.commission += i128::from(share.commission);
            sums.reversed += i128::from(share.reversed);
        }
        Ok(())
    }

    fn row(&mut self, mut key: Vec<Cell>, currency: Option<Currency>) -> Result<&mut Sums, NotReported> {
        key.push(currency_cell(currency));
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            return Err(NotReported::TooManyRows);
        }
        Ok(self.rows.entry(key).or_default())
    }
}

fn share_cell(key: GroupKey, share: &ShareRow, labels: &mut TimeLabels<'_>) -> Cell {
    let label = |text: &Option<String>| text.as_ref().map_or(Cell::Null, |text| Cell::Text(cut(text).to_owned()));
    match key {
        GroupKey::Day | GroupKey::Hour => labels.cell(key, share.occurred),
        GroupKey::Merchant => Cell::Number(share.merchant_id.0),
        GroupKey::Offer => share.offer_id.map_or(Cell::Null, |id| Cell::Number(id.0)),
        GroupKey::Publisher => share.publisher_id.map_or(Cell::Null, |id| Cell::Number(id.0)),
        GroupKey::Link => label(&share.link),
        GroupKey::Source => label(&share.source),
        GroupKey::Sub1 => label(&share.sub1),
        GroupKey::Type => Cell::Text(share.kind.clone()),
        GroupKey::CouponCode => share.coupon_code.clone().map_or(Cell::Null, Cell::Text),
        GroupKey::Currency => currency_cell(Some(share.currency)),
    }
}

fn currency_cell(currency: Option<Currency>) -> Cell {
    currency.map_or(Cell::Null, |currency| Cell::Text(currency.as_str().to_owned()))
}

/// Days and hours of the zone. Rows come in order of time, so the last label is almost always the next.
struct TimeLabels<'z> {
    zone: &'z TimeZone,
    last: Option<(GroupKey, TimeMs, Cell)>,
}

impl TimeLabels<'_> {
    fn cell(&mut self, key: GroupKey, at: TimeMs) -> Cell {
        match &self.last {
            Some((last_key, last_at, cell)) if (*last_key, *last_at) == (key, at) => cell.clone(),
            _ => {
                let cell = self.label(key, at).unwrap_or(Cell::Null);
                self.last = Some((key, at, cell.clone()));
                cell
            }
        }
    }

    /// `None` for times that no calendar holds.
    fn label(&self, key: GroupKey, at: TimeMs) -> Option<Cell> {
        let zoned = Timestamp::from_millisecond(at.0).ok()?.to_zoned(self.zone.clone());
        if key == GroupKey::Day {
            let start = zoned.start_of_day().ok()?;
            return Some(Cell::Time(start.timestamp().as_millisecond(), start.strftime("%Y-%m-%d").to_string()));
        }
        let hour = ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc);
        let start = zoned.round(hour).ok()?;
        Some(Cell::Time(start.timestamp().as_millisecond(), start.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()))
    }
}

#[cfg(test)]
mod tests;
