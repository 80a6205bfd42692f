//! What each line earns under the terms that give the rates (contract M26-M32).

use std::collections::BTreeSet;

use super::Line;
use crate::catalog::rulebook::Terms;
use crate::money::{Millionths, MinorUnits, Rate};

/// Before rounding, refunds and splitting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earning<'a> {
    /// One per line, in the order of the lines.
    pub lines: Vec<Rated<'a>>,
    /// All fixed rates earned, in minor units.
    pub fixed: MinorUnits,
}

/// A line and the rate that was found for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated<'a> {
    pub line: Line<'a>,
    pub rate: Rate,
    pub source: RateSource,
    /// Out of stock where that counts (M31), at 0 % and fixed lines have 0.
    pub millionths: Millionths,
    /// What this line is the first to earn of a fixed rate.
    pub fixed: MinorUnits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateSource {
    /// `conversion_rates` (M29).
    Type,
    Category,
    Default,
    /// `coupon_rate` (M26).
    Coupon,
}

/// No line can earn anything, whatever its amount (contract M46, M47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotEarn {
    OutOfStock,
    ZeroRate,
}

impl Earning<'_> {
    pub fn millionths(&self) -> Millionths {
        self.lines.iter().map(|rated| rated.millionths).sum()
    }
}

impl Rated<'_> {
    /// Out of stock counts everywhere but under a rate by type (M29).
    pub fn is_out_of_stock(&self) -> bool {
        self.line.out_of_stock && self.source != RateSource::Type
    }

    fn can_earn(&self) -> bool {
        !self.is_out_of_stock() && !self.rate.is_zero()
    }
}

/// Rates every line. `with_coupon`: the conversion's coupon is one of this merchant's and usable (M26).
pub fn earn<'a>(
    lines: &[Line<'a>],
    kind: &str,
    terms: &Terms,
    with_coupon: bool,
) -> Result<Earning<'a>, (CannotEarn, Vec<Rated<'a>>)> {
    let rated = lines.iter().map(|line| {
        let (rate, source) = rate_of(line, kind, terms, with_coupon);
        Rated { line: *line, rate, source, millionths: 0, fixed: 0 }
    });
    let mut rated: Vec<Rated> = rated.collect();
    if !rated.iter().any(Rated::can_earn) {
        let all_out = !rated.is_empty() && rated.iter().all(Rated::is_out_of_stock);
        return Err((if all_out { CannotEarn::OutOfStock } else { CannotEarn::ZeroRate }, rated));
    }
    let mut earned_once = BTreeSet::new();
    for line in &mut rated {
        line.apply(&mut earned_once);
    }
    let fixed = rated.iter().fold(0, |sum: MinorUnits, line| sum.saturating_add(line.fixed));
    Ok(Earning { lines: rated, fixed })
}

/// The rate of a type stands alone; a coupon's replaces all others but a category's 0 % (M26, M28, M29).
fn rate_of(line: &Line, kind: &str, terms: &Terms, with_coupon: bool) -> (Rate, RateSource) {
    if let Some(rate) = terms.conversion_rates.get(kind) {
        return (*rate, RateSource::Type);
    }
    let category_rate = line.category.and_then(|category| terms.rates.get(category)).copied();
    match (category_rate, terms.coupon_rate) {
        (Some(rate), _) if rate.is_zero() => (rate, RateSource::Category),
        (_, Some(rate)) if with_coupon => (rate, RateSource::Coupon),
        (Some(rate), _) => (rate, RateSource::Category),
        (None, _) => (terms.default_rate, RateSource::Default),
    }
}

impl<'a> Rated<'a> {
    fn apply(&mut self, earned_once: &mut BTreeSet<(u8, &'a str)>) {
        if !self.can_earn() {
            return;
        }
        match self.rate {
            Rate::PartsPerMillion(parts) => {
                self.millionths = Millionths::from(self.line.amount) * Millionths::from(parts);
            }
            // A category must have sold something (M30). The default, the type's and the coupon's are earned by the
            // order as such, also at amount 0.
            Rate::Fixed(_) if self.source == RateSource::Category && self.line.amount == 0 => {}
            Rate::Fixed(sum) => {
                if earned_once.insert(self.once_key()) {
                    self.fixed = sum;
                }
            }
        }
    }

    /// A fixed rate is earned once per conversion and source, a category's once per category.
    fn once_key(&self) -> (u8, &'a str) {
        let category = self.line.category.filter(|_| self.source == RateSource::Category);
        (self.source as u8, category.unwrap_or_default())
    }
}
