//! Where each key was set, for what turns out wrong with its value after it was read (contract P3): a port in use, a
//! file that is not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::environment::{self, Variable};
use crate::toml_reader::{Source, Violation};

/// Lines of the config file's keys, and variables, by `section.key`.
#[derive(Clone, Debug, Default)]
pub struct Places {
    file: PathBuf,
    lines: BTreeMap<String, usize>,
    variables: BTreeMap<String, String>,
}

impl Places {
    /// `text` has been read without violations.
    pub fn of(file: &Path, text: &str, variables: &[Variable]) -> Places {
        let source = Source::new(file, text);
        let mut lines = BTreeMap::new();
        for (section, table) in source.parse().iter().flat_map(|document| document.get_ref().iter()) {
            for (key, value) in table.get_ref().as_table().iter().flat_map(|table| table.iter()) {
                let name = format!("{}.{}", section.get_ref(), key.get_ref());
                lines.insert(name, source.line_of(value.span().start));
            }
        }
        let variables = variables.iter().map(|variable| (variable.key_name(), variable.name().to_owned())).collect();
        Places { file: file.to_owned(), lines, variables }
    }

    /// What is wrong with the value of `key` (`section.key`): at the variable or the line that set it, else as the
    /// default that it is.
    pub fn violation(&self, key: &str, message: String) -> Violation {
        if let Some(variable) = self.variables.get(key) {
            return environment::violation(variable, &message);
        }
        let (file, line) = match self.lines.get(key) {
            Some(line) => (self.file.clone(), *line),
            None => ("default".into(), 1),
        };
        Violation { file, line, key: key.to_owned(), message }
    }
}
