//! Pages and extra parameters with macros (contract E16-E18), compiled when the catalog is loaded.
//!
//! After compilation a template is literal text, already encoded, with macros at known places: expanding it copies
//! bytes. A macro can never leave the part of the URL it stands in: scheme, user info, host and port take none, values
//! are percent-encoded, and the raw form is only allowed in a query, where `#` is encoded.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use url::{Position, Url};

use super::{OfferId, PublisherId};
use crate::time::TimeMs;

/// Everything but `A-Z a-z 0-9 - . _ ~` (contract E17).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The WHATWG query percent-encode set; `#` is in it.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
/// The same for the literal text of a page, whose `#` starts its fragment.
const PAGE: &AsciiSet = &QUERY.remove(b'#');

/// Longest page or parameter that a catalog may have, bytes.
const TEMPLATE_BYTES: usize = 4_096;

/// A URL or a parameter's value with macros in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// All literal text, one piece behind the other.
    literal: String,
    /// In order of place; `at` is an offset into `literal`.
    insertions: Vec<Insertion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insertion {
    at: usize,
    name: Macro,
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Macro {
    ClickId,
    OfferId,
    PublisherId,
    /// From 0: `{sub1}` is `Sub(0)`.
    Sub(usize),
    Source,
    CouponCode,
    ClickTime,
    Random,
}

/// What the macros stand for in one click. Empty: no value.
#[derive(Clone, Copy, Debug)]
pub struct MacroValues<'a> {
    pub click_id: &'a str,
    pub offer_id: OfferId,
    pub publisher_id: Option<PublisherId>,
    pub subs: [&'a str; 10],
    pub source: &'a str,
    pub coupon_code: &'a str,
    pub clicked_at: TimeMs,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTemplate(pub String);

const NAMES: &str =
    "{click_id} {offer_id} {publisher_id} {sub1}..{sub10} {source} {coupon_code} {click_time} {random}, or raw {_sub1}";

impl Template {
    /// A landing page: an absolute URL; macros only in path, query and fragment, raw ones only in the query.
    pub fn page(text: &str, allow_http: bool) -> Result<Template, BadTemplate> {
        let (origin, rest) = split_page(text, allow_http)?;
        let mut template = Template { literal: origin, insertions: Vec::new() };
        let mut place = Place::Path;
        template.compile(rest, PAGE, |passed, raw| {
            place = place.after(passed);
            !raw || place == Place::Query
        })?;
        Ok(template)
    }

    /// The value of an extra parameter: plain text, encoded here.
    pub fn parameter(text: &str) -> Result<Template, BadTemplate> {
        if text.len() > TEMPLATE_BYTES {
            return Err(too_long());
        }
        let mut template = Template { literal: String::new(), insertions: Vec::new() };
        template.compile(text, VALUE, |_, _| true)?;
        Ok(template)
    }

    /// Appends the text with its macros expanded. `random` is asked once for each use of `{random}`.
    pub fn render(&self, values: &MacroValues<'_>, random: &mut dyn FnMut() -> u64, out: &mut Vec<u8>) {
        let literal = self.literal.as_bytes();
        let mut done = 0;
        for insertion in &self.insertions {
            out.extend_from_slice(&literal[done..insertion.at]);
            done = insertion.at;
            insertion.expand(values, random, out);
        }
        out.extend_from_slice(&literal[done..]);
    }

    /// `allowed` hears the literal text before each macro and whether the macro is raw.
    fn compile(
        &mut self,
        text: &str,
        encode: &'static AsciiSet,
        mut allowed: impl FnMut(&str, bool) -> bool,
    ) -> Result<(), BadTemplate> {
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from_open) = rest.split_at(open);
            let Some(close) = from_open.find('}') else {
                return Err(BadTemplate("a `{` without its `}`; a literal one is written %7B".into()));
            };
            let name = &from_open[1..close];
            let raw = name.starts_with('_');
            let Some(known) = Macro::named(name.strip_prefix('_').unwrap_or(name)) else {
                return Err(BadTemplate(format!("unknown macro {{{name}}}; allowed: {NAMES}")));
            };
            if !allowed(before, raw) {
                return Err(BadTemplate(format!("raw macro {{{name}}} outside of the query; allowed: in the query")));
            }
            push_text(&mut self.literal, before, encode);
            self.insertions.push(Insertion { at: self.literal.len(), name: known, raw });
            rest = &from_open[close + 1..];
        }
        push_text(&mut self.literal, rest, encode);
        Ok(())
    }
}

