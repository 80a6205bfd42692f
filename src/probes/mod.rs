//! Entry points for bytes of strangers, each a plain function that panics where a promise is broken. `fuzz/` hands them to
//! libFuzzer (nightly); the tests here run the same corpus, and mutations of it for a bounded time, on stable.
//!
//! Built for tests and fuzzing alone.

#[cfg(test)]
mod mutation;
#[cfg(test)]
mod tests;

use url::Url;

pub use crate::api::probes::signature;
use crate::catalog::deep_link::{DEEP_LINK_BYTES, DeepLinkHosts};
use crate::click::{ClickId, Keys, Verdict};
pub use crate::edge::probes::{cookie, location, query};
use crate::event::{Click, Glance};
pub use crate::http::probes::{head, line, proxy_header};
use crate::intake::json;
pub use crate::intake::probes::conversion;
pub use crate::spool::probes::segment;

/// A name, which is that of its corpus and of its fuzz target, and what it runs.
pub type Probe = (&'static str, fn(&[u8]));

pub const ALL: [Probe; 12] = [
    ("line", line),
    ("head", head),
    ("proxy_header", proxy_header),
    ("query", query),
    ("location", location),
    ("cookie", cookie),
    ("deep_link", deep_link),
    ("click_id", click_id),
    ("click_event", click_event),
    ("segment", segment),
    ("conversion", conversion),
    ("signature", signature),
];

/// A deep link that is accepted goes to a listed host, over https, in one form, by a second look at the text alone
/// (contract E19-E22).
pub fn deep_link(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let entries = ["shop.example", "*.shop.example", "shop.example:8443"].map(String::from);
    let Ok(hosts) = DeepLinkHosts::parse(&entries, false) else { return };
    let Ok(page) = hosts.check(text) else { return };
    assert_eq!(hosts.check(&page).as_ref(), Ok(&page), "what is accepted stays as it is");
    assert!(page.len() <= DEEP_LINK_BYTES && page.bytes().all(|byte| byte.is_ascii_graphic()), "{page:?}");
    let rest = page.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    assert!(matches!((name, port), (_, "") | ("shop.example", "8443")), "{text:?}: {page}");
    let below = name.strip_suffix(".shop.example").is_some_and(|label| !label.is_empty());
    assert!(name == "shop.example" || below, "{text:?}: {page}");
    assert!(!host.contains(['@', '\\', '%']) && !name.split('.').any(str::is_empty), "{text:?}: {page}");
    assert_eq!(Url::parse(&page).ok().as_ref().and_then(Url::host_str), Some(name));
}

/// An ID that verifies is one of ours: nobody makes one without a key (contract E42-E46).
pub fn click_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(id) = ClickId::decode(text) {
        assert_eq!(id.to_string(), text, "one spelling each");
    }
    // Keys that signed nothing in the corpus.
    let Ok(keys) = Keys::parse(&Keys::file_text(&[0x5a; 64])) else { return };
    assert!(!matches!(ClickId::verify(text, &keys), Verdict::Verified(_)), "{text:?}");
}

/// A click at a glance is the click that JSON says it is, where it is flat and without white space or needless escapes, as
/// every event is that we write (contract V1). Of anything else only that it is read at all is asked.
pub fn click_event(bytes: &[u8]) {
    let glance = Glance::of(bytes);
    let is_flat =
        |value: &json::Value<'_>| matches!(value, json::Value::Object(members) if members.iter().all(is_plain));
    let Ok(value) = json::parse(bytes) else { return };
    let mut compact = String::new();
    value.write(&mut compact);
    if !is_flat(&value) || compact.as_bytes() != bytes {
        return;
    }
    if let Ok(click) = serde_json::from_slice::<Click<'_>>(bytes) {
        assert_eq!(glance, Some(Glance::from(click)), "{:?}", String::from_utf8_lossy(bytes));
    }
}

fn is_plain((_, value): &(std::borrow::Cow<'_, str>, json::Value<'_>)) -> bool {
    match value {
        json::Value::Object(_) => false,
        json::Value::Array(values) => !values.iter().any(|value| matches!(value, json::Value::Object(_))),
        _ => true,
    }
}
