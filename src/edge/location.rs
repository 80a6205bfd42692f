//! The `Location` of a click: the page, and our parameters in it (contract E13-E15, E18).

use crate::catalog::template::push_encoded;

/// A parameter of ours. An empty value is not added, but its name is still removed from the page.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// The value is percent-encoded already.
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
    for parameter in ours.iter().filter(|parameter| !parameter.value.is_empty()) {
        out.push(match out.len() - start {
            0 => b'?',
            // An empty `?` is used again.
            1 => {
                append(parameter, out);
                continue;
            }
            _ => b'&',
        });
        append(parameter, out);
    }
    out.extend_from_slice(fragment.as_bytes());
}

fn append(parameter: &Ours<'_>, out: &mut Vec<u8>) {
    push_encoded(out, parameter.name.as_bytes());
    out.push(b'=');
    if parameter.encoded {
        out.extend_from_slice(parameter.value.as_bytes());
    } else {
        push_encoded(out, parameter.value.as_bytes());
    }
}

/// Names are compared after percent-decoding and without ASCII case (contract E14).
fn is_ours(pair: &str, ours: &[Ours<'_>]) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    if !name.contains('%') {
        return ours.iter().any(|parameter| parameter.name.eq_ignore_ascii_case(name));
    }
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(name).collect();
    ours.iter().any(|parameter| parameter.name.as_bytes().eq_ignore_ascii_case(&decoded))
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
    fn e17_values_are_encoded() {
        assert_eq!(
            location("https://s.example/", &[("a b", "x&y=z#\u{643}~-._")]),
            "https://s.example/?a%20b=x%26y%3Dz%23%D9%83~-._"
        );
    }
}
