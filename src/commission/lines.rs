//! The lines of an order, as commission sees them (contract M27).

use crate::event::Conversion;
use crate::money::{MAX_AMOUNT, MinorUnits};

/// One item, or the whole order where no items were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub sku: Option<&'a str>,
    pub category: Option<&'a str>,
    pub quantity: u32,
    pub unit_amount: MinorUnits,
    /// Of the whole line.
    pub discount: MinorUnits,
    /// Quantity x unit amount - discount, in minor units. The discount is taken here and nowhere else.
    pub amount: MinorUnits,
    pub out_of_stock: bool,
}

pub fn lines(report: &Conversion) -> Vec<Line<'_>> {
    if report.items.is_empty() {
        let amount = within(i128::from(report.amount));
        let (unit_amount, discount) = (amount, 0);
        return vec![Line {
            sku: None,
            category: None,
            quantity: 1,
            unit_amount,
            discount,
            amount,
            out_of_stock: false,
        }];
    }
    let items = report.items.iter().map(|item| Line {
        sku: item.sku.as_deref(),
        category: item.category.as_deref(),
        quantity: item.quantity,
        unit_amount: item.unit_amount,
        discount: item.discount,
        amount: within(i128::from(item.unit_amount) * i128::from(item.quantity) - i128::from(item.discount)),
        out_of_stock: item.out_of_stock,
    });
    items.collect()
}

/// The order's amount: the sum of its lines, which intake has made equal to the reported one (contract I3).
pub fn order_amount(lines: &[Line]) -> MinorUnits {
    lines.iter().fold(0, |sum: MinorUnits, line| sum.saturating_add(line.amount))
}

/// Intake accepts no other amounts (contract I2); facts from elsewhere are held to the same bounds.
fn within(amount: i128) -> MinorUnits {
    amount.clamp(0, i128::from(MAX_AMOUNT)) as MinorUnits
}
