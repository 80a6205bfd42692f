//! One line of a links file (contract P19): an object with the fields of a link. A line that is right is read by serde in
//! one pass; one that is not is read again, slowly, and everything that is wrong with it is told (contract P3).

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::entries::code_violation;
use super::{OfferId, PublisherId};

const FIELDS: [&str; 4] = ["code", "offer_id", "publisher_id", "url"];
const ALLOWED: &str = "{\"code\":\"x\",\"offer_id\":1,\"publisher_id\":1,\"url\":\"https://…\"}";

/// The key and what is wrong with it, what is allowed.
pub type Wrong = (Cow<'static, str>, String);

/// What could be read of a line; the rest is in `wrong`.
#[derive(Default)]
pub struct Line<'a> {
    pub code: Option<Cow<'a, str>>,
    pub offer_id: Option<OfferId>,
    pub publisher_id: Option<PublisherId>,
    pub url: Option<Cow<'a, str>>,
    pub wrong: Vec<Wrong>,
}

impl<'a> Line<'a> {
    pub fn read(bytes: &'a [u8]) -> Line<'a> {
        let mut line = Line::right(bytes).unwrap_or_else(|| Line::wrong(bytes));
        if let Some(message) = line.code.as_deref().and_then(code_violation) {
            line.code = None;
            line.wrong.push(("code".into(), message));
        }
        line
    }

    fn right(bytes: &'a [u8]) -> Option<Line<'a>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields<'a> {
            #[serde(borrow)]
            code: Cow<'a, str>,
            offer_id: u32,
            publisher_id: u32,
            #[serde(borrow, default)]
            url: Option<Cow<'a, str>>,
        }
        // serde would take an array of the fields' values as well.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let fields: Fields<'a> = serde_json::from_slice(bytes).ok()?;
        let (offer_id, publisher_id) = (fields.offer_id, fields.publisher_id);
        (offer_id > 0 && publisher_id > 0).then(|| Line {
            code: Some(fields.code),
            offer_id: Some(OfferId(offer_id)),
            publisher_id: Some(PublisherId(publisher_id)),
            url: fields.url,
            wrong: Vec::new(),
        })
    }

    fn wrong(bytes: &[u8]) -> Line<'a> {
        let mut line = Line::default();
        match serde_json::from_slice(bytes) {
            Ok(Members(members)) => line.take(members),
            Err(error) => line.wrong.push(("".into(), not_a_link(bytes, &error))),
        }
        line
    }

    fn take(&mut self, members: Vec<(String, Value)>) {
        for (index, (name, _)) in members.iter().enumerate() {
            let twice = members[..index].iter().any(|(other, _)| other == name);
            match FIELDS.iter().find(|field| *field == name) {
                None => self.note(name.clone(), format!("unknown key, allowed here: {}", FIELDS.join(", "))),
                Some(field) if twice => self.note(*field, "stands twice, once is allowed"),
                Some(_) => {}
            }
        }
        let value = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        self.code = self.text("code", value("code"));
        self.offer_id = self.id("offer_id", value("offer_id")).map(OfferId);
        self.publisher_id = self.id("publisher_id", value("publisher_id")).map(PublisherId);
        self.url = value("url").filter(|url| !url.is_null()).and_then(|url| self.text("url", Some(url)));
    }

    fn text(&mut self, name: &'static str, value: Option<&Value>) -> Option<Cow<'a, str>> {
        match value {
            Some(Value::String(text)) => return Some(Cow::Owned(text.clone())),
            Some(other) => self.note(name, format!("{}, a string is allowed", kind(other))),
            None => self.note(name, "missing, it is required"),
        }
        None
    }

    fn id(&mut self, name: &'static str, value: Option<&Value>) -> Option<u32> {
        let allowed = format!("a whole number from 1 to {} is allowed", u32::MAX);
        match value {
            Some(Value::Number(number)) => {
                let id = number.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0);
                if id.is_none() {
                    self.note(name, format!("{number}, {allowed}"));
                }
                return id;
            }
            Some(other) => self.note(name, format!("{}, {allowed}", kind(other))),
            None => self.note(name, "missing, it is required"),
        }
        None
    }

    fn note(&mut self, key: impl Into<Cow<'static, str>>, message: impl Into<String>) {
        self.wrong.push((key.into(), message.into()));
    }
}

/// An object with all that stands in it, also what stands twice.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Without serde's own line, which is always the first.
fn not_a_link(bytes: &[u8], error: &serde_json::Error) -> String {
    if let Ok(other) = serde_json::from_slice::<Value>(bytes).as_ref().map(kind) {
        return format!("{other}, an object is allowed: {ALLOWED}");
    }
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("not a link: {what}; allowed is {ALLOWED}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
