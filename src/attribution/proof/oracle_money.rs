//! The oracle's half that counts money: lines, rates and refunds (M27-M40), one small step at a time.

use super::*;

/// A line, and how much of it is not refunded yet.
struct Row {
    sku: Option<String>,
    category: Option<String>,
    quantity: i128,
    amount: i128,
    out_of_stock: bool,
}

pub struct Basket {
    kind: String,
    rows: Vec<Row>,
}

pub struct Earned {
    pub lines: Vec<i128>,
    pub fixed: i128,
}

pub struct Left {
    pub full: bool,
    pub amount_left: i64,
    pub millionths_left: i128,
}

impl Basket {
    pub fn of(report: &Conversion) -> Basket {
        let mut rows = Vec::new();
        for item in &report.items {
            let quantity = i128::from(item.quantity);
            let amount = quantity * i128::from(item.unit_amount) - i128::from(item.discount);
            let (sku, category) = (item.sku.clone(), item.category.clone());
            rows.push(Row { sku, category, quantity, amount, out_of_stock: item.out_of_stock });
        }
        if rows.is_empty() {
            let amount = i128::from(report.amount);
            rows.push(Row { sku: None, category: None, quantity: 1, amount, out_of_stock: false });
        }
        Basket { kind: report.kind.clone(), rows }
    }

    fn amount(&self) -> i128 {
        self.rows.iter().map(|row| row.amount).sum()
    }

    pub fn earn(&self, rates: Option<&Terms>, with_coupon: bool) -> Result<Earned, Reason> {
        let all_out = self.rows.iter().all(|row| row.out_of_stock);
        let Some(terms) = rates else {
            return Err(if all_out { Reason::OutOfStock } else { Reason::ZeroRate });
        };
        if let Some(rate) = terms.conversion_rates.get(&self.kind) {
            return self.earn_by_type(*rate);
        }
        if all_out {
            return Err(Reason::OutOfStock);
        }
        let in_stock = self.rows.iter().filter(|row| !row.out_of_stock);
        if in_stock.clone().all(|row| is_zero(self.rate(row, terms, with_coupon))) {
            return Err(Reason::ZeroRate);
        }
        let percents = self.rows.iter().map(|row| match self.rate(row, terms, with_coupon) {
            Rate::PartsPerMillion(parts) if !row.out_of_stock => row.amount * i128::from(parts),
            _ => 0,
        });
        Ok(Earned { lines: percents.collect(), fixed: self.fixed(terms, with_coupon) })
    }

    /// M29.
    fn earn_by_type(&self, rate: Rate) -> Result<Earned, Reason> {
        match rate {
            rate if is_zero(rate) => Err(Reason::ZeroRate),
            Rate::Fixed(sum) => Ok(Earned { lines: vec![0; self.rows.len()], fixed: i128::from(sum) }),
            Rate::PartsPerMillion(parts) => {
                let lines = self.rows.iter().map(|row| row.amount * i128::from(parts)).collect();
                Ok(Earned { lines, fixed: 0 })
            }
        }
    }

    fn category_rate(&self, row: &Row, terms: &Terms) -> Option<Rate> {
        row.category.as_ref().and_then(|category| terms.rates.get(category).copied())
    }

    /// M26, M28.
    fn rate(&self, row: &Row, terms: &Terms, with_coupon: bool) -> Rate {
        let usual = self.category_rate(row, terms);
        if usual.is_some_and(is_zero) {
            return Rate::PartsPerMillion(0);
        }
        match terms.coupon_rate {
            Some(rate) if with_coupon => rate,
            _ => usual.unwrap_or(terms.default_rate),
        }
    }

    /// M26, M30: each fixed rate asks on its own whether a line earns it.
    fn fixed(&self, terms: &Terms, with_coupon: bool) -> i128 {
        let in_stock = || self.rows.iter().filter(|row| !row.out_of_stock);
        if let (true, Some(rate)) = (with_coupon, terms.coupon_rate) {
            let earns = in_stock().any(|row| !self.category_rate(row, terms).is_some_and(is_zero));
            return if earns { sum_of(rate) } else { 0 };
        }
        let mut fixed = 0;
        for (category, rate) in &terms.rates {
            if in_stock().any(|row| row.category.as_ref() == Some(category) && row.amount > 0) {
                fixed += sum_of(*rate);
            }
        }
        if in_stock().any(|row| self.category_rate(row, terms).is_none()) {
            fixed += sum_of(terms.default_rate);
        }
        fixed
    }

    /// M35-M40, refund by refund as they came; each takes no more than the ones before it left.
    pub fn refund(&self, refunds: &[Refund], commissions: &[i128]) -> Left {
        let mut refunds = refunds.to_vec();
        refunds.sort_by_key(|refund| (refund.received_at_ms, refund.refund_id.clone()));
        refunds.dedup_by_key(|refund| refund.refund_id.clone());
        let mut back = vec![0; self.rows.len()];
        let (mut by_amount, mut everything) = (0, false);
        for refund in refunds {
            if refund.items.is_empty() && refund.amount.is_none() {
                everything = true;
            }
            for item in &refund.items {
                for _ in 0..item.quantity {
                    let matches = |i: &usize| self.rows[*i].sku.as_ref() == Some(&item.sku);
                    if let Some(i) = (0..back.len()).filter(matches).find(|i| back[*i] < self.rows[*i].quantity) {
                        back[i] += 1;
                    }
                }
            }
            let left = self.amount() - self.value_of(&back) - by_amount;
            by_amount += i128::from(refund.amount.unwrap_or(0)).min(left.max(0));
        }
        let left = (self.amount() - self.value_of(&back) - by_amount).max(0);
        let full = everything || (self.amount() > 0 && left == 0);
        let total: i128 = commissions.iter().sum();
        let part = |(whole, (row, back)): (&i128, (&Row, &i128))| whole * back / row.quantity;
        let by_lines: i128 = commissions.iter().zip(self.rows.iter().zip(&back)).map(part).sum();
        let of_amount = if by_amount == 0 { 0 } else { total * by_amount / self.amount() };
        let millionths_left = if full { 0 } else { (total - by_lines - of_amount).max(0) };
        Left { full, amount_left: if full { 0 } else { left as i64 }, millionths_left }
    }

    fn value_of(&self, back: &[i128]) -> i128 {
        self.rows.iter().zip(back).map(|(row, back)| row.amount * back / row.quantity).sum()
    }
}

fn is_zero(rate: Rate) -> bool {
    sum_of(rate) == 0 && !matches!(rate, Rate::PartsPerMillion(1..))
}

fn sum_of(rate: Rate) -> i128 {
    match rate {
        Rate::Fixed(sum) => i128::from(sum),
        Rate::PartsPerMillion(_) => 0,
    }
}
