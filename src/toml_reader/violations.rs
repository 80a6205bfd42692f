//! What is wrong in a file that people write, and where (contract P3).

use std::fmt;
use std::path::{Path, PathBuf};

/// More are not shown: who has a hundred has one that explains the rest.
pub const MOST_VIOLATIONS: usize = 100;

/// `file:line: key: what is wrong, what is allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub file: PathBuf,
    pub line: usize,
    pub key: String,
    pub message: String,
}

impl Violation {
    /// A file that is named somewhere and cannot be read.
    pub fn unreadable(file: &Path, error: &std::io::Error) -> Violation {
        Violation { file: file.to_owned(), line: 1, key: String::new(), message: format!("cannot be read: {error}") }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.message)
    }
}

/// All that is wrong with a file or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    pub listed: Vec<Violation>,
    pub unlisted: usize,
}

impl Violations {
    pub fn add(&mut self, violation: Violation) {
        if self.listed.len() < MOST_VIOLATIONS {
            self.listed.push(violation);
        } else {
            self.unlisted += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// No more is listed; who reads on for violations alone may stop.
    pub fn is_full(&self) -> bool {
        self.listed.len() >= MOST_VIOLATIONS
    }

    /// `Ok` without violations, else they in the order of files and lines.
    pub fn none(mut self) -> Result<(), Violations> {
        if self.is_empty() {
            return Ok(());
        }
        self.listed.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(self)
    }

    pub fn extend(&mut self, others: Violations) {
        self.unlisted += others.unlisted;
        others.listed.into_iter().for_each(|violation| self.add(violation));
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.listed.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(out, "{line_end}{violation}")?;
        }
        if self.unlisted > 0 {
            write!(out, "\nand {} more", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Violations {
        Violations { listed: vec![violation], unlisted: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_at_most_a_hundred_are_listed_in_the_order_of_the_file() {
        let mut violations = Violations::default();
        assert_eq!(violations.clone().none(), Ok(()));
        for line in (1..=105).rev() {
            violations.add(Violation { file: "f".into(), line, key: "k".into(), message: "wrong".into() });
        }
        assert!(violations.is_full());
        let text = violations.none().unwrap_err().to_string();
        assert_eq!(text.lines().count(), 101);
        assert!(text.starts_with("f:6: k: wrong\n") && text.ends_with("\nand 5 more"), "{text}");
    }
}
