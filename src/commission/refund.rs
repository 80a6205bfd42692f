//! What refunds take back (contract M34-M40). The result depends on the set of refunds only, not on their order: pieces
//! and amounts add up, and whatever exceeds the order has refunded it whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Line, grouped, order_amount, proportion};
use crate::event::{Refund, RefundItem};
use crate::money::{Millionths, MinorUnits};

/// All refunds of one order together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refunded {
    /// Of the exact line commissions; at most their sum.
    pub millionths: Millionths,
    /// Of the order's amount; at most that.
    pub amount: MinorUnits,
    /// Nothing of the amount is left, or a refund of everything came: fixed rates are reversed too (M40).
    pub full: bool,
    /// What each refund did, in order of receipt: its ID and plain English.
    pub notes: Vec<(String, String)>,
    /// What those did that are only known as a sum.
    pub more: Option<String>,
}

/// Refunds of one order added up: as good as each of them, as they add up in any order, but for what can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundSum {
    pub count: u64,
    /// By amount.
    pub amount: MinorUnits,
    /// Pieces by `sku`, of those that the order has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pieces: BTreeMap<String, u64>,
    /// One was of the whole order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

impl RefundSum {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `knows`: whether the order has an item of that `sku`; others have no effect (contract M39), and no bound.
    pub fn add(&mut self, refund: &Refund, knows: impl Fn(&str) -> bool) {
        self.count += 1;
        match refund.amount {
            _ if refund.is_full() => self.whole = true,
            Some(amount) if refund.items.is_empty() => self.amount = self.amount.saturating_add(amount.max(0)),
            _ => refund.items.iter().filter(|item| knows(&item.sku)).for_each(|item| {
                let pieces = self.pieces.entry(item.sku.clone()).or_default();
                *pieces = pieces.saturating_add(u64::from(item.quantity));
            }),
        }
    }
}

/// `commissions`: exact commission of each line, as long as `lines`. Refunds count once per `refund_id`; `more` is the
/// sum of others.
pub fn refunded(lines: &[Line], commissions: &[Millionths], refunds: &[Refund], more: &RefundSum) -> Refunded {
    let mut state = State::new(lines);
    let mut seen = BTreeSet::new();
    let mut notes = Vec::new();
    for refund in in_order(refunds).into_iter().filter(|refund| seen.insert(&refund.refund_id)) {
        notes.push((refund.refund_id.clone(), state.apply(refund)));
    }
    let more = (!more.is_empty()).then(|| state.apply_sum(more));
    Refunded { notes, more, ..state.result(commissions) }
}

/// By receipt; the rest only makes the order of equal times a function of the set.
fn in_order(refunds: &[Refund]) -> Vec<&Refund> {
    let mut ordered: Vec<&Refund> = refunds.iter().collect();
    ordered.sort_by_key(|refund| (refund.received_at_ms, &refund.refund_id, &refund.content_hash));
    ordered
}

struct State<'a> {
    lines: &'a [Line<'a>],
    order_amount: MinorUnits,
    /// Places of the lines of each `sku`, in their order.
    by_sku: BTreeMap<&'a str, Vec<usize>>,
    /// Refunded quantity of each line.
    pieces: Vec<u32>,
    by_amount: MinorUnits,
    whole: bool,
}

