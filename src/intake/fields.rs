//! The fields of one JSON object, read with all their faults at once (contract I2): every reader returns the value if it
//! is there and right, and notes the fault at its pointer if it is there and wrong.

use std::ops::RangeInclusive;

use crate::api::Fault;
use crate::api::problem::MAX_FAULTS;
use crate::intake::json::{Members, Value};
use crate::time::TimeMs;

/// Order and refund numbers, in bytes (contract I2).
const MAX_NUMBER_BYTES: usize = 255;

pub struct Fields<'v, 'a> {
    members: &'v Members<'a>,
    /// Pointer of the object itself.
    place: String,
    faults: Vec<Fault>,
}

impl<'v, 'a> Fields<'v, 'a> {
    pub fn new(members: &'v Members<'a>, place: impl Into<String>) -> Fields<'v, 'a> {
        Fields { members, place: place.into(), faults: Vec::new() }
    }

    /// A field's value; `null` is as if absent.
    pub fn value(&self, name: &str) -> Option<&'v Value<'a>> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| value).filter(|v| **v != Value::Null)
    }

    pub fn text(&mut self, name: &str) -> Option<&'v str> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            _ => self.fault(name, "must be a string"),
        }
    }

    /// At most `characters` long.
    pub fn short_text(&mut self, name: &str, characters: usize) -> Option<&'v str> {
        let text = self.text(name)?;
        if text.chars().count() > characters {
            return self.fault(name, format!("must have at most {characters} characters"));
        }
        Some(text)
    }

    /// A required number of an order or a refund: a string that is compared byte by byte.
    pub fn number(&mut self, name: &str) -> Option<&'v str> {
        let Some(value) = self.value(name) else { return self.fault(name, "is required") };
        match value {
            Value::String(text)
                if (1..=MAX_NUMBER_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) =>
            {
                Some(text)
            }
            _ => self.fault(name, "must be a string of 1 to 255 bytes without control characters"),
        }
    }

    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            _ => self.fault(name, "must be true or false"),
        }
    }

    /// An integer token: neither `1.0` nor `1e3` nor a string.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let integer = match self.value(name)? {
            // `-0` and what no i64 holds are outside of every range here.
            Value::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        match integer.filter(|integer| range.contains(integer)) {
            Some(integer) => Some(integer),
            None => self.fault(name, format!("must be an integer from {} to {}", range.start(), range.end())),
        }
    }

    /// RFC 3339 with an offset.
    pub fn time(&mut self, name: &str) -> Option<TimeMs> {
        match TimeMs::parse_rfc3339(self.text(name)?) {
            Ok(time) => Some(time),
            Err(_) => self.fault(name, "must be RFC 3339 with an offset, like 2026-11-22T10:00:00+03:30"),
        }
    }

    /// A list of objects; an empty one is as if absent.
    pub fn objects(&mut self, name: &str, at_most: usize) -> Vec<Fields<'v, 'a>> {
        let values = match self.value(name) {
            None => return Vec::new(),
            Some(Value::Array(values)) if values.len() <= at_most => values,
            Some(_) => {
                self.fault::<()>(name, format!("must be a list of at most {at_most} objects"));
                return Vec::new();
            }
        };
        let mut objects = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match value {
                Value::Object(members) => objects.push(Fields::new(members, self.pointer(&format!("{name}/{index}")))),
                _ => self.fault(&format!("{name}/{index}"), "must be an object").unwrap_or(()),
            }
        }
        objects
    }

    /// Takes over what was wrong in an object of a list.
    pub fn adopt(&mut self, item: Fields<'_, '_>) {
        let room = MAX_FAULTS.saturating_sub(self.faults.len());
        self.faults.extend(item.faults.into_iter().take(room));
    }

    /// Notes a fault at `name` (relative, may be empty for the object itself). Always `None`, for early returns.
    pub fn fault<T>(&mut self, name: &str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Option<T> {
        if self.faults.len() < MAX_FAULTS {
            let pointer = if name.is_empty() { self.place.clone() } else { self.pointer(name) };
            self.faults.push(Fault::pointer(pointer, detail));
        }
        None
    }

    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// `name` is one of ours, so nothing in it needs RFC 6901's escapes.
    fn pointer(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }
}
