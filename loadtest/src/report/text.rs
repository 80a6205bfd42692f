//! Text as it stands in HTML and SVG, and numbers as people read them.

/// Nothing that an outcome says becomes markup.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Three digits, and a comma for each thousand.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        return thousands(value.round() as i64);
    }
    let digits = if size >= 10.0 { 1 } else { 2 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

pub fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit that keeps them short.
pub fn duration(micros: f64) -> String {
    match micros {
        small if small < 1e3 => format!("{} µs", number(small)),
        medium if medium < 1e6 => format!("{} ms", number(medium / 1e3)),
        large => format!("{} s", number(large / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        assert_eq!(
            [7.0, 7.256, 23.53, 99.96, 41_500.4, 1_594_987.0].map(number),
            ["7", "7.26", "23.5", "100", "41,500", "1,594,987"]
        );
        assert_eq!(thousands(-1_000), "-1,000");
        assert_eq!([12.0, 1_500.0, 2e6].map(duration), ["12 µs", "1.5 ms", "2 s"]);
    }
}
