//! What a request looks like: labels never stop a click (contract E27).

use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, StartKind};
use http::HeaderMap;
use http::header::USER_AGENT;

use crate::click::{LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH};

const BUILT_IN: &str = include_str!("bots.txt");

/// Longest patterns file and pattern that is read.
const PATTERNS: usize = 100_000;

/// The patterns of the list, each kind searched in one pass.
pub struct Bots {
    anywhere: AhoCorasick,
    at_start: AhoCorasick,
}

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

    /// A pattern a line, one behind a `^` matches at the start alone; empty lines and `#` comments are skipped.
    pub fn parse(text: &str) -> Result<Bots, BadBots> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (at_start, anywhere): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('^'));
        let at_start: Vec<&str> = at_start.iter().map(|line| &line[1..]).collect();
        if anywhere.is_empty() && at_start.is_empty() {
            return Err(BadBots::Empty);
        }
        if anywhere.len() + at_start.len() > PATTERNS {
            return Err(BadBots::TooMany);
        }
        Ok(Bots {
            anywhere: searched(&anywhere, StartKind::Unanchored)?,
            at_start: searched(&at_start, StartKind::Anchored)?,
        })
    }

    /// The list, and the general rule: a visitor's browser names no page or address to complain to.
    pub fn matches(&self, user_agent: &[u8]) -> bool {
        let start = Input::new(user_agent).anchored(Anchored::Yes);
        self.anywhere.is_match(user_agent)
            || self.at_start.try_find(start).is_ok_and(|found| found.is_some())
            || memchr::memmem::find(user_agent, b"://").is_some()
            || user_agent.contains(&b'@')
    }
}

fn searched(patterns: &[&str], start: StartKind) -> Result<AhoCorasick, aho_corasick::BuildError> {
    let kind = (patterns.len() <= 1_000).then_some(AhoCorasickKind::DFA);
    AhoCorasick::builder().ascii_case_insensitive(true).start_kind(start).kind(kind).build(patterns)
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
    let absent_or = |name: &str, word: &[u8]| headers.get_all(name).iter().all(|value| value.as_bytes() == word);
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
    fn e27_browsers_inside_of_apps_are_no_bots() {
        let android = "Mozilla/5.0 (Linux; Android 13; SM-A515F; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0.0.0 Mobile Safari/537.36";
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148";
        for (browser, app) in [
            (android, "Viber/21.0.0.2"),
            (iphone, "[Pinterest/iOS]"),
            (android, "[Pinterest/Android]"),
            (iphone, "Tumblr/iPhone/28.1/281001/17.0/tumblr"),
            (android, "YaApp_Android/22.116.1 YaSearchBrowser/22.116.1 BroPP/1.0 SA/3"),
            (android, "YandexSearch/8.80 YandexSearchBrowser/8.80"),
            (android, "SogouMSE,SogouMobileBrowser/5.31.0"),
            (iphone, "Flipboard/4.3.8"),
            (android, "WhatsApp/2.23.20.76"),
            (android, "QRScanner/3.2.1"),
            (android, "SuperLive/1.8"),
            (android, "[FB_IAB/FB4A;FBAV/440.0.0.0;]"),
            (android, "Instagram 380.0.0.30.85 Android"),
            (iphone, "Snapchat/12.33.0.19 (like Safari/8614.2.9.0.10, panda)"),
            (android, "musical_ly_2022 BytedanceWebview/d8a21c6"),
            (iphone, "Safari Line/13.16.1"),
            (iphone, "MicroMessenger/8.0.40(0x18002831) NetType/WIFI Language/en"),
            (iphone, "[LinkedInApp]/9.28.7586"),
            (android, "Telegram-Android/10.6.1"),
            (iphone, "GSA/280.3.563215112"),
            (iphone, "Twitter for iPhone/10.13"),
        ] {
            let agent = format!("{browser} {app}");
            assert_eq!(flags(&[("user-agent", &agent)]), Vec::<&str>::new(), "{agent}");
        }
        for agent in [
            "Mozilla/5.0 (Linux; Android 14; Monitor) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 13; 22101316G Build/ruby) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 9; Redmi 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/104.0.5112.97 Seznam.cz/9.4.0 Mobile Safari/537.36",
            "Opera/9.80 (Android; Opera Mini/36.2.2254/119.132; U; fa) Presto/2.12.423 Version/12.16",
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
            "Viber",
            "Pinterest/0.2",
            "Tumblr/14.0.835.186",
            "WhatsApp/2.23.20.0",
            "Mozilla/5.0 (compatible; YandexBot/3.0)",
            "Mozilla/5.0 (compatible; SeznamBot/4.0)",
            "Sogou web spider/4.0",
            "Java/17.0.2",
            "Ruby",
            "libwww-perl/6.67",
            "Uptime-Kuma/1.23",
            "Mozilla/5.0 (en-us) AppleWebKit/525.13 (KHTML, like Gecko; Google Web Preview) Version/3.1 Safari/525.13",
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
        let twice = |dest| flags(&[("user-agent", FIREFOX), ("sec-fetch-dest", "document"), ("sec-fetch-dest", dest)]);
        assert_eq!((twice("document"), twice("image")), (Vec::new(), vec!["non_navigation"]));
        let iframe = flags(&[("user-agent", FIREFOX), ("sec-fetch-dest", "iframe"), ("sec-fetch-mode", "navigate")]);
        assert_eq!(iframe, ["non_navigation"]);
    }
}
