//! First reports of their orders, as nearly all are, stored many at a time: each kind of row in one statement. Everything
//! else, and whatever does not go in together, is applied one by one.

use std::collections::{HashMap, HashSet};

use super::gather::Span;
use super::judge::{Judge, NotApplied, own_click, watched};
use super::lanes::{Step, What};
use crate::attribution::{Clicks, OwnClick};
use crate::event::{Conversion, Event};
use crate::store::{Batch, NewConversion, Stand, StatusFact, StoreError, Waiting};

impl Judge<'_> {
    /// Stores those of these steps that can be stored together. Returns their places among the steps. Where decisions are
    /// made at once there are none.
    pub fn store_together(&mut self, batch: &Batch<'_>, steps: &[Step<'_>]) -> Result<HashSet<usize>, StoreError> {
        if !self.memory.touches.are_shared() {
            return Ok(HashSet::new());
        }
        let mut told: HashMap<&str, usize> = HashMap::new();
        steps.iter().filter_map(Step::conversion_id).for_each(|id| *told.entry(id).or_default() += 1);
        let alone = |report: &Conversion| told.get(report.conversion_id.as_str()) == Some(&1);
        let mut first: Vec<(usize, &Step<'_>, &Conversion)> = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            match &step.what {
                What::Event(Event::Conversion(report)) if alone(report) => first.push((place, step, report)),
                _ => {}
            }
        }
        if first.len() < 2 {
            return Ok(HashSet::new());
        }
        let ids: Vec<&str> = first.iter().map(|(_, _, report)| report.conversion_id.as_str()).collect();
        // Both locked: nobody else adds one meanwhile.
        let (known, refunded) = (batch.view().numbers_of(&ids)?, batch.view().refunded(&ids)?);
        first.retain(|(_, _, report)| {
            !known.contains_key(&report.conversion_id) && !refunded.contains(&report.conversion_id)
        });
        if first.is_empty() {
            return Ok(HashSet::new());
        }
        match batch.attempt(|batch| self.store_reports(batch, &first)) {
            Ok(()) => {
                self.metrics.conversions.add(first.len() as u64);
                Ok(first.into_iter().map(|(place, ..)| place).collect())
            }
            Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(error),
            Err(_) => Ok(HashSet::new()),
        }
    }

    /// As `first_report_waits` does it for one.
    fn store_reports(
        &mut self,
        batch: &Batch<'_>,
        first: &[(usize, &Step<'_>, &Conversion)],
    ) -> Result<(), NotApplied> {
        let (catalog, settings, clicks) = (&*self.terms.hash, self.settings, &Clicks::default());
        let (mut new, mut stands, mut visitors) = (Vec::new(), Vec::new(), Vec::new());
        for (_, step, report) in first {
            let Step { spool, seq, at, .. } = **step;
            let own = own_click(report, self.keys);
            let own_click = own.unwrap_or(OwnClick::None);
            let status = report.merchant_status.map(|status| StatusFact { status, at, spool, seq });
            stands.push(if own.is_some() { Stand::New } else { Stand::ForKey });
            visitors.push((self.visitors(report, own_click, self.terms), Span::of(report, self.terms, self.settings)));
            new.push(NewConversion { report, spool, seq, own_click, clicks, status, catalog, settings });
        }
        let ids = batch.add_conversions(&new)?;
        let watching = ids.iter().zip(&visitors).flat_map(|(id, (visitors, span))| watched(visitors, *span, *id));
        batch.watch_visitors(&watching.collect::<Vec<_>>())?;
        let waiting = ids.iter().zip(&stands).map(|(id, stand)| Waiting { id: *id, since: self.now, stand: *stand });
        Ok(batch.put_waiting(&waiting.collect::<Vec<_>>())?)
    }
}
