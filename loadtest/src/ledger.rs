//! Asks the public interface for the books, until they are right or the time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use crate::asking::{get, get_json, metric};
use crate::books::{self, Reported};
use crate::clicked::Clicked;
use crate::market::Market;
use crate::orders::{Due, Order};
use crate::outcome::Books;
use crate::problems::Problems;
use crate::wire::Target;

/// Conversions that are looked at one by one, even where all sums are right.
const SAMPLE: usize = 300;

/// The same where a sum is wrong: to name the order.
const SEARCHED: usize = 20_000;

pub struct Interface {
    pub console: Target,
    pub admins: Vec<Target>,
    pub operator_token: String,
}

/// What was seen, and what must be.
pub struct Seen<'s> {
    pub clicked: &'s Clicked,
    pub orders: &'s [Order],
    /// What the spools hold, where somebody looked.
    pub recorded: Option<u64>,
    pub market: &'s Market,
    pub before: &'s Reported,
}

impl Interface {
    /// Everything that the books need; links only where there are not too many.
    pub fn look(&self, with_links: bool) -> anyhow::Result<Reported> {
        let mut reported = Reported::default();
        for row in self.rows("publisher,sub1")? {
            let key = (number(&row["publisher"]), text(&row["sub1"]));
            add(reported.labels.entry(key).or_default(), &row, "clicks");
        }
        if with_links {
            let mut links = BTreeMap::new();
            for row in self.rows("link")? {
                add(links.entry(text(&row["link"])).or_default(), &row, "clicks");
            }
            reported.links = Some(links);
        }
        for row in self.rows("publisher")? {
            let key = (number(&row["publisher"]), text(&row["currency"]).unwrap_or_default());
            let sum = reported.publishers.entry(key).or_default();
            add(&mut sum.0, &row, "conversions");
            add(&mut sum.1, &row, "commission");
        }
        for row in self.rows("currency")? {
            let sum = reported.currencies.entry(text(&row["currency"]).unwrap_or_default()).or_default();
            add(&mut sum.0, &row, "conversions");
            add(&mut sum.1, &row, "amount");
            add(&mut sum.2, &row, "commission");
        }
        if !self.admins.is_empty() {
            let (mut recorded, mut unrecorded) = (0.0, 0.0);
            for admin in &self.admins {
                let page = self.metrics(admin)?;
                recorded += metric(&page, "afflux_spool_records_total", "topic=\"clicks\"");
                unrecorded += metric(&page, "afflux_spool_undurable_total", "kind=\"unspooled\"");
            }
            (reported.recorded, reported.unrecorded) = (Some(recorded as i64), unrecorded as i64);
        }
        Ok(reported)
    }

    pub fn metrics(&self, admin: &Target) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&get(admin, "/metrics", None)?.1).into_owned())
    }

    fn rows(&self, group_by: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by={group_by}");
        let mut report = get_json(&self.console, &path, &self.operator_token)?;
        let rows = report.get_mut("rows").and_then(Value::as_array_mut).map(std::mem::take);
        rows.with_context(|| format!("{path}: no rows"))
    }

    /// Clicks and conversions in all: cheaper than a look.
    fn totals(&self) -> anyhow::Result<(i64, i64)> {
        let mut totals = (0, 0);
        for row in self.rows("currency")? {
            add(&mut totals.0, &row, "clicks");
            add(&mut totals.1, &row, "conversions");
        }
        Ok(totals)
    }

    /// Waits until the books are right, at most until the deadline; then says what is wrong with them.
    pub fn close(&self, seen: &Seen<'_>, deadline: Instant) -> anyhow::Result<(Books, Problems)> {
        let due = Due::of(seen.orders, seen.market);
        let conversions: i64 = due.currencies.values().map(|(conversions, ..)| conversions).sum();
        let before = (seen.before.clicks(), seen.before.conversions());
        let least = seen.recorded.unwrap_or(0).max(seen.clicked.answered) as i64;
        loop {
            let (clicks, reported) = self.totals()?;
            let is_there = clicks - before.0 >= least && reported - before.1 >= conversions;
            if is_there || Instant::now() > deadline {
                let now = self.look(seen.before.links.is_some())?.since(seen.before);
                let (books, sums) = books::compare(seen.clicked, &due, &now, seen.market, seen.recorded);
                if sums.is_empty() || Instant::now() > deadline {
                    // Orders first: they say the most.
                    let mut problems =
                        self.check_orders(seen, if sums.is_empty() { SAMPLE } else { SEARCHED }, deadline)?;
                    problems.add(sums);
                    return Ok((books, problems));
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Each by itself: who earns what of it.
    fn check_orders(&self, seen: &Seen<'_>, count: usize, deadline: Instant) -> anyhow::Result<Problems> {
        let mut problems = Problems::default();
        let known: Vec<&Order> = seen.orders.iter().filter(|order| order.conversion_id.is_some()).collect();
        let step = known.len().div_ceil(count).max(1);
        for order in known.into_iter().step_by(step) {
            let id = order.conversion_id.as_deref().unwrap_or_default();
            loop {
                let conversion = get_json(&self.console, &format!("/v1/conversions/{id}"), &self.operator_token)?;
                match difference(order, &conversion) {
                    None => break,
                    Some(_) if conversion["outcome"] == "pending" && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    Some(told) => {
                        problems.push(format!("order {} ({id}): {told}", order.order_id));
                        break;
                    }
                }
            }
        }
        Ok(problems)
    }
}

/// What an order must earn, and what its conversion says.
fn difference(order: &Order, conversion: &Value) -> Option<String> {
    let expected: BTreeMap<u64, i64> = order
        .shares
        .iter()
        .zip(order.commissions())
        .map(|(share, money)| (u64::from(share.publisher_id), money))
        .collect();
    let shares = conversion["shares"].as_array().map_or(&[][..], Vec::as_slice);
    let own = |share: &Value| Some((share["publisher_id"].as_u64()?, share["commission"].as_i64()?));
    let found: BTreeMap<u64, i64> = shares.iter().filter_map(own).collect();
    let is_whole = conversion["order_id"] == order.order_id.as_str() && conversion["outcome"] == "attributed";
    (found != expected || !is_whole).then(|| {
        format!(
            "{expected:?} is due by publisher, and it says {}: {found:?}",
            shown(&conversion["outcome"], &conversion["reason"])
        )
    })
}

fn shown(outcome: &Value, reason: &Value) -> String {
    [outcome, reason].iter().filter_map(|value| value.as_str()).collect::<Vec<_>>().join("/")
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn add(to: &mut i64, row: &Value, name: &str) {
    *to += row[name].as_i64().unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commission::Share;

    #[test]
    fn an_order_with_another_share_or_outcome_is_named() {
        let order = Order {
            order_id: "A".into(),
            merchant: 0,
            amount: 1_000,
            total_millionths: 100_000_000,
            shares: vec![Share { publisher_id: 7, parts: 1_000_000 }],
            conversion_id: Some("c".into()),
            refunded: None,
        };
        let conversion = |publisher: u32, commission: i64, outcome: &str| {
            serde_json::json!({"order_id": "A", "outcome": outcome,
                "shares": [{"publisher_id": publisher, "parts": 1_000_000, "commission": commission}]})
        };
        assert_eq!(difference(&order, &conversion(7, 100, "attributed")), None);
        assert!(difference(&order, &conversion(7, 101, "attributed")).is_some());
        assert!(difference(&order, &conversion(8, 100, "attributed")).is_some());
        assert!(difference(&order, &conversion(7, 100, "pending")).unwrap().contains("pending"));
    }
}
