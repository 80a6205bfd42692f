//! What the headers of a click say, read in one pass: looking a dozen names up costs more.

use http::{HeaderMap, HeaderValue};

use super::visitor;
use crate::click::VisitorId;

/// Of several lines of one name the first counts, but where a clause says otherwise.
#[derive(Clone, Copy, Default)]
pub struct Said<'h> {
    pub user_agent: &'h [u8],
    pub referer: &'h [u8],
    pub languages: &'h [u8],
    /// Of the first valid cookie, of several lines too (contract E31).
    pub visitor: Option<VisitorId>,
    pub prefetch: bool,
    pub non_navigation: bool,
    pub gpc: bool,
    pub dnt: bool,
}

impl<'h> Said<'h> {
    pub fn read(headers: &'h HeaderMap) -> Said<'h> {
        let mut said = Said::default();
        let [mut agent, mut referer, mut languages] = [None; 3];
        for (name, value) in headers {
            let value = HeaderValue::as_bytes(value);
            match name.as_str() {
                "user-agent" => said.user_agent = agent.get_or_insert(value),
                "referer" => said.referer = referer.get_or_insert(value),
                "accept-language" => said.languages = languages.get_or_insert(value),
                "cookie" => said.visitor = said.visitor.or_else(|| visitor::in_cookie(value)),
                "sec-purpose" | "purpose" | "x-purpose" | "x-moz" => said.prefetch |= is_prefetch(value),
                "sec-fetch-dest" => said.non_navigation |= value != b"document",
                "sec-fetch-mode" => said.non_navigation |= value != b"navigate",
                // The only value that either standard gives a meaning. Of several lines one is enough.
                "sec-gpc" => said.gpc |= value == b"1",
                "dnt" => said.dnt |= value == b"1",
                _ => {}
            }
        }
        said
    }
}

fn is_prefetch(value: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"prefetch", b"prerender", b"preview"];
    WORDS.iter().any(|word| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_lines_counts_also_an_empty_one() {
        let lines =
            [("user-agent", ""), ("user-agent", "a"), ("referer", "b"), ("referer", "c"), ("accept-language", "d")];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let said = Said::read(&headers);
        assert_eq!((said.user_agent, said.referer, said.languages), (&b""[..], &b"b"[..], &b"d"[..]));
    }
}
