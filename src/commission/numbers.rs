//! Numbers as people read them.

use crate::money::{MILLIONTHS_PER_UNIT, Millionths};

/// 1250000 as "1,250,000".
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Millionths of a minor unit as a decimal: 12480000 is "12.48".
pub fn exact(millionths: Millionths) -> String {
    let decimals = format!("{:06}", (millionths % MILLIONTHS_PER_UNIT).unsigned_abs());
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    format!("{}{point}{decimals}", grouped(millionths / MILLIONTHS_PER_UNIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_250_000, "1,250,000"), (-1_000, "-1,000")] {
            assert_eq!(grouped(number), text);
        }
        for (millionths, text) in [(12_480_000, "12.48"), (98_000_000, "98"), (1, "0.000001")] {
            assert_eq!(exact(millionths), text);
        }
    }
}
