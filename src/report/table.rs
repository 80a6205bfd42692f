//! A performance report as JSON and as CSV (contract I43).

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::performance::{Cell, Performance, Sums};
use super::query::GroupKey;

const SUMS: [&str; 7] =
    ["clicks", "billable_clicks", "rejected_clicks", "conversions", "amount", "commission", "reversed"];

impl Sums {
    fn values(&self) -> [i128; SUMS.len()] {
        [
            self.clicks,
            self.billable_clicks,
            self.rejected_clicks,
            self.conversions,
            self.amount,
            self.commission,
            self.reversed,
        ]
    }
}

impl Performance {
    pub fn to_json(&self) -> String {
        // Strings, numbers and null under string keys: it serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Lines end with a newline; a value with a comma, quote or line break is quoted (RFC 4180). Nothing is null.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        let names = self.group_by.iter().map(|key| key.name()).chain(SUMS).chain(self.shows_currency());
        push_line(&mut text, names.map(str::to_owned));
        for (key, sums) in &self.rows {
            let (groups, currency) = key.split_at(self.group_by.len());
            let currency = self.shows_currency().and(currency.first());
            let cells = groups.iter().map(Cell::text);
            let values = sums.values().map(|value| value.to_string());
            push_line(&mut text, cells.chain(values).chain(currency.map(Cell::text)));
        }
        text
    }

    /// The currency stands at the end, unless it is a group key.
    fn shows_currency(&self) -> Option<&'static str> {
        let name = GroupKey::Currency.name();
        (!self.group_by.contains(&GroupKey::Currency)).then_some(name)
    }
}

impl Serialize for Performance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("rows", &Rows(self))?;
        map.end()
    }
}

struct Rows<'p>(&'p Performance);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.rows.len()))?;
        for (key, sums) in &self.0.rows {
            list.serialize_element(&Row { report: self.0, key, sums })?;
        }
        list.end()
    }
}

struct Row<'p> {
    report: &'p Performance,
    key: &'p [Cell],
    sums: &'p Sums,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, cell) in self.report.group_by.iter().zip(self.key) {
            map.serialize_entry(name.name(), cell)?;
        }
        for (name, value) in SUMS.iter().zip(self.sums.values()) {
            map.serialize_entry(name, &value)?;
        }
        if let Some(name) = self.report.shows_currency() {
            map.serialize_entry(name, &self.key.last())?;
        }
        map.end()
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Number(number) => number.to_string(),
            Cell::Text(text) | Cell::Time(_, text) => text.clone(),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Null => serializer.serialize_none(),
            Cell::Number(number) => serializer.serialize_u32(*number),
            Cell::Text(text) | Cell::Time(_, text) => serializer.serialize_str(text),
        }
    }
}

fn push_line(text: &mut String, values: impl Iterator<Item = String>) {
    for (place, value) in values.enumerate() {
        if place > 0 {
            text.push(',');
        }
        if value.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&value.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&value);
        }
    }
    text.push('\n');
}
