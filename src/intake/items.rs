//! The lines of an order: each right in itself, and adding up (contract I2, I3).

use super::fields::Fields;
use crate::event::Item;
use crate::money::{MAX_AMOUNT, MinorUnits};

const MAX_ITEMS: usize = 1_000;
const MAX_QUANTITY: i64 = 1_000_000;
const MAX_CHARACTERS: usize = 255;

/// The lines in minor units: what was sent times `factor`.
pub fn read(fields: &mut Fields<'_, '_>, factor: MinorUnits) -> Vec<Item> {
    let lines = fields.objects("items", MAX_ITEMS);
    let mut items = Vec::with_capacity(lines.len());
    for mut line in lines {
        items.extend(read_line(&mut line, factor));
        fields.adopt(line);
    }
    items
}

/// Of all lines; `None` beyond what an order may cost.
pub fn sum(items: &[Item]) -> Option<MinorUnits> {
    let sum = items.iter().try_fold(0, |sum: MinorUnits, item| sum.checked_add(item.amount()?))?;
    (sum <= MAX_AMOUNT).then_some(sum)
}

/// The lines as their hash sees them: by value, in order.
pub fn canonical(items: &[Item]) -> Vec<u8> {
    let text =
        |text: &Option<String>| text.clone().map_or_else(|| "-".to_owned(), |text| format!("{}:{text}", text.len()));
    let line = |item: &Item| {
        let (sku, category) = (text(&item.sku), text(&item.category));
        let numbers = (item.quantity, item.unit_amount, item.discount, item.out_of_stock);
        format!("{sku},{category},{numbers:?};")
    };
    items.iter().map(line).collect::<String>().into_bytes()
}

fn read_line(line: &mut Fields<'_, '_>, factor: MinorUnits) -> Option<Item> {
    let largest = MAX_AMOUNT / factor;
    for required in ["quantity", "unit_amount"] {
        if line.value(required).is_none() {
            line.fault::<()>(required, "is required");
        }
    }
    let sku = line.short_text("sku", MAX_CHARACTERS).map(str::to_owned);
    let category = line.short_text("category", MAX_CHARACTERS).map(str::to_owned);
    let quantity = line.integer("quantity", 1..=MAX_QUANTITY).and_then(|quantity| u32::try_from(quantity).ok());
    let unit_amount = line.integer("unit_amount", 0..=largest).map(|amount| amount * factor);
    let discount = line.integer("discount", 0..=largest).map_or(0, |discount| discount * factor);
    let out_of_stock = line.boolean("out_of_stock").unwrap_or(false);
    let item = Item { sku, category, quantity: quantity?, unit_amount: unit_amount?, discount, out_of_stock };
    if item.amount().is_none() && line.is_sound() {
        let gross = i128::from(item.unit_amount) * i128::from(item.quantity);
        return match gross < i128::from(item.discount) {
            true => line.fault("discount", "must not be more than quantity × unit_amount"),
            false => line.fault("unit_amount", "quantity × unit_amount is too large"),
        };
    }
    Some(item)
}