impl Macro {
    fn named(name: &str) -> Option<Macro> {
        Some(match name {
            "click_id" => Macro::ClickId,
            "offer_id" => Macro::OfferId,
            "publisher_id" => Macro::PublisherId,
            "source" => Macro::Source,
            "coupon_code" => Macro::CouponCode,
            "click_time" => Macro::ClickTime,
            "random" => Macro::Random,
            _ => {
                let number: usize = name.strip_prefix("sub")?.parse().ok()?;
                // One spelling each: `sub01` and `sub+1` are unknown.
                ((1..=10).contains(&number) && name == format!("sub{number}")).then(|| Macro::Sub(number - 1))?
            }
        })
    }
}

impl Insertion {
    fn expand(&self, values: &MacroValues<'_>, random: &mut dyn FnMut() -> u64, out: &mut Vec<u8>) {
        match self.name {
            Macro::ClickId => out.extend_from_slice(values.click_id.as_bytes()),
            Macro::OfferId => push_number(out, values.offer_id.0.into()),
            Macro::PublisherId => values.publisher_id.into_iter().for_each(|id| push_number(out, id.0.into())),
            Macro::Sub(index) => self.push_value(out, values.subs[index]),
            Macro::Source => self.push_value(out, values.source),
            Macro::CouponCode => self.push_value(out, values.coupon_code),
            Macro::ClickTime => push_number(out, values.clicked_at.0),
            Macro::Random => {
                let mut hex = [0; 16];
                data_encoding::HEXLOWER.encode_mut(&random().to_be_bytes(), &mut hex);
                out.extend_from_slice(&hex);
            }
        }
    }

    fn push_value(&self, out: &mut Vec<u8>, value: &str) {
        let encode = if self.raw { QUERY } else { VALUE };
        percent_encode(value.as_bytes(), encode).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    }
}

/// A page without macros: `fallback_url`. An absolute URL in the form in which it may stand in a header.
pub fn plain_page(text: &str, allow_http: bool) -> Result<String, BadTemplate> {
    let (mut page, rest) = split_page(text, allow_http)?;
    push_text(&mut page, rest, PAGE);
    Ok(page)
}

/// Percent-encodes all but `A-Z a-z 0-9 - . _ ~` (contract E17).
pub fn push_encoded(out: &mut Vec<u8>, value: &[u8]) {
    percent_encode(value, VALUE).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
}

/// Where in a URL, behind the port, the text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Fragment,
}

impl Place {
    fn after(self, literal: &str) -> Place {
        if self == Place::Fragment || literal.contains('#') {
            Place::Fragment
        } else if self == Place::Query || literal.contains('?') {
            Place::Query
        } else {
            Place::Path
        }
    }
}

/// Splits a page behind its port: the origin as browsers write it, and all after it as it was written.
fn split_page(text: &str, allow_http: bool) -> Result<(String, &str), BadTemplate> {
    let text = text.trim_matches(' ');
    if text.len() > TEMPLATE_BYTES {
        return Err(too_long());
    }
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f || byte == b'\\') {
        return Err(BadTemplate("a control character or a backslash; allowed: percent-encoded".into()));
    }
    let wrong = || {
        let allowed = if allow_http { "https:// or http://" } else { "https:// (http:// with allow_http)" };
        BadTemplate(format!("not an absolute URL; allowed: {allowed} and a host"))
    };
    let (scheme, after) = text.split_once("://").ok_or_else(wrong)?;
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    if scheme.contains('{') || authority.contains(['{', '}']) {
        return Err(BadTemplate("a macro in scheme, user info, host or port; allowed: in path and query".into()));
    }
    if !(is("https") || allow_http && is("http")) {
        return Err(wrong());
    }
    // The parser would take the first word of the path for an empty host.
    let url =
        Url::parse(&format!("{scheme}://{authority}/")).ok().filter(|_| !authority.is_empty()).ok_or_else(wrong)?;
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Ok((format!("{}{slash}", &url[..Position::BeforePath]), rest))
}

fn push_text(out: &mut String, text: &str, encode: &'static AsciiSet) {
    out.extend(percent_encode(text.as_bytes(), encode));
}

