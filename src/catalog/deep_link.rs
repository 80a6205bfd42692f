//! Which pages a publisher may link to (contract E19-E22).
//!
//! A deep link is what a stranger wrote. It is parsed once, by the rules that browsers use (WHATWG), and what goes on
//! is the re-serialised URL: what we checked is what the browser will open.

use url::{Host, Url};

/// Longest deep link, as decoded and again as re-serialised (contract E20).
pub const DEEP_LINK_BYTES: usize = 2_048;

/// Where an offer's deep links may go: exact hosts and `*.` patterns, each with an optional port, and whether `http` is
/// allowed.
#[derive(Clone, Debug, Default)]
pub struct DeepLinkHosts {
    patterns: Vec<HostPattern>,
    allow_http: bool,
}

/// One entry of `deep_link_hosts`, its host in the form in which the URL parser gives hosts: IDNA, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPattern {
    host: String,
    /// `*.host`: any depth below it, not the host itself.
    below: bool,
    /// `None`: the default port of the scheme only.
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("longer than 2,048 bytes")]
    TooLong,
    #[error("a control character or a backslash")]
    Character,
    #[error("not an absolute https URL")]
    NotAUrl,
    #[error("user info")]
    UserInfo,
    #[error("a host or port that the offer does not list")]
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHost(pub String);

impl DeepLinkHosts {
    /// Reads `deep_link_hosts` as operators write them: `shop.example`, `*.shop.example`, `shop.example:8443`.
    pub fn parse(entries: &[String], allow_http: bool) -> Result<DeepLinkHosts, BadHost> {
        let patterns = entries.iter().map(|entry| HostPattern::parse(entry)).collect::<Result<_, _>>()?;
        Ok(DeepLinkHosts { patterns, allow_http })
    }

    /// Checks a decoded deep link and returns it re-serialised (WHATWG), at most 2,048 bytes before and after.
    pub fn check(&self, value: &str) -> Result<String, Refused> {
        if value.len() > DEEP_LINK_BYTES {
            return Err(Refused::TooLong);
        }
        // Before parsing: the parser would drop tabs and line feeds, and read a backslash as a slash.
        if value.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == b'\\') {
            return Err(Refused::Character);
        }
        let url = Url::parse(value).map_err(|_| Refused::NotAUrl)?;
        if url.scheme() != "https" && !(self.allow_http && url.scheme() == "http") {
            return Err(Refused::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        if !self.lists(&url) {
            return Err(Refused::Host);
        }
        if url.as_str().len() > DEEP_LINK_BYTES {
            return Err(Refused::TooLong);
        }
        Ok(url.into())
    }

    fn lists(&self, url: &Url) -> bool {
        let Some(Host::Domain(host)) = url.host() else { return false };
        // A trailing dot is an empty label too.
        !has_empty_label(host) && self.patterns.iter().any(|pattern| pattern.matches(host, url))
    }
}

impl HostPattern {
    fn parse(entry: &str) -> Result<HostPattern, BadHost> {
        let wrong = |why: &str| {
            BadHost(format!("{entry:?}: {why}; allowed: \"shop.example\", \"*.shop.example\", \"shop.example:8443\""))
        };
        let (below, rest) = match entry.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, entry),
        };
        let (host, port) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((host, digits)) => match digits.parse::<u16>() {
                Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
                _ => return Err(wrong("the port is not 1-65535")),
            },
        };
        match Host::parse(host) {
            Ok(Host::Domain(host)) if has_empty_label(&host) => Err(wrong("an empty label or a trailing dot")),
            Ok(Host::Domain(host)) if host.contains('*') => Err(wrong("`*.` only stands at the start")),
            Ok(Host::Domain(host)) => Ok(HostPattern { host, below, port }),
            Ok(Host::Ipv4(_) | Host::Ipv6(_)) => Err(wrong("an IP address is never allowed")),
            Err(_) => Err(wrong("not a host name")),
        }
    }

    fn matches(&self, host: &str, url: &Url) -> bool {
        // The parser drops a written default port, so `port()` is `None` for it.
        let port = match self.port {
            None => url.port().is_none(),
            Some(port) => url.port_or_known_default() == Some(port),
        };
        port && if self.below {
            host.strip_suffix(self.host.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        }
    }
}

