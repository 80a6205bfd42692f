//! Applies clicks in bulk: touches, rollups, double clicks; and late ones to the conversions they concern.

use std::collections::BTreeMap;
use std::rc::Rc;

use hashbrown::HashMap;

use super::judge::Judge;
use super::pruning::LATE_CLICKS_MS;
use crate::attribution::Touch;
use crate::catalog::PublisherId;
use crate::click::{ClickId, Verdict, VisitorKey};
use crate::dedupe::Billable;
use crate::event::Click;
use crate::rollup::{ClickKey, Counts, Scope, cut, quarter};
use crate::spool::SpoolId;
use crate::store::{Batch, StoreError};
use crate::time::TimeMs;
use crate::touch::Touched;

/// The clicks of one transaction, summed up before they are written.
#[derive(Default)]
pub struct ClickBatch<'c> {
    rows: HashMap<Rc<ClickKey>, Counts>,
    touched: Vec<Touched<'c>>,
    late: BTreeMap<VisitorKey, Vec<Touch>>,
    /// Times of clicks that could not be verified, as their key is not listed here yet.
    unlisted: BTreeMap<VisitorKey, Vec<TimeMs>>,
}

impl<'c> ClickBatch<'c> {
    pub fn take(&mut self, judge: &mut Judge<'_>, batch: &Batch<'_>, click: &'c Click<'c>) -> Result<(), StoreError> {
        if let Some((spool, seq)) = click.takes_place_of()
            && batch.view().took_effect(SpoolId(spool), seq)?
        {
            // It was sent again and only then refused, or fed from two copies of a disk.
            judge.metrics.fed_in_vain.add(1);
            return Ok(());
        }
        judge.metrics.clicks.add(1);
        let key = Rc::new(key(judge, batch, click)?);
        let verified = self.touch(judge, click);
        if click.reject.is_some() {
            self.count(key, Counts { rejected: 1, ..Counts::default() });
            return Ok(());
        }
        self.count(Rc::clone(&key), Counts { clicks: 1, ..Counts::default() });
        if click.billable {
            match &mut judge.memory.dedupe {
                None => self.count(key, Counts { billable: 1, ..Counts::default() }),
                Some(dedupe) => {
                    for (row, billable) in dedupe.take(&billable(click, verified), key) {
                        self.count(row, Counts { billable, ..Counts::default() });
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes everything, counts on a lane of the rollups.
    pub fn write(self, judge: &mut Judge<'_>, batch: &mut Batch<'_>, lane: i32) -> Result<(), StoreError> {
        let mut rows: Vec<(&ClickKey, Counts)> = self.rows.iter().map(|(key, counts)| (&**key, *counts)).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        batch.add_clicks(rows.into_iter(), lane)?;
        if judge.memory.touches.are_shared() {
            return judge.late_clicks_of_many(batch, &self.late, &self.unlisted);
        }
        let now = judge.now;
        judge.memory.touches.add(batch, &self.touched, now)?;
        self.late.into_values().try_for_each(|clicks| judge.late_clicks(batch, &clicks))
    }

    /// A touch comes only from an ID that verifies: it says who was sent where and when.
    fn touch(&mut self, judge: &mut Judge<'_>, click: &'c Click<'c>) -> Option<ClickId> {
        let text = click.click_id.as_deref()?;
        let click_id = match ClickId::verify(text, judge.keys) {
            Verdict::Verified(click_id) => click_id,
            verdict => {
                judge.metrics.unverified_clicks.add(1);
                if verdict == Verdict::UnknownKey {
                    self.unlisted.entry(click.visitor_key).or_default().push(click.clicked_at_ms);
                }
                return None;
            }
        };
        judge.metrics.too_late_clicks.add(u64::from(judge.now - click_id.clicked_at() > LATE_CLICKS_MS));
        if judge.memory.touches.are_shared() {
            // Which of them come late only the store knows, as others decide too.
            self.late.entry(click_id.visitor_key()).or_default().push(Touch(click_id));
            return Some(click_id);
        }
        let label =
            |label: &'c Option<std::borrow::Cow<'c, str>>| label.as_deref().map(cut).filter(|text| !text.is_empty());
        let (link, source, sub1) = (label(&click.link), label(&click.source), label(&click.sub1));
        self.touched.push(Touched { click_id, link, source, sub1 });
        let clicked_at = click_id.clicked_at();
        judge.memory.horizon.click = judge.memory.horizon.click.max(clicked_at);
        if judge.memory.watched.may_concern(click_id.visitor_key(), clicked_at) {
            self.late.entry(click_id.visitor_key()).or_default().push(Touch(click_id));
        }
        Some(click_id)
    }

    fn count(&mut self, key: Rc<ClickKey>, counts: Counts) {
        *self.rows.entry(key).or_default() += counts;
    }
}

/// Whom clicks count for whose link names no publisher: no publisher has this number.
const NOBODY: PublisherId = PublisherId(0);

/// The row that a click is counted in.
fn key(judge: &mut Judge<'_>, batch: &Batch<'_>, click: &Click<'_>) -> Result<ClickKey, StoreError> {
    let label = |label: &'_ Option<std::borrow::Cow<'_, str>>| -> Box<str> { label.as_deref().map_or("", cut).into() };
    let labels = &mut judge.memory.labels;
    let hour = click.clicked_at_ms.hour();
    let mut publisher_id = click.publisher_id.unwrap_or(NOBODY);
    if click.reject.as_deref() == Some("unknown_publisher") {
        publisher_id = labels.admit_unknown_publisher(hour, publisher_id);
    }
    let scope = Scope { hour, publisher_id };
    if !labels.knows(scope) {
        labels.learn(scope, batch.view().labels(scope)?);
    }
    let (source, sub1) = (label(&click.source), label(&click.sub1));
    let (source, sub1) = labels.admit(scope, &source, &sub1);
    Ok(ClickKey {
        quarter: quarter(click.clicked_at_ms),
        publisher_id,
        merchant_id: click.merchant_id,
        offer_id: click.offer_id,
        link: label(&click.link),
        source: source.into(),
        sub1: sub1.into(),
    })
}

fn billable<'c>(click: &'c Click<'c>, verified: Option<ClickId>) -> Billable<'c> {
    Billable {
        clicked_at: click.clicked_at_ms,
        // Within a millisecond the click that got the cookie comes before the one that brought it.
        tie: u64::from(!click.visitor_new) << 32 | verified.map_or(0, |id| u64::from(id.random())),
        visitor: click.visitor_key,
        had_cookie: !click.visitor_new,
        ip_key: click.ip_key.as_deref().unwrap_or_default(),
        user_agent: click.user_agent.as_deref().unwrap_or_default(),
        offer_id: click.offer_id,
        publisher_id: click.publisher_id.unwrap_or(NOBODY),
        page: click.url.as_deref().unwrap_or_default(),
    }
}