impl<'a> State<'a> {
    fn new(lines: &'a [Line<'a>]) -> State<'a> {
        let mut by_sku: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, line) in lines.iter().enumerate() {
            if let Some(sku) = line.sku {
                by_sku.entry(sku).or_default().push(place);
            }
        }
        let (order_amount, pieces) = (order_amount(lines), vec![0; lines.len()]);
        State { lines, order_amount, by_sku, pieces, by_amount: 0, whole: false }
    }

    fn apply(&mut self, refund: &Refund) -> String {
        if self.nothing_left() {
            return "no effect, nothing of the order was left.".into();
        }
        match refund.amount {
            _ if refund.is_full() => {
                self.whole = true;
                "of the whole order.".into()
            }
            Some(amount) if refund.items.is_empty() => self.take_amount(amount),
            // Intake refuses both (contract I37); the items say more.
            _ => self.take_items(&refund.items),
        }
    }

    fn apply_sum(&mut self, more: &RefundSum) -> String {
        self.whole |= more.whole;
        for (sku, quantity) in &more.pieces {
            self.take_sku(sku, *quantity);
        }
        if more.amount > 0 {
            self.take_amount(more.amount);
        }
        let pieces = more.pieces.values().fold(0, |sum: u64, pieces| sum.saturating_add(*pieces));
        let whole = if more.whole { ", and the whole order" } else { "" };
        let (count, amount, pieces) = (grouped(more.count), grouped(more.amount), grouped(pieces));
        format!("{count} more refunds count and are not told one by one: {amount} by amount, {pieces} pieces{whole}.")
    }

    fn take_amount(&mut self, amount: MinorUnits) -> String {
        let taken = amount.clamp(0, self.left());
        // Below the order's amount, which fits.
        self.by_amount += taken;
        let asked = if taken < amount { more_than_left(amount) } else { String::new() };
        let (whole, left) = (grouped(self.order_amount), grouped(self.left()));
        format!("by amount, {} of {whole}{asked}; {left} are left.", grouped(taken))
    }

    fn take_items(&mut self, items: &[RefundItem]) -> String {
        let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
        for item in items {
            let quantity = asked.entry(&item.sku).or_default();
            *quantity = quantity.saturating_add(u64::from(item.quantity));
        }
        let notes: Vec<String> = asked.into_iter().map(|(sku, quantity)| self.take_sku(sku, quantity)).collect();
        format!("by items, {}.", notes.join("; "))
    }

    /// Lines of equal `sku` are used up in their order (M35).
    fn take_sku(&mut self, sku: &str, quantity: u64) -> String {
        let Some(places) = self.by_sku.get(sku) else {
            return format!("the order has no sku {sku:?}, no effect");
        };
        let mut wanted = quantity;
        for &place in places {
            let pieces = &mut self.pieces[place];
            let taken = wanted.min(u64::from(self.lines[place].quantity.saturating_sub(*pieces)));
            // At most the line's quantity, which is 32 bit.
            *pieces += taken as u32;
            wanted -= taken;
        }
        let taken = quantity - wanted;
        let asked = if wanted > 0 { more_than_left(quantity) } else { String::new() };
        format!("{} of sku {sku:?}{asked}", grouped(taken))
    }

    fn amount_by_items(&self) -> MinorUnits {
        let of_line = |(line, pieces): (&Line, &u32)| of_line(line, *pieces, i128::from(line.amount)) as MinorUnits;
        self.lines.iter().zip(&self.pieces).map(of_line).fold(0, MinorUnits::saturating_add)
    }

    fn left(&self) -> MinorUnits {
        (self.order_amount - self.amount_by_items()).saturating_sub(self.by_amount).max(0)
    }

    /// An order of amount 0 has nothing to lose but itself: only a refund of everything takes it back (M40).
    fn nothing_left(&self) -> bool {
        self.whole || (self.order_amount > 0 && self.left() == 0)
    }

    fn result(self, commissions: &[Millionths]) -> Refunded {
        let total: Millionths = commissions.iter().sum();
        let amount = self.order_amount;
        if self.nothing_left() {
            return Refunded { millionths: total, amount, full: true, ..Refunded::default() };
        }
        let by_lines: Millionths = self
            .lines
            .iter()
            .zip(&self.pieces)
            .zip(commissions)
            .map(|((line, pieces), commission)| of_line(line, *pieces, *commission))
            .sum();
        let by_amount = match self.by_amount {
            0 => 0,
            part => proportion(total, i128::from(part), i128::from(amount)),
        };
        let millionths = (by_lines + by_amount).min(total);
        Refunded { millionths, amount: amount - self.left(), ..Refunded::default() }
    }
}

fn more_than_left(asked: impl Into<i128>) -> String {
    format!(" ({} were asked for, more than was left)", grouped(asked))
}

/// Of a line's commission or amount so far: floor(whole x pieces / quantity), the whole when all are back (M35).
fn of_line(line: &Line, pieces: u32, whole: i128) -> i128 {
    if pieces == 0 { 0 } else { proportion(whole, i128::from(pieces), i128::from(line.quantity)) }
}
