//! Reads TOML written by people: every value knows its line, every violation is collected, unknown keys are refused
//! (contract P3). Config and catalog are both read with it.

mod values;
mod violations;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use values::{Choice, FromToml, Int, TokenHash, kind};
pub use violations::{MOST_VIOLATIONS, Violation, Violations};

/// A text and where its lines begin.
pub struct Source<'t> {
    file: PathBuf,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub fn new(file: &Path, text: &'t str) -> Source<'t> {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { file: file.to_owned(), text, line_starts }
    }

    /// The document, or the one violation of its syntax.
    pub fn parse(&self) -> Result<Spanned<DeTable<'t>>, Violation> {
        DeTable::parse(self.text).map_err(|error| Violation {
            file: self.file.clone(),
            line: error.span().map_or(1, |span| self.line_of(span.start)),
            key: String::new(),
            message: format!("not TOML: {}", error.message()),
        })
    }

    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }
}

/// One table being read. What was not asked for when `finish` is called is an unknown key.
pub struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    name: String,
    line: usize,
    asked: RefCell<Vec<&'static str>>,
    violations: &'a RefCell<Violations>,
}

impl<'a> Section<'a> {
    pub fn root(
        source: &'a Source<'a>,
        document: &'a Spanned<DeTable<'a>>,
        violations: &'a RefCell<Violations>,
    ) -> Section<'a> {
        let table = document.get_ref();
        Section { source, table, name: String::new(), line: 1, asked: RefCell::default(), violations }
    }

    /// A value of the right form; otherwise the violation is noted and there is none.
    pub fn optional<T: FromToml>(&self, key: &'static str) -> Option<T> {
        self.located(key).map(|(value, _)| value)
    }

    /// The same with the line on which the value stands.
    pub fn located<T: FromToml>(&self, key: &'static str) -> Option<(T, usize)> {
        let value = self.value(key)?;
        let line = self.source.line_of(value.span().start);
        match T::from_toml(value.get_ref()) {
            Ok(read) => Some((read, line)),
            Err(message) => {
                self.violation_at(line, key, message);
                None
            }
        }
    }

    /// A violation at the section's own line when the key is missing.
    pub fn required<T: FromToml>(&self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.asked.borrow_mut().push(key);
            self.violation(key, "missing, it is required");
            return None;
        }
        self.optional(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A table below this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let line = self.source.line_of(value.span().start);
        match value.get_ref() {
            DeValue::Table(table) => Some(self.below(key, table, line)),
            other => {
                self.violation_at(line, key, format!("{}, a table is allowed", kind(other)));
                None
            }
        }
    }

    /// An array of tables below this one, `[[key]]` or inline.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let line = self.source.line_of(value.span().start);
            self.violation_at(line, key, format!("{}, a list of tables is allowed", kind(value.get_ref())));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for element in array.iter() {
            let line = self.source.line_of(element.span().start);
            match element.get_ref() {
                DeValue::Table(table) => sections.push(self.below(key, table, line)),
                other => self.violation_at(line, key, format!("{}, a table is allowed", kind(other))),
            }
        }
        sections
    }

    /// All pairs of this table, for tables whose keys are the operator's.
    pub fn pairs<T: FromToml>(&self) -> Vec<(String, T, usize)> {
        let mut pairs = Vec::new();
        for (key, value) in self.table.iter() {
            let line = self.source.line_of(value.span().start);
            match T::from_toml(value.get_ref()) {
                Ok(read) => pairs.push((key.get_ref().to_string(), read, line)),
                Err(message) => self.violation_at(line, key.get_ref(), message),
            }
        }
        pairs
    }

    /// The line of a key's value, or the section's own.
    pub fn line_of(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.line, |value| self.source.line_of(value.span().start))
    }

    pub fn line(&self) -> usize {
        self.line
    }

    /// Every key with the line of its value, for what is found wrong after the table is gone.
    pub fn lines(&self) -> Vec<(String, usize)> {
        let line = |value: &Spanned<DeValue<'_>>| self.source.line_of(value.span().start);
        self.table.iter().map(|(key, value)| (key.get_ref().to_string(), line(value))).collect()
    }

    pub fn file(&self) -> &Path {
        &self.source.file
    }

    pub fn violation(&self, key: &str, message: impl Into<String>) {
        self.violation_at(self.line_of(key), key, message);
    }

    pub fn violation_at(&self, line: usize, key: &str, message: impl Into<String>) {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        let violation = Violation { file: self.source.file.clone(), line, key, message: message.into() };
        self.violations.borrow_mut().add(violation);
    }

    /// Refuses every key that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            if !asked.iter().any(|known| known == key.get_ref()) {
                let allowed = if asked.is_empty() { "none".to_owned() } else { asked.join(", ") };
                let line = self.source.line_of(key.span().start);
                self.violation_at(line, key.get_ref(), format!("unknown key, allowed here: {allowed}"));
            }
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }

    fn below(&self, key: &str, table: &'a DeTable<'a>, line: usize) -> Section<'a> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Section { source: self.source, table, name, line, asked: RefCell::default(), violations: self.violations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reader: impl Fn(&Section<'_>)) -> Vec<String> {
        let source = Source::new(Path::new("x.toml"), text);
        let violations = RefCell::default();
        let document = source.parse().unwrap();
        let root = Section::root(&source, &document, &violations);
        reader(&root);
        root.finish();
        violations.into_inner().listed.iter().map(Violation::to_string).collect()
    }

    #[test]
    fn p3_every_violation_names_file_line_and_key() {
        let text = "a = 1\nb = \"x\"\n\n[[c]]\nd = 5\n";
        let said = read(text, |root| {
            assert_eq!(root.optional::<Int<0, 9>>("a"), Some(Int(1)));
            assert_eq!(root.optional::<Int<0, 9>>("b"), None);
            for section in root.sections("c") {
                section.required::<String>("name");
                section.finish();
            }
        });
        assert_eq!(
            said,
            [
                "x.toml:2: b: a string, a whole number from 0 to 9 is allowed",
                "x.toml:4: c.name: missing, it is required",
                "x.toml:5: c.d: unknown key, allowed here: name",
            ]
        );
    }

    #[test]
    fn p3_a_syntax_error_stands_alone_with_its_line() {
        let text = "a = 1\nb = = 2\n";
        let violation = Source::new(Path::new("x.toml"), text).parse().unwrap_err();
        assert_eq!(violation.line, 2, "{violation}");
    }

    #[test]
    fn numbers_have_bounds() {
        let said = read("a = 10\nb = -1\nc = 99999999999999999999\n", |root| {
            for key in ["a", "b", "c"] {
                assert_eq!(root.optional::<Int<0, 9>>(key), None);
            }
        });
        assert_eq!(said.len(), 3, "{said:?}");
    }
}
