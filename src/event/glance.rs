//! A click at a glance: what the shipper has to know of it, a fifth of the time that reading all of it takes.
//!
//! Our writer's fields stand in one order. A field behind others is looked for by its name: inside a JSON string a quote
//! has a backslash before it, so `,"name":` stands nowhere but at a field. Whatever is not as our edges write it, and each
//! string with an escape in it, is read as JSON.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Click;
use crate::catalog::{OfferId, PublisherId};
use crate::click::VisitorKey;
use crate::time::TimeMs;

/// What stands in none is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    /// `None`: it is rejected.
    pub click_id: Option<Cow<'a, str>>,
    pub clicked_at_ms: TimeMs,
    pub offer_id: OfferId,
    pub publisher_id: Option<PublisherId>,
    pub visitor_key: VisitorKey,
    pub visitor_new: bool,
    pub url: Cow<'a, [u8]>,
    pub ip_key: Cow<'a, [u8]>,
    pub user_agent: Cow<'a, [u8]>,
    pub billable: bool,
}

impl<'a> Glance<'a> {
    /// `None`: the record is no click.
    pub fn of(record: &'a [u8]) -> Option<Glance<'a>> {
        written_by_us(record).or_else(|| serde_json::from_slice::<Click<'a>>(record).ok().map(Glance::from))
    }
}

impl<'a> From<Click<'a>> for Glance<'a> {
    fn from(click: Click<'a>) -> Glance<'a> {
        let bytes = |text: Option<Cow<'a, str>>| match text {
            None => Cow::Borrowed(&[][..]),
            Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        };
        Glance {
            click_id: click.click_id,
            clicked_at_ms: click.clicked_at_ms,
            offer_id: click.offer_id,
            publisher_id: click.publisher_id,
            visitor_key: click.visitor_key,
            visitor_new: click.visitor_new,
            url: bytes(click.url),
            ip_key: bytes(click.ip_key),
            user_agent: bytes(click.user_agent),
            billable: click.billable,
        }
    }
}

static VISITOR_KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","visitor_key":""#));
static IP_KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","ip_key":""#));
/// Behind the list of flags.
static BILLABLE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#"],"billable":"#));

/// A field that may be left out stands elsewhere: what its writer has of it is not known at a glance.
static CLICK_ID: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","click_id":"#));
static PUBLISHER_ID: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","publisher_id":"#));
static URL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","url":"#));
static USER_AGENT: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#","user_agent":"#));

fn written_by_us(record: &[u8]) -> Option<Glance<'_>> {
    let mut rest = Rest(record.strip_suffix(b"}")?);
    let optional = |rest: &mut Rest<'_>, name: &Finder<'_>| match rest.passes(name.needle()) {
        true => Some(true),
        false => name.find(record).is_none().then_some(false),
    };
    rest.expect(br#"{"event":"click","schema":1,"spool":""#)?;
    rest.string()?;
    rest.expect(br#","seq":"#)?;
    rest.number::<u64>()?;
    let click_id = if optional(&mut rest, &CLICK_ID)? { Some(rest.quoted()?) } else { None };
    rest.expect(br#","clicked_at_ms":"#)?;
    let clicked_at_ms = TimeMs(rest.number()?);
    rest.expect(br#","offer_id":"#)?;
    let offer_id = OfferId(rest.number()?);
    let publisher_id = if optional(&mut rest, &PUBLISHER_ID)? { Some(PublisherId(rest.number()?)) } else { None };
    rest.expect(br#","merchant_id":"#)?;
    rest.number::<u32>()?;
    rest.skip_behind(&VISITOR_KEY)?;
    let visitor_key = VisitorKey::from_hex(text(rest.string()?)?)?;
    rest.expect(br#","visitor_new":"#)?;
    let visitor_new = rest.boolean()?;
    let url = if optional(&mut rest, &URL)? { rest.quoted()? } else { &[] };
    rest.skip_behind(&IP_KEY)?;
    let ip_key = rest.string()?;
    let user_agent = if optional(&mut rest, &USER_AGENT)? { rest.quoted()? } else { &[] };
    rest.skip_behind(&BILLABLE)?;
    let billable = rest.boolean()?;
    Some(Glance {
        click_id: click_id.map(|id| text(id).map(Cow::Borrowed)).map_or(Some(None), |id| id.map(Some))?,
        clicked_at_ms,
        offer_id,
        publisher_id,
        visitor_key,
        visitor_new,
        url: url.into(),
        ip_key: ip_key.into(),
        user_agent: user_agent.into(),
        billable,
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn passes(&mut self, literal: &[u8]) -> bool {
        let rest = self.0.strip_prefix(literal);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, literal: &[u8]) -> Option<()> {
        self.passes(literal).then_some(())
    }

    fn skip_behind(&mut self, name: &Finder<'_>) -> Option<()> {
        self.0 = &self.0[name.find(self.0)? + name.needle().len()..];
        Some(())
    }

    /// Up to its end, which is passed; `None` with an escape in it.
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr2(b'"', b'\\', self.0).filter(|end| self.0[*end] == b'"')?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(string)
    }

    fn quoted(&mut self) -> Option<&'a [u8]> {
        self.expect(b"\"")?;
        self.string()
    }

    /// Digits as we write them: no sign, and fewer than overflow.
    fn number<N: TryFrom<u64>>(&mut self) -> Option<N> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        if !(1..=18).contains(&digits) || digits > 1 && number[0] == b'0' {
            return None;
        }
        self.0 = rest;
        N::try_from(number.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))).ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        let value = self.passes(b"true");
        (value || self.passes(b"false")).then_some(value).filter(|_| matches!(self.0.first(), None | Some(b',')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"event":"click","schema":1,"spool":"00000000000000ff","seq":12,"click_id":"ID-x_9","clicked_at_ms":1700000000017,"offer_id":1,"publisher_id":2,"merchant_id":3,"link":"phone,","visitor_id":"v","visitor_key":"00000000000000ab","visitor_new":true,"url":"https://shop.example/ü","source":"s","sub1":"a","ip":"192.0.2.0","ip_key":"0123456789abcdef","user_agent":"Mozilla/5.0","referer":"https://blog.example/","language":"en","flags":["sec_gpc"],"billable":true,"edge":"e","catalog":"0badcafe"}"#;

    /// What JSON says.
    fn read(record: &str) -> Option<Glance<'_>> {
        serde_json::from_str::<Click<'_>>(record).ok().map(Glance::from)
    }

    #[test]
    fn v4_a_glance_sees_what_reading_sees() {
        let without = |field: &str| WHOLE.replacen(field, "", 1);
        let records = [
            WHOLE.to_owned(),
            without(r#","click_id":"ID-x_9""#).replace("true,\"edge", "false,\"reject\":\"paused\",\"edge"),
            without(r#","publisher_id":2"#),
            without(r#","link":"phone,","visitor_id":"v""#),
            without(r#","url":"https://shop.example/ü","source":"s""#),
            without(r#","user_agent":"Mozilla/5.0","referer":"https://blog.example/""#),
            without(r#","edge":"e","catalog":"0badcafe""#).replace(r#"["sec_gpc"]"#, "[]"),
            // Text that looks like a field, and ends that look like others.
            WHOLE.replace("phone,", r#",\"visitor_key\":\"00000000000000ff"#),
            WHOLE.replace(r#""sub1":"a""#, r#""sub1":",\"ip_key\":\"","sub2":"ip_key\\""#),
            WHOLE.replace(r#""language":"en""#, r#""language":"],\"billable\":false""#),
        ];
        for record in &records {
            let seen = written_by_us(record.as_bytes());
            assert!(seen.is_some(), "{record}");
            assert_eq!(seen, read(record), "{record}");
        }
    }

    #[test]
    fn v3_what_is_written_otherwise_is_read_as_json() {
        let moved =
            |field: &str, before: &str| WHOLE.replacen(field, "", 1).replacen(before, &format!("{field}{before}"), 1);
        let others = [
            WHOLE.replace("\":", "\": "),
            WHOLE.replace("shop.example/", r#"shop.example/\""#),
            WHOLE.replace("Mozilla/5.0", r"Moz\u00e9"),
            WHOLE.replace("\"clicked_at_ms\":17", "\"clicked_at_ms\":-17"),
            WHOLE.replace("\"schema\":1", "\"schema\":2"),
            // Another version may have a field of its own between ours, or ours elsewhere.
            WHOLE.replace(r#","url":"#, r#","consent":"yes","url":"#),
            WHOLE.replace(r#","user_agent":"#, r#","asn":64500,"user_agent":"#),
            moved(r#","url":"https://shop.example/ü""#, r#","visitor_key""#),
            moved(r#","user_agent":"Mozilla/5.0""#, r#","edge""#),
            moved(r#","click_id":"ID-x_9""#, r#","link""#),
            moved(r#","publisher_id":2"#, r#","link""#),
        ];
        for record in &others {
            assert_eq!(written_by_us(record.as_bytes()), None, "{record}");
            assert!(read(record).is_some(), "{record}");
            assert_eq!(Glance::of(record.as_bytes()), read(record), "{record}");
        }
        let wrong = [
            "rubbish".to_owned(),
            WHOLE.replace("00000000000000ab", "AB"),
            WHOLE.replace(r#""billable":true"#, r#""billable":truely"#),
            WHOLE.replace(r#""offer_id":1"#, r#""offer_id":99999999999"#),
            WHOLE.replace(r#""offer_id":1"#, r#""offer_id":01"#),
            WHOLE[..WHOLE.len() - 1].to_owned(),
        ];
        for record in &wrong {
            assert_eq!((Glance::of(record.as_bytes()), read(record)), (None, None), "{record}");
        }
    }
}
