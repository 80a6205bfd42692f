//! The `Location` of a click: the page, and our parameters in it (contract E13-E15, E18).

use std::borrow::Cow;

use crate::catalog::template::push_encoded;

/// The names of ad click IDs, which are ours too.
pub const AD_CLICK_IDS: [&str; 4] = ["gclid", "fbclid", "ttclid", "msclkid"];

/// A parameter of ours. An empty value is not added, but its name is still removed from the page.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// The value is percent-encoded already, as far as its macros ask for it: a raw one may bring an `&`.
    pub encoded: bool,
}

/// Writes `page` with `ours` in the place of every parameter of the same names. Values are encoded; all other parameters
/// keep their bytes and order, a fragment stays behind the query.
pub fn write(page: &str, ours: &[Ours<'_>], out: &mut Vec<u8>) {
    out.clear();
    let (before_fragment, fragment) = match memchr::memchr(b'#', page.as_bytes()) {
        Some(at) => page.split_at(at),
        None => (page, ""),
    };
    let (base, query) = match memchr::memchr(b'?', before_fragment.as_bytes()) {
        Some(at) => (&before_fragment[..at], Some(&before_fragment[at + 1..])),
        None => (before_fragment, None),
    };
    out.extend_from_slice(base.as_bytes());
    let start = out.len();
    if let Some(query) = query {
        out.push(b'?');
        let mut first = true;
        for pair in query.split('&') {
            if is_ours(pair, ours) {
                continue;
            }
            if !first {
                out.push(b'&');
            }
            first = false;
            out.extend_from_slice(pair.as_bytes());
        }
        if out.len() == start + 1 && !query.is_empty() {
            // Only ours stood there.
            out.truncate(start);
        }
    }
    for parameter in ours {
        let value = own_value(parameter, ours);
        if value.is_empty() {
            continue;
        }
        match out.len() - start {
            0 => out.push(b'?'),
            // An empty `?` is used again.
            1 => {}
            _ => out.push(b'&'),
        }
        push_encoded(out, parameter.name.as_bytes());
        out.push(b'=');
        match parameter.encoded {
            true => out.extend_from_slice(value.as_bytes()),
            false => push_encoded(out, value.as_bytes()),
        }
    }
    out.extend_from_slice(fragment.as_bytes());
}

/// The value without what a visitor wrote into it by a raw macro to set one of ours (contract E14 after E17): behind an
/// `&` no name of ours may stand.
fn own_value<'a>(parameter: &Ours<'a>, ours: &[Ours<'_>]) -> Cow<'a, str> {
    if !parameter.encoded || memchr::memchr(b'&', parameter.value.as_bytes()).is_none() {
        return Cow::Borrowed(parameter.value);
    }
    let (first, others) = parameter.value.split_once('&').unwrap_or((parameter.value, ""));
    let mut value = first.to_owned();
    for piece in others.split('&').filter(|piece| !is_ours(piece, ours) && !is_ad_click_id(piece)) {
        value.push('&');
        value.push_str(piece);
    }
    Cow::Owned(value)
}

fn is_ours(pair: &str, ours: &[Ours<'_>]) -> bool {
    let name = name_of(pair);
    ours.iter().any(|parameter| parameter.name.as_bytes().eq_ignore_ascii_case(&name))
}

fn is_ad_click_id(pair: &str) -> bool {
    let name = name_of(pair);
    AD_CLICK_IDS.iter().any(|ad| ad.as_bytes().eq_ignore_ascii_case(&name))
}

/// Names are compared after percent-decoding and without ASCII case (contract E14).
fn name_of(pair: &str) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode_str(pair.split('=').next().unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(page: &str, ours: &[(&str, &str)]) -> String {
        let ours: Vec<Ours<'_>> = ours.iter().map(|(name, value)| Ours { name, value, encoded: false }).collect();
        let mut out = Vec::new();
        write(page, &ours, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn e15_ours_stand_before_the_fragment_and_reuse_an_empty_question_mark() {
        let ours = [("click_id", "x")];
        for (page, expected) in [
            ("https://s.example/p", "https://s.example/p?click_id=x"),
            ("https://s.example/p?", "https://s.example/p?click_id=x"),
            ("https://s.example/p?a=1", "https://s.example/p?a=1&click_id=x"),
            ("https://s.example/p?a=1&", "https://s.example/p?a=1&&click_id=x"),
            ("https://s.example/p#f?a", "https://s.example/p?click_id=x#f?a"),
            ("https://s.example/p?b=%2f&&a#f", "https://s.example/p?b=%2f&&a&click_id=x#f"),
        ] {
            assert_eq!(location(page, &ours), expected);
        }
    }

    #[test]
    fn e14_ours_replace_every_spelling_of_their_names() {
        let ours = [("click_id", "x"), ("afsrc", "")];
        for page in [
            "https://s.example/?click_id=1",
            "https://s.example/?CLICK_ID=1&afsrc=1",
            "https://s.example/?%63lick_id=1&click%5Fid&afsrc",
            "https://s.example/?click_id=1&Click_Id=2&AFSRC=9",
        ] {
            assert_eq!(location(page, &ours), "https://s.example/?click_id=x", "{page}");
        }
        assert_eq!(location("https://s.example/?a=1&afsrc=1&b=2", &[("afsrc", "")]), "https://s.example/?a=1&b=2");
        assert_eq!(location("https://s.example/?afsrc=1", &[("afsrc", "")]), "https://s.example/");
        assert_eq!(location("https://s.example/?", &[("afsrc", "")]), "https://s.example/?");
    }

    #[test]
    fn e14_a_raw_value_cannot_set_one_of_ours() {
        let with = |value: &str| {
            let ours = |name, value| Ours { name, value, encoded: true };
            let all = [ours("click_id", "x"), ours("afsrc", ""), ours("raw", value), ours("empty", "")];
            let mut out = Vec::new();
            write("https://s.example/", &all, &mut out);
            String::from_utf8(out).unwrap()
        };
        for evil in [
            "a&click_id=evil",
            "a&CLICK_ID=1&click%5fid=2&%63lick_id",
            "a&afsrc=1&AfSrc",
            "a&gclid=1&FBCLID=2&ttclid=3&m%73clkid=4",
            "a&raw=b&empty=c&Raw&%72aw=",
        ] {
            assert_eq!(with(evil), "https://s.example/?click_id=x&raw=a", "{evil}");
        }
        assert_eq!(with("&click_id=evil"), "https://s.example/?click_id=x");
        assert_eq!(with("a&b=1&click_id=2&&c=3"), "https://s.example/?click_id=x&raw=a&b=1&&c=3");
    }

    #[test]
    fn e17_values_are_encoded() {
        assert_eq!(
            location("https://s.example/", &[("a b", "x&y=z#\u{643}~-._")]),
            "https://s.example/?a%20b=x%26y%3Dz%23%D9%83~-._"
        );
    }
}
