//! Who asks: the headers of real browsers and bots, made once so that a request only copies them.

use http::{HeaderMap, HeaderName, HeaderValue};

const BROWSERS: &str = include_str!("../../tests/fixtures/agents/browsers.txt");
const BOTS: &str = include_str!("../../tests/fixtures/agents/bots.txt");

const LANGUAGES: [&str; 4] = ["fa-IR,fa;q=0.9,en-US;q=0.8,en;q=0.7", "en-US,en;q=0.9", "fa,en;q=0.5", "de-DE,de;q=0.9"];

pub struct Agents {
    pub browsers: Vec<Agent>,
    pub bots: Vec<Agent>,
}

pub struct Agent {
    /// For HTTP/2.
    pub fields: HeaderMap,
    /// The same as lines of HTTP/1.
    pub lines: Vec<u8>,
}

impl Agents {
    pub fn new() -> Agents {
        Agents {
            browsers: named(BROWSERS).map(browser).collect(),
            bots: named(BOTS).map(|(_, name)| bot(name)).collect(),
        }
    }
}

fn named(text: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).enumerate()
}

fn browser((number, name): (usize, &str)) -> Agent {
    Agent::new(vec![
        ("user-agent", name.into()),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8".into()),
        ("accept-language", LANGUAGES[number % LANGUAGES.len()].into()),
        ("accept-encoding", "gzip, deflate, br, zstd".into()),
        ("referer", format!("https://site{number}.example/review")),
        ("upgrade-insecure-requests", "1".into()),
        ("sec-fetch-dest", "document".into()),
        ("sec-fetch-mode", "navigate".into()),
        ("sec-fetch-site", "cross-site".into()),
        ("sec-fetch-user", "?1".into()),
    ])
}

fn bot(name: &str) -> Agent {
    Agent::new(vec![("user-agent", name.into()), ("accept", "*/*".into())])
}

impl Agent {
    fn new(fields: Vec<(&'static str, String)>) -> Agent {
        let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>().into_bytes();
        // A test holds that each of them can be a header.
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)));
        Agent { fields: fields.collect(), lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_and_each_can_be_a_header() {
        let agents = Agents::new();
        assert!(agents.browsers.len() > 900 && agents.bots.len() > 80);
        for agent in agents.browsers.iter().chain(&agents.bots) {
            let name = agent.fields["user-agent"].to_str().unwrap();
            assert!(name.len() < 512 && name.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{name}");
            let lines = agent.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
            assert_eq!(lines, agent.fields.len());
        }
    }
}
