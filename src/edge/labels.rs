//! What a request looks like: labels never stop a click (contract E27).

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use http::HeaderMap;
use http::header::USER_AGENT;

use crate::click::{LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH};

const BUILT_IN: &str = include_str!("bots.txt");

/// Longest patterns file and pattern that is read.
const PATTERNS: usize = 100_000;

/// The patterns of the list, all searched in one pass.
pub struct Bots(AhoCorasick);

#[derive(Debug, thiserror::Error)]
pub enum BadBots {
    #[error("no pattern in it, one a line is needed")]
    Empty,
    #[error("more than {PATTERNS} patterns")]
    TooMany,
    #[error("{0}")]
    Unusable(#[from] aho_corasick::BuildError),
}

impl Bots {
    pub fn built_in() -> Result<Bots, BadBots> {
        Bots::parse(BUILT_IN)
    }

    /// A pattern a line; empty lines and `#` comments are skipped.
    pub fn parse(text: &str) -> Result<Bots, BadBots> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns: Vec<&str> = lines.collect();
        if patterns.is_empty() {
            return Err(BadBots::Empty);
        }
        if patterns.len() > PATTERNS {
            return Err(BadBots::TooMany);
        }
        let kind = (patterns.len() <= 1_000).then_some(AhoCorasickKind::DFA);
        Ok(Bots(AhoCorasick::builder().ascii_case_insensitive(true).kind(kind).build(patterns)?))
    }

    /// The list, and the general rule: a visitor's browser names no page or address to complain to.
    pub fn matches(&self, user_agent: &[u8]) -> bool {
        self.0.is_match(user_agent) || memchr::memmem::find(user_agent, b"://").is_some() || user_agent.contains(&b'@')
    }
}

/// Labels of a click, by the names of the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub bot: bool,
    pub prefetch: bool,
    pub non_navigation: bool,
    pub no_user_agent: bool,
    pub truncated: bool,
    pub deep_link_rejected: bool,
}

impl Flags {
    pub fn of(headers: &HeaderMap, bots: &Bots) -> Flags {
        let user_agent = headers.get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
        let no_user_agent = user_agent.trim_ascii().is_empty();
        Flags {
            bot: !no_user_agent && bots.matches(user_agent),
            prefetch: is_prefetch(headers),
            non_navigation: !is_navigation(headers),
            no_user_agent,
            ..Flags::default()
        }
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.bot, "bot"),
            (self.prefetch, "prefetch"),
            (self.non_navigation, "non_navigation"),
            (self.no_user_agent, "no_user_agent"),
            (self.truncated, "truncated"),
            (self.deep_link_rejected, "deep_link_rejected"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
    }

    /// Known without the dedupe.
    pub fn billable(self) -> bool {
        !(self.bot || self.prefetch || self.non_navigation)
    }

    /// The labels inside the click ID (contract E42).
    pub fn bits(self) -> u8 {
        let labels =
            [(self.non_navigation, LABEL_NON_NAVIGATION), (self.prefetch, LABEL_PREFETCH), (self.bot, LABEL_BOT)];
        labels.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
    }
}

fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].iter().any(|name| {
        headers.get_all(*name).iter().any(|value| {
            let value = value.as_bytes().to_ascii_lowercase();
            [&b"prefetch"[..], b"prerender", b"preview"].iter().any(|word| memchr::memmem::find(&value, word).is_some())
        })
    })
}

fn is_navigation(headers: &HeaderMap) -> bool {
    let absent_or = |name: &str, word: &[u8]| headers.get(name).is_none_or(|value| value.as_bytes() == word);
    absent_or("sec-fetch-dest", b"document") && absent_or("sec-fetch-mode", b"navigate")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(headers: &[(&'static str, &str)]) -> Vec<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Flags::of(&map, &Bots::built_in().unwrap()).names().collect()
    }

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    #[test]
    fn e27_browsers_are_no_bots() {
        for agent in [
            FIREFOX,
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 380.0.0.30.85",
            "Mozilla/5.0 (Linux; Android 14; CUBOT X70) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
        ] {
            assert_eq!(flags(&[("user-agent", agent)]), Vec::<&str>::new(), "{agent}");
        }
    }

    #[test]
    fn e27_crawlers_libraries_and_previews_are_bots() {
        for agent in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "curl/8.5.0",
            "python-requests/2.32.3",
            "facebookexternalhit/1.1",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36",
            "Acme/1.0 (ops@acme.example)",
        ] {
            assert_eq!(flags(&[("user-agent", agent)]), ["bot"], "{agent}");
        }
        assert_eq!(flags(&[]), ["no_user_agent"]);
        assert_eq!(flags(&[("user-agent", " ")]), ["no_user_agent"]);
    }

    #[test]
    fn e27_prefetches_and_subresources_are_labelled() {
        let with = |name, value| flags(&[("user-agent", FIREFOX), (name, value)]);
        for (name, value) in [
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "Preview"),
            ("x-moz", "PREFETCH"),
            ("x-purpose", "preview"),
        ] {
            assert_eq!(with(name, value), ["prefetch"], "{name}: {value}");
        }
        assert_eq!(with("sec-fetch-dest", "image"), ["non_navigation"]);
        assert_eq!(with("sec-fetch-mode", "no-cors"), ["non_navigation"]);
        assert_eq!(with("sec-fetch-dest", "document"), Vec::<&str>::new());
        let iframe = flags(&[("user-agent", FIREFOX), ("sec-fetch-dest", "iframe"), ("sec-fetch-mode", "navigate")]);
        assert_eq!(iframe, ["non_navigation"]);
    }
}
