//! `AFFLUX__SECTION__KEY`: a TOML value if it parses, else a string (contract P14).

use std::path::Path;

use super::keys::{Keys, SECTIONS};
use crate::toml_reader::{Violation, Violations};

const PREFIX: &str = "AFFLUX__";

pub struct Variable {
    name: String,
    section: &'static str,
    key: &'static str,
    value: String,
}

/// Our variables; every one of another name is a violation.
pub fn collect(environment: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Variable>, Violations> {
    let mut variables = Vec::new();
    let mut violations = Violations::default();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        match known(rest) {
            Some((section, key)) => variables.push(Variable { name, section, key, value }),
            None => violations
                .add(violation(&name, "unknown, AFFLUX__SECTION__KEY is allowed for every key of the config file")),
        }
    }
    if violations.is_empty() { Ok(variables) } else { Err(violations) }
}

fn known(rest: &str) -> Option<(&'static str, &'static str)> {
    let (section, key) = rest.split_once("__")?;
    let section = SECTIONS.iter().find(|known| known.name.to_ascii_uppercase() == section)?;
    let key = section.keys.iter().find(|known| known.key.to_ascii_uppercase() == key)?;
    Some((section.name, key.key))
}

/// Reads the file's text again with the variables in place of its keys. A violation now is a variable's.
pub fn apply(path: &Path, text: &str, variables: &[Variable]) -> Result<Keys, Violations> {
    let mut table: toml::Table = toml::from_str(text).map_err(|error| {
        let message = format!("not TOML: {}", error.message());
        Violations {
            listed: vec![Violation { file: path.to_owned(), line: 1, key: String::new(), message }],
            unlisted: 0,
        }
    })?;
    for variable in variables {
        let section = table.entry(variable.section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(variable.key.to_owned(), value_of(&variable.value));
        }
    }
    let text = toml::to_string(&table).unwrap_or_default();
    super::read(path, &text).map_err(|violations| named(violations, variables))
}

fn value_of(text: &str) -> toml::Value {
    let parsed: Option<toml::Table> = toml::from_str(&format!("x = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("x"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn named(violations: Violations, variables: &[Variable]) -> Violations {
    let mut named = Violations { listed: Vec::new(), unlisted: violations.unlisted };
    for found in violations.listed {
        let of = |variable: &&Variable| found.key == format!("{}.{}", variable.section, variable.key);
        match variables.iter().find(of) {
            Some(variable) => named.add(violation(&variable.name, &found.message)),
            None => named.add(found),
        }
    }
    named
}

fn violation(name: &str, message: &str) -> Violation {
    Violation { file: "environment".into(), line: 1, key: name.to_owned(), message: message.to_owned() }
}
