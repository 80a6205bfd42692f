//! `AFFLUX__SECTION__KEY`: a TOML value if it parses, else a string (contract P14).

use std::path::Path;

use super::keys::{Keys, SECTIONS};
use super::read;
use crate::toml_reader::{Violation, Violations};

const PREFIX: &str = "AFFLUX__";

pub struct Variable {
    name: String,
    section: &'static str,
    key: &'static str,
    value: String,
}

impl Variable {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As `section.key`.
    pub fn key_name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// Our variables; every one that sets no key is a violation.
pub fn collect(environment: impl IntoIterator<Item = (String, String)>) -> (Vec<Variable>, Violations) {
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
    (variables, violations)
}

fn known(rest: &str) -> Option<(&'static str, &'static str)> {
    let (section, key) = rest.split_once("__")?;
    let section = SECTIONS.iter().find(|known| known.name.to_ascii_uppercase() == section)?;
    let key = section.keys.iter().find(|known| known.key.to_ascii_uppercase() == key)?;
    Some((section.name, key.key))
}

/// Reads the file's text again with the variables in place of its keys. `file` is what the file said by itself: where
/// that was wrong, only what the variables add to it is told.
pub fn apply(
    path: &Path,
    text: &str,
    variables: &[Variable],
    file: Result<Keys, Violations>,
    violations: &mut Violations,
) -> Option<Keys> {
    let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
    for variable in variables {
        let section = table.entry(variable.section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(variable.key.to_owned(), value_of(&variable.value));
        }
    }
    let both =
        if variables.is_empty() { file.clone() } else { read(path, &toml::to_string(&table).unwrap_or_default()) };
    let file_is_right = file.is_ok();
    violations.extend(file.err().unwrap_or_default());
    match both {
        Ok(keys) => Some(keys),
        Err(found) => {
            let told = found.listed.into_iter().filter_map(|found| match named(&found, variables) {
                Some(violation) => Some(violation),
                // Right by itself, wrong beside a variable: the line is that of a text nobody wrote.
                None => (file_is_right && !variables.is_empty()).then_some(Violation { line: 1, ..found }),
            });
            told.for_each(|violation| violations.add(violation));
            None
        }
    }
}

fn value_of(text: &str) -> toml::Value {
    let parsed: Option<toml::Table> = toml::from_str(&format!("x = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("x"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// The violation as one of the variable that set the key.
fn named(found: &Violation, variables: &[Variable]) -> Option<Violation> {
    let of = |variable: &&Variable| found.key == variable.key_name();
    let variable = variables.iter().find(of)?;
    Some(violation(&variable.name, &found.message))
}

pub fn violation(name: &str, message: &str) -> Violation {
    Violation { file: "environment".into(), line: 1, key: name.to_owned(), message: message.to_owned() }
}
