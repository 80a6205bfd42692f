//! Who is no visitor, by the user agent (contract E27): what does not look like a browser (`shape.rs`), what calls itself
//! by a word that no browser uses (`words.txt`), and the names of a list that may be replaced (`bots.txt`). Words and
//! names are searched together, in one pass and without case.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, BuildError, Input, MatchKind, StartKind};

use super::shape::Shape;

const NAMES: &str = include_str!("bots.txt");
const WORDS: &str = include_str!("words.txt");

/// Most names that are read: a larger file is refused.
const MOST_NAMES: usize = 100_000;
/// Longest name: a longer line is no name, and user agents are not longer either.
const NAME_BYTES: usize = 255;
/// Up to so many patterns the search is a table with one step for each byte; beyond it that would take too much memory.
const TABLE_PATTERNS: usize = 2_000;

pub struct Bots {
    shape: Shape,
    anywhere: AhoCorasick,
    /// The first patterns of `anywhere` are exceptions: what they cover is not looked at. First ours, from here on those
    /// of the list.
    ours: usize,
    exceptions: usize,
    at_start: AhoCorasick,
    names: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum BadBots {
    #[error("no name in it, one a line is needed")]
    Empty,
    #[error("more than {MOST_NAMES} names")]
    TooMany,
    #[error("not a name of 1 to {NAME_BYTES} bytes, alone or behind one `^` or `!`")]
    NoName { line: usize },
    #[error("{0}")]
    Unusable(#[from] BuildError),
}

impl BadBots {
    /// The line that is wrong, counted from 1.
    pub fn line(&self) -> usize {
        match self {
            BadBots::NoName { line } => *line,
            BadBots::Empty | BadBots::TooMany | BadBots::Unusable(_) => 1,
        }
    }
}

/// The lines of a list, sorted by what they mean.
#[derive(Default)]
struct Lines<'t> {
    anywhere: Vec<&'t str>,
    at_start: Vec<&'t str>,
    exceptions: Vec<&'t str>,
}

impl Bots {
    /// The list that comes with Afflux.
    pub fn built_in() -> Result<Bots, BadBots> {
        Bots::parse(NAMES)
    }

    /// A name a line: anywhere, behind a `^` at the start alone, or behind a `!` an exception. Empty lines and `#`
    /// comments are skipped.
    pub fn parse(text: &str) -> Result<Bots, BadBots> {
        let names = Lines::read(text)?;
        match names.count() {
            0 => Err(BadBots::Empty),
            count if count > MOST_NAMES => Err(BadBots::TooMany),
            _ => Bots::build(names),
        }
    }

    fn build(names: Lines<'_>) -> Result<Bots, BadBots> {
        let words = Lines::read(WORDS)?;
        // A mail address of somebody to complain to; behind an `@` some browsers write a version.
        let mails: Vec<String> = ('a'..='z').map(|letter| format!("@{letter}")).collect();
        let count = names.count();
        let ours = words.exceptions.len();
        let exceptions = [words.exceptions, names.exceptions].concat();
        let first = exceptions.len();
        let mut patterns = exceptions;
        patterns.extend(words.anywhere);
        patterns.extend(mails.iter().map(String::as_str));
        // No line of a file ends with a space.
        patterns.push("bot ");
        patterns.extend(names.anywhere);
        Ok(Bots {
            shape: Shape::build()?,
            // Of what begins first the longest decides, so an exception takes the words inside of it with it.
            anywhere: searched(&patterns, StartKind::Unanchored, MatchKind::LeftmostLongest)?,
            ours,
            exceptions: first,
            at_start: searched(&names.at_start, StartKind::Anchored, MatchKind::Standard)?,
            names: count,
        })
    }

    pub fn names(&self) -> usize {
        self.names
    }

    /// True for who is no visitor. Allocates nothing.
    pub fn matches(&self, user_agent: &[u8]) -> bool {
        let start = Input::new(user_agent).anchored(Anchored::Yes);
        !(self.shape.is_browser(user_agent) || self.is_excepted(user_agent))
            || is_called_bot(user_agent)
            || self.at_start.try_find(start).is_ok_and(|found| found.is_some())
            || self.anywhere.find_iter(user_agent).any(|found| found.pattern().as_usize() >= self.exceptions)
    }

    /// Somebody who runs a network knows an app whose user agent looks like no browser's.
    fn is_excepted(&self, user_agent: &[u8]) -> bool {
        let listed = self.ours..self.exceptions;
        !listed.is_empty()
            && self.anywhere.find_iter(user_agent).any(|found| listed.contains(&found.pattern().as_usize()))
    }
}

impl<'t> Lines<'t> {
    fn read(text: &'t str) -> Result<Lines<'t>, BadBots> {
        let mut lines = Lines::default();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (list, name) = match line.split_at_checked(1) {
                Some(("^", name)) => (&mut lines.at_start, name),
                Some(("!", name)) => (&mut lines.exceptions, name),
                _ => (&mut lines.anywhere, line),
            };
            if name.is_empty() || name.len() > NAME_BYTES || name.contains(char::is_control) {
                return Err(BadBots::NoName { line: number + 1 });
            }
            list.push(name);
        }
        Ok(lines)
    }

    fn count(&self) -> usize {
        self.anywhere.len() + self.at_start.len() + self.exceptions.len()
    }
}

/// "… Safari/537.36 SomeBot": the word that decides may stand at the end.
fn is_called_bot(user_agent: &[u8]) -> bool {
    let ends = |word: &[u8]| {
        user_agent.len().checked_sub(word.len()).is_some_and(|from| user_agent[from..].eq_ignore_ascii_case(word))
    };
    ends(b"bot") && !ends(b"cubot")
}

fn searched(patterns: &[&str], start: StartKind, matches: MatchKind) -> Result<AhoCorasick, BuildError> {
    let kind = (patterns.len() <= TABLE_PATTERNS).then_some(AhoCorasickKind::DFA);
    AhoCorasick::builder().ascii_case_insensitive(true).match_kind(matches).start_kind(start).kind(kind).build(patterns)
}

#[cfg(test)]
#[path = "bots_tests.rs"]
mod tests;
