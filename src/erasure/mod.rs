//! `afflux erase`: one visitor's touches go, and of their orders who bought. Money, decisions and their reasons stay as they
//! are: `afflux ledger check` says the same before and after.
//!
//! Everything is looked for before anything is taken out. Touches go first and reports last, so that who is stopped in
//! between finds the rest again. Spools and topics are never rewritten: they are the proof of the books, and age out.

mod person;
#[cfg(test)]
mod tests;

use crate::catalog::MerchantId;
use crate::click::{Keys, VisitorId, VisitorKey};
use crate::report::explain::Which;
use crate::spool::SpoolId;
use crate::store::{Reader, RowId, Store, StoreError, View};

pub use person::Person;

/// Rows that are read at once.
const STEP: usize = 256;

/// By what the operator knows the visitor.
#[derive(Clone, Debug)]
pub enum By {
    Cookie(VisitorId),
    /// Verified.
    Click(crate::click::ClickId),
    Order(Which),
}

/// What there is of them in the store.
#[derive(Debug, Default)]
pub struct Found {
    pub visitor_keys: Vec<VisitorKey>,
    /// In this store; in a cluster they are in Redis.
    pub touches: u64,
    /// Orders of theirs, with or without something left to take out.
    pub orders: Vec<(RowId, String)>,
    /// Of these, those that say who bought.
    pub telling: u64,
    /// Of these, those not decided for good yet: their touches are still needed.
    pub waiting: u64,
    pub differing: Vec<(SpoolId, u64)>,
    pub differing_of_orders: u64,
    pub dead_letters: Vec<(SpoolId, u64)>,
}

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub touches: u64,
    pub orders: u64,
    pub differing: u64,
    pub dead_letters: u64,
}

/// Who it is; `None` where the order is not known.
pub fn person(reader: &mut Reader, by: &By, keys: &Keys) -> Result<Option<Person>, StoreError> {
    reader.view(|view| {
        let merchants = view.merchants()?;
        let mut person = Person::default();
        match by {
            By::Cookie(visitor) => person.add_cookie(*visitor, &merchants, keys),
            By::Click(click_id) => person.add_click(*click_id),
            By::Order(which) => {
                let rows = which.find(view)?;
                if rows.is_empty() {
                    return Ok(None);
                }
                rows.iter().for_each(|row| person.add_order(row, &merchants, keys));
            }
        }
        while learn(view, &mut person, &merchants, keys)? {}
        Ok(Some(person))
    })
}

/// One walk through all orders. A cookie found at one merchant may have keys that find another's at a second: but a
/// visitor has few, and each walk that goes on finds one.
fn learn(view: View<'_>, person: &mut Person, merchants: &[MerchantId], keys: &Keys) -> Result<bool, StoreError> {
    let mut learned = false;
    let mut after = RowId(0);
    loop {
        let rows = view.conversions_after(after, STEP)?;
        rows.iter().for_each(|row| learned |= person.learn(row, merchants, keys));
        match rows.last() {
            Some(last) if rows.len() == STEP => after = last.id,
            _ => return Ok(learned),
        }
    }
}

/// Reads everything once: orders have no index by visitor that lasts.
pub fn find(reader: &mut Reader, person: &Person) -> Result<Found, StoreError> {
    reader.view(|view| {
        let visitor_keys = person.visitor_keys();
        let mut found = Found { touches: view.touch_count(&visitor_keys)?, visitor_keys, ..Found::default() };
        find_orders(view, person, &mut found)?;
        let mut after = None;
        loop {
            let differing = view.differing_after(after, STEP)?;
            after = differing.last().map(|one| (one.spool, one.seq));
            let theirs = differing.iter().filter(|one| person.is_in(one.event.as_bytes()));
            found.differing.extend(theirs.map(|one| (one.spool, one.seq)));
            if differing.len() < STEP {
                break;
            }
        }
        after = None;
        loop {
            let letters = view.dead_letters_after(after, STEP)?;
            after = letters.last().map(|one| (one.spool, one.seq));
            let theirs = letters.iter().filter(|one| person.is_in(&one.record));
            found.dead_letters.extend(theirs.map(|one| (one.spool, one.seq)));
            if letters.len() < STEP {
                return Ok(found);
            }
        }
    })
}

fn find_orders(view: View<'_>, person: &Person, found: &mut Found) -> Result<(), StoreError> {
    let mut after = RowId(0);
    loop {
        let rows = view.conversions_after(after, STEP)?;
        for row in rows.iter().filter(|row| person.bought(row)) {
            found.waiting += u64::from(view.waiting_of(row.id)?.is_some());
            found.telling += u64::from(row.report.clone().strip());
            found.differing_of_orders += view.differing_count(&row.report.conversion_id)?;
            found.orders.push((row.id, row.report.conversion_id.clone()));
        }
        match rows.last() {
            Some(last) if rows.len() == STEP => after = last.id,
            _ => return Ok(()),
        }
    }
}

/// Takes out what was found. An order at a time, so that nobody who decides waits for long.
pub fn erase(store: &mut Store, found: &Found) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    let batch = store.begin()?;
    erased.touches = batch.erase_touches(&found.visitor_keys)?;
    for (spool, seq) in &found.dead_letters {
        batch.erase_dead_letter(*spool, *seq)?;
    }
    for (spool, seq) in &found.differing {
        batch.erase_differing(*spool, *seq)?;
    }
    batch.commit()?;
    (erased.dead_letters, erased.differing) = (found.dead_letters.len() as u64, found.differing.len() as u64);
    for (id, conversion_id) in &found.orders {
        let batch = store.begin()?;
        erased.differing += batch.erase_differing_of(conversion_id)? as u64;
        erased.orders += u64::from(batch.strip_report(*id)?);
        batch.commit()?;
    }
    Ok(erased)
}
