//! The part of JSON Schema (2020-12) that `docs/schema` uses. A keyword that is not known here is a failed test, so a
//! schema cannot say what nobody checks.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value, and those that others below look at.
const SILENT: [&str; 7] = ["$schema", "$id", "$defs", "title", "description", "required", "additionalProperties"];

/// What is wrong with `value`, each with the place in it. A field that the schema does not name is wrong unless the
/// schema has `additionalProperties`: readers pass over such fields, but we must not write what is not described.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { root: schema, faults: Vec::new() };
    check.value(schema, value, "");
    check.faults
}

struct Check<'s> {
    root: &'s Value,
    faults: Vec<String>,
}

impl<'s> Check<'s> {
    fn value(&mut self, schema: &'s Value, value: &Value, place: &str) {
        for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
            let fits = match keyword.as_str() {
                "$ref" => {
                    let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference");
                    self.value(self.root.pointer(pointer).expect(pointer), value, place);
                    true
                }
                "type" => is_of_type(value, wanted),
                "const" => value == wanted,
                "enum" => wanted.as_array().expect("a list").contains(value),
                // As the standard has it: a bound says nothing about a value of another type.
                "minimum" => integer(value).is_none_or(|number| number >= bound(wanted)),
                "maximum" => integer(value).is_none_or(|number| number <= bound(wanted)),
                "minLength" => value.as_str().is_none_or(|text| length(text) >= bound(wanted)),
                "maxLength" => value.as_str().is_none_or(|text| length(text) <= bound(wanted)),
                "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().expect("a pattern"), text)),
                "minItems" => value.as_array().is_none_or(|items| items.len() as i128 >= bound(wanted)),
                "maxItems" => value.as_array().is_none_or(|items| items.len() as i128 <= bound(wanted)),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.value(wanted, item, &format!("{place}/{index}"));
                    }
                    true
                }
                "properties" => {
                    self.fields(schema, wanted.as_object().expect("an object"), value, place);
                    true
                }
                "oneOf" => {
                    wanted.as_array().expect("a list").iter().filter(|one| has_required(one, value)).count() == 1
                }
                "not" => !has_required(wanted, value),
                silent => {
                    assert!(SILENT.contains(&silent), "the checker does not know the keyword {silent}");
                    true
                }
            };
            if !fits {
                self.faults.push(format!("{place}: {value} does not fit {keyword} {wanted}"));
            }
        }
    }

    fn fields(&mut self, schema: &'s Value, known: &'s Map<String, Value>, value: &Value, place: &str) {
        let Some(fields) = value.as_object() else { return };
        if !has_required(schema, value) {
            self.faults.push(format!("{place}: {value} lacks one of {}", schema["required"]));
        }
        for (name, field) in fields {
            match known.get(name) {
                Some(of_field) => self.value(of_field, field, &format!("{place}/{name}")),
                None => self.faults.push(format!("{place}/{name} is not described")),
            }
        }
    }
}

fn has_required(schema: &Value, value: &Value) -> bool {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.into_iter().all(|name| value.get(name).is_some())
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().expect("one type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => integer(value).is_some(),
        other => panic!("the checker does not know the type {other}"),
    }
}

fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn length(text: &str) -> i128 {
    text.chars().count() as i128
}

fn bound(wanted: &Value) -> i128 {
    integer(wanted).expect("a number")
}

/// Patterns of the form `^[class]{n}[class]{n,m}[class]+$`, which are all that we need.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).expect("an anchored pattern");
    let mut text = text.chars().peekable();
    while let Some(class_and_more) = rest.strip_prefix('[') {
        let (class, more) = class_and_more.split_once(']').expect("a class");
        let (least, most, more) = repetition(more);
        let mut count = 0;
        while count < most && text.next_if(|letter| is_in(class, *letter)).is_some() {
            count += 1;
        }
        if count < least {
            return false;
        }
        rest = more;
    }
    assert_eq!(rest, "", "the checker does not know the pattern {pattern}");
    text.next().is_none()
}

fn repetition(more: &str) -> (usize, usize, &str) {
    if let Some(more) = more.strip_prefix('+') {
        return (1, usize::MAX, more);
    }
    let Some((counts, rest)) = more.strip_prefix('{').and_then(|more| more.split_once('}')) else {
        return (1, 1, more);
    };
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    (least.parse().expect("a number"), most.parse().expect("a number"), rest)
}

fn is_in(class: &str, letter: char) -> bool {
    let letters: Vec<char> = class.chars().collect();
    let in_range = letters.windows(3).any(|three| three[1] == '-' && three[0] <= letter && letter <= three[2]);
    in_range || letters.contains(&letter)
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let schema = serde_json::json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "pattern": "^[a-c][0-9]{2,3}$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 3},
            "list": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/word"}},
            "free": {"type": "object", "additionalProperties": true},
        },
        "not": {"required": ["count", "list"]},
        "$defs": {"word": {"enum": ["x", "y"]}},
    });
    let wrong = |value: Value| faults(&schema, &value).len();
    assert_eq!(wrong(serde_json::json!({"id": "b12", "count": 3, "free": {"any": [1]}})), 0);
    for value in [
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!({"id": "d12"}),
        serde_json::json!({"id": "a1"}),
        serde_json::json!({"id": "a1234"}),
        serde_json::json!({"id": "a12", "count": 0}),
        serde_json::json!({"id": "a12", "count": 4}),
        serde_json::json!({"id": "a12", "count": "1"}),
        serde_json::json!({"id": "a12", "list": []}),
        serde_json::json!({"id": "a12", "list": ["z"]}),
        serde_json::json!({"id": "a12", "count": 1, "list": ["x"]}),
        serde_json::json!({"id": "a12", "unknown": 1}),
    ] {
        assert_eq!(wrong(value.clone()), 1, "{value}: {:?}", faults(&schema, &value));
    }
}