fn has_empty_label(host: &str) -> bool {
    host.split('.').any(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(allow_http: bool) -> DeepLinkHosts {
        let entries = ["shop.example", "*.shop.example", "shop.example:8443", "*.فروشگاه.example"];
        DeepLinkHosts::parse(&entries.map(String::from), allow_http).unwrap()
    }

    #[test]
    fn e19_e21_e22_allowed_deep_links_are_reserialised() {
        let long = format!("https://shop.example/{}", "a".repeat(DEEP_LINK_BYTES - 21));
        let cases = [
            ("https://shop.example/p/1?a=b#c", "https://shop.example/p/1?a=b#c"),
            ("  https://shop.example  ", "https://shop.example/"),
            ("HTTPS://SHOP.Example/P", "https://shop.example/P"),
            ("https:shop.example/x", "https://shop.example/x"),
            ("https:/shop.example/x", "https://shop.example/x"),
            ("https:///shop.example/x", "https://shop.example/x"),
            ("https://shop.example:443/x", "https://shop.example/x"),
            ("https://shop.example:8443/x", "https://shop.example:8443/x"),
            ("https://a.b.shop.example/", "https://a.b.shop.example/"),
            ("https://shop%2eexample/", "https://shop.example/"),
            ("https://ｓｈｏｐ.example/", "https://shop.example/"),
            ("https://shop。example/", "https://shop.example/"),
            ("https://@shop.example/", "https://shop.example/"),
            ("https://:@shop.example/", "https://shop.example/"),
            ("https://m.فروشگاه.example/", "https://m.xn--mgbtj4c7ad63e.example/"),
            ("https://shop.example/a b/ü", "https://shop.example/a%20b/%C3%BC"),
            ("https://shop.example/x/../y", "https://shop.example/y"),
            ("https://shop.example//evil.example", "https://shop.example//evil.example"),
            ("https://shop.example?https://evil.example", "https://shop.example/?https://evil.example"),
            (&long, &long),
        ];
        for (value, wanted) in cases {
            let Ok(url) = hosts(false).check(value) else { panic!("refused: {value}") };
            assert_eq!(url, wanted, "{value}");
        }
    }

    #[test]
    fn e19_e22_hostile_deep_links_are_refused() {
        let cases = [
            "",
            " ",
            "//shop.example",
            "/p/1",
            "shop.example/p",
            "http://shop.example/",
            "http://shop.example:80/",
            "ftp://shop.example/",
            "javascript:alert(1)//shop.example",
            "data:text/html,x",
            "https:",
            "https://",
            "https://?shop.example",
            "https://evil.example/",
            "https://evil.example#@shop.example/",
            "https://evil.example?.shop.example",
            "https://shop.example.evil.example/",
            "https://evilshop.example/",
            "https://shop.example@evil.example/",
            "https://user@shop.example/",
            "https://:secret@shop.example/",
            "https://user:secret@shop.example/",
            "https://evil.example\\@shop.example/",
            "https:\\\\shop.example/",
            "https://shop.example/a\\b",
            "https://shop.example\t/",
            "https://sh\nop.example/",
            "\u{0}https://shop.example/",
            "https://shop.example/\u{7f}",
            "https://shop.example/\r\nSet-Cookie: a=b",
            "https://shop.example./",
            "https://a..shop.example/",
            "https://.shop.example/",
            "https://shop.example..",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://①②⑦.0.0.1/",
            "https://shop.example:444/",
            "https://shop.example:80/",
            "https://a.shop.example:8443/",
            "https://shop.example:99999/",
            "https://shop.example:x/",
            "https://shop%00.example/",
            "https://shop%2fexample/",
            "https://shop.example%2f@evil.example/",
            "https://xn--.example/",
            "https://ѕhop.example/",
            "https://فروشگاه.example/",
            "https://shop.\u{fffd}example/",
        ];
        for value in cases {
            assert!(hosts(false).check(value).is_err(), "{value:?} -> {:?}", hosts(false).check(value));
        }
    }

    #[test]
    fn e20_length_counts_before_and_after() {
        let allowed =
            |fill: &str, count: usize| hosts(false).check(&format!("https://shop.example/{}", fill.repeat(count)));
        assert_eq!(allowed("a", DEEP_LINK_BYTES - 20), Err(Refused::TooLong));
        assert_eq!(allowed("ü", 1_000), Err(Refused::TooLong), "6 bytes each when re-serialised");
        assert_eq!(allowed("a", 10_000), Err(Refused::TooLong));
        assert!(allowed("ü", 337).is_ok());
    }

    #[test]
    fn e19_e22_http_only_where_allowed() {
        for (value, wanted) in [
            ("http://shop.example/x", Some("http://shop.example/x")),
            ("http://shop.example:80/x", Some("http://shop.example/x")),
            ("http://shop.example:443/x", None),
            ("https://shop.example:80/x", None),
            ("http://shop.example:8443/x", Some("http://shop.example:8443/x")),
        ] {
            assert_eq!(hosts(true).check(value).ok().as_deref(), wanted, "{value}");
        }
    }

    #[test]
    fn entries_that_could_never_match_are_errors() {
        for entry in [
            "",
            "*",
            "*.",
            "*.*.shop.example",
            "https://shop.example",
            "shop.example/p",
            "user@shop.example",
            "127.0.0.1",
            "[::1]",
            "shop.example.",
            "a..b",
            ".shop.example",
            "shop.example:",
            "shop.example:0",
            "shop.example:70000",
            "shop.example:+1",
            "sh op.example",
        ] {
            assert!(HostPattern::parse(entry).is_err(), "{entry:?}");
        }
        assert_eq!(
            HostPattern::parse("*.Shop.Example:8443").unwrap(),
            HostPattern { host: "shop.example".into(), below: true, port: Some(8443) }
        );
    }

    #[test]
    fn no_entry_allows_nothing() {
        assert_eq!(DeepLinkHosts::default().check("https://shop.example/"), Err(Refused::Host));
    }
}