fn push_number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn too_long() -> BadTemplate {
    BadTemplate(format!("too long; allowed: {TEMPLATE_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &Template, values: &MacroValues<'_>) -> String {
        let mut out = Vec::new();
        let mut next = 0x0123_4567_89ab_cdee;
        let mut random = || {
            next += 1;
            next
        };
        template.render(values, &mut random, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn values<'a>() -> MacroValues<'a> {
        let mut subs = [""; 10];
        subs[0] = "a b&c=d#e/é%41\"'";
        subs[9] = "ten";
        MacroValues {
            click_id: "CLICK",
            offer_id: OfferId(12),
            publisher_id: Some(PublisherId(34)),
            subs,
            source: "s~-._",
            coupon_code: "",
            clicked_at: TimeMs(1_795_329_000_450),
        }
    }

    #[test]
    fn e16_e17_macros_expand() {
        let cases = [
            ("https://s.example/{offer_id}/{publisher_id}", "https://s.example/12/34"),
            ("https://s.example/?c={click_id}&t={click_time}", "https://s.example/?c=CLICK&t=1795329000450"),
            ("https://s.example/?r={random}&r={_random}", "https://s.example/?r=0123456789abcdef&r=0123456789abcdf0"),
            ("https://s.example/{sub1}", "https://s.example/a%20b%26c%3Dd%23e%2F%C3%A9%2541%22%27"),
            ("https://s.example/?{_sub1}", "https://s.example/?a%20b&c=d%23e/%C3%A9%41%22'"),
            ("https://s.example/?x={sub10}{source}", "https://s.example/?x=tens~-._"),
            ("https://s.example/#{sub10}", "https://s.example/#ten"),
            ("https://s.example/?x={coupon_code}&y={sub2}", "https://s.example/?x=&y="),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(&Template::page(text, false).unwrap(), &values()), wanted, "{text}");
        }
    }

    #[test]
    fn a_page_keeps_its_bytes_and_may_stand_in_a_header() {
        let cases = [
            ("https://s.example", "https://s.example/"),
            ("https://s.example?a", "https://s.example/?a"),
            ("HTTPS://S.Example:443/P?b=%2f&&A=it's#f", "https://s.example/P?b=%2f&&A=it's#f"),
            (" https://user:pw@s.example:8443/x ", "https://user:pw@s.example:8443/x"),
            ("https://ｓ.example/فا?q=ü z", "https://s.example/%D9%81%D8%A7?q=%C3%BC%20z"),
            ("https://10.0.0.1/x}", "https://10.0.0.1/x}"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(&Template::page(text, false).unwrap(), &values()), wanted, "{text}");
            assert_eq!(plain_page(text, false).unwrap(), wanted, "{text}");
        }
        assert_eq!(plain_page("http://s.example/{sub1}", true).unwrap(), "http://s.example/{sub1}");
    }

    #[test]
    fn e16_e18_what_a_catalog_may_not_say() {
        let cases = [
            ("https://s.example/{foo}", "unknown macro {foo}"),
            ("https://s.example/{sub0}", "unknown macro"),
            ("https://s.example/{sub11}", "unknown macro"),
            ("https://s.example/{sub01}", "unknown macro"),
            ("https://s.example/{}", "unknown macro"),
            ("https://s.example/{SUB1}", "unknown macro"),
            ("https://s.example/{sub1", "without its"),
            ("{source}://s.example/", "a macro in scheme"),
            ("https://{sub1}.example/", "a macro in scheme, user info, host or port"),
            ("https://{sub1}@s.example/", "a macro in scheme, user info, host or port"),
            ("https://s.example:{sub1}/", "a macro in scheme, user info, host or port"),
            ("https://s.example{sub1}", "a macro in scheme, user info, host or port"),
            ("https:///{sub1}", "not an absolute URL"),
            ("https:/s.example/", "not an absolute URL"),
            ("https:s.example", "not an absolute URL"),
            ("//s.example/", "not an absolute URL"),
            ("/p/{sub1}", "not an absolute URL"),
            ("{sub1}", "not an absolute URL"),
            ("http://s.example/", "not an absolute URL"),
            ("ftp://s.example/", "not an absolute URL"),
            ("https://s ex.example/", "not an absolute URL"),
            ("https://s.example:99999/", "not an absolute URL"),
            ("https:\\\\s.example/", "backslash"),
            ("https://s.example/\n", "control character"),
            ("https://s.example/{_sub1}", "outside of the query"),
            ("https://s.example/?a=1#{_sub1}", "outside of the query"),
            ("https://s.example/#?{_sub1}", "outside of the query"),
        ];
        for (text, reason) in cases {
            let error = Template::page(text, false).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Template::page("http://s.example/", true).is_ok());
        assert!(Template::page(&format!("https://s.example/{}", "a".repeat(5_000)), true).is_err());
    }

    #[test]
    fn e16_e17_extra_parameters_are_plain_text_with_macros() {
        let cases = [
            ("{sub10}", "ten"),
            ("a b&{offer_id}:{sub2}", "a%20b%2612%3A"),
            ("{_sub1}", "a%20b&c=d%23e/%C3%A9%41%22'"),
            ("", ""),
            ("{coupon_code}", ""),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(&Template::parameter(text).unwrap(), &values()), wanted, "{text}");
        }
        assert!(Template::parameter("{nothing}").is_err());
    }
}
