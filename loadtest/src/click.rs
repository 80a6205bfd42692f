//! One click: what is asked, and what came back.

use crate::agents::{Agent, Agents};
use crate::click_id::ClickId;
use crate::market::{Market, write_number};

/// Of `sub1`, for each publisher; the report shows at most 1,000 an hour.
pub const LABELS: usize = 20;

pub const COOKIE_LENGTH: usize = 22;

pub type Cookie = [u8; COOKIE_LENGTH];

/// What a visitor clicks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// A dedicated link; without one the page is named.
    pub link: Option<u64>,
    /// Where they stand in the market.
    pub offer: usize,
    pub publisher: usize,
    /// Of the page that is named.
    pub product: u64,
    pub label: usize,
}

#[derive(Debug, Clone)]
pub struct Click {
    pub page: Page,
    /// Of a visitor that came before.
    pub visitor: Option<usize>,
    pub cookie: Option<Cookie>,
    pub is_bot: bool,
    pub is_prefetch: bool,
    /// Among browsers, or bots.
    pub agent: usize,
}

/// Of a whole answer, what matters.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub click_id: Option<ClickId>,
    pub cookie: Option<Cookie>,
    /// The connection will not be used again.
    pub closes: bool,
}

impl Click {
    pub fn agent<'a>(&self, agents: &'a Agents) -> &'a Agent {
        if self.is_bot { &agents.bots[self.agent] } else { &agents.browsers[self.agent] }
    }

    /// Path and query.
    pub fn write_target(&self, market: &Market, to: &mut Vec<u8>) {
        let page = &self.page;
        if let Some(link) = page.link {
            to.push(b'/');
            market.write_code(link, to);
            to.extend_from_slice(b"?sub1=");
        } else {
            let offer = &market.offers[page.offer];
            to.extend_from_slice(b"/click?offer_id=");
            write_number(u64::from(offer.id), to);
            to.extend_from_slice(b"&aff_id=");
            write_number(u64::from(market.publishers[page.publisher]), to);
            to.extend_from_slice(b"&url=https%3A%2F%2F");
            to.extend_from_slice(offer.host.as_bytes());
            to.extend_from_slice(b"%2Fp%2F");
            write_number(page.product, to);
            to.extend_from_slice(b"&sub1=");
        }
        write_label(page.label, to);
    }

    pub fn write_http1(&self, market: &Market, agents: &Agents, host: &[u8], closes: bool, to: &mut Vec<u8>) {
        to.extend_from_slice(b"GET ");
        self.write_target(market, to);
        to.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        to.extend_from_slice(host);
        to.extend_from_slice(b"\r\n");
        to.extend_from_slice(&self.agent(agents).lines);
        if let Some(cookie) = &self.cookie {
            to.extend_from_slice(b"Cookie: aff_vid=");
            to.extend_from_slice(cookie);
            to.extend_from_slice(b"\r\n");
        }
        if self.is_prefetch {
            to.extend_from_slice(b"Sec-Purpose: prefetch\r\n");
        }
        to.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
    }
}

/// `s00` to `s19`.
pub fn write_label(label: usize, to: &mut Vec<u8>) {
    to.extend_from_slice(&[b's', b'0' + (label / 10 % 10) as u8, b'0' + (label % 10) as u8]);
}

impl Answer {
    /// Takes from a header what is needed.
    pub fn hear(&mut self, name: &str, value: &[u8]) {
        if name.eq_ignore_ascii_case("location") {
            let at = memchr::memmem::find(value, b"click_id=").map(|at| at + b"click_id=".len());
            self.click_id = at.and_then(|at| value.get(at..at + crate::click_id::LENGTH)).and_then(ClickId::parse);
        } else if name.eq_ignore_ascii_case("set-cookie") {
            let value = value.strip_prefix(b"aff_vid=").and_then(|value| value.get(..COOKIE_LENGTH));
            self.cookie = value.and_then(|value| value.try_into().ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn a_request_is_what_a_browser_sends() {
        let (market, agents) = (Market::made(&scenario::Catalog::default()), Agents::new());
        let page = Page { link: Some(7), offer: 0, publisher: 0, product: 0, label: 3 };
        let mut click =
            Click { page, visitor: Some(1), cookie: Some([b'c'; 22]), is_bot: false, is_prefetch: true, agent: 0 };
        let mut bytes = Vec::new();
        click.write_http1(&market, &agents, b"tracker.example", true, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("GET /l7?sub1=s03 HTTP/1.1\r\nHost: tracker.example\r\nuser-agent: Mozilla/5.0"),
            "{text}"
        );
        assert!(text.contains("\r\nCookie: aff_vid=cccccccccccccccccccccc\r\nSec-Purpose: prefetch\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"));
        click.page = Page { link: None, offer: 2, publisher: 4, product: 55, label: 19 };
        let mut target = Vec::new();
        click.write_target(&market, &mut target);
        let expected = "/click?offer_id=21&aff_id=105&url=https%3A%2F%2Fshop2.example%2Fp%2F55&sub1=s19";
        assert_eq!(String::from_utf8(target).unwrap(), expected);
    }

    #[test]
    fn an_answer_has_the_click_id_and_the_cookie() {
        let id = "E".repeat(48);
        let mut answer = Answer::default();
        answer.hear("Location", format!("https://shop1.example/p/1?color=black&click_id={id}&afsrc=1").as_bytes());
        answer.hear("set-cookie", b"aff_vid=abcdefghijklmnopqrstuv; Path=/; HttpOnly");
        assert_eq!(answer.click_id.unwrap().to_string(), id);
        assert_eq!(answer.cookie.unwrap(), *b"abcdefghijklmnopqrstuv");
        answer.hear("Location", b"https://shop1.example/?click_id=short");
        assert_eq!(answer.click_id, None);
    }
}
