//! What strangers send to the edge, against what must always hold of it (see `crate::probes`).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::location::{self, Ours};
use super::query::{Parameter, Query};
use super::said::Said;

const NAMES: [(&str, Parameter); 19] = [
    ("offer_id", Parameter::Offer),
    ("aff_id", Parameter::Publisher),
    ("url", Parameter::DeepLink),
    ("source", Parameter::Source),
    ("coupon_code", Parameter::Coupon),
    ("gclid", Parameter::Gclid),
    ("fbclid", Parameter::Fbclid),
    ("ttclid", Parameter::Ttclid),
    ("msclkid", Parameter::Msclkid),
    ("sub1", Parameter::Sub(0)),
    ("sub2", Parameter::Sub(1)),
    ("sub3", Parameter::Sub(2)),
    ("sub4", Parameter::Sub(3)),
    ("sub5", Parameter::Sub(4)),
    ("sub6", Parameter::Sub(5)),
    ("sub7", Parameter::Sub(6)),
    ("sub8", Parameter::Sub(7)),
    ("sub9", Parameter::Sub(8)),
    ("sub10", Parameter::Sub(9)),
];

/// A query that is read, written anew and read again says the same; no label is longer than 255 bytes (contract E7-E10).
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut first = Query::default();
    first.read(text);
    let written: Vec<String> =
        NAMES.iter().map(|(name, parameter)| format!("{name}={}", encoded(first.value(*parameter)))).collect();
    let mut second = Query::default();
    second.read(&written.join("&"));
    for (name, parameter) in NAMES {
        let value = first.value(parameter);
        assert_eq!(value, second.value(parameter), "{name} of {text:?}");
        assert_eq!(first.number(parameter), second.number(parameter));
        let is_whole = matches!(parameter, Parameter::Offer | Parameter::Publisher | Parameter::DeepLink);
        assert!(is_whole || value.len() <= 255, "{name} of {text:?}");
    }
    assert!(!second.truncated, "what was cut is short enough");
}

/// Ours stand once in a page, whatever the page brings (contract E14), and nothing can end the header line.
pub fn location(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(page) = url::Url::parse(&format!("https://shop.example/?{text}")) else { return };
    let ours = [
        Ours { name: "click_id", value: "ours", encoded: true },
        Ours { name: "afsrc", value: "", encoded: true },
        Ours { name: "gclid", value: text, encoded: false },
    ];
    let mut out = Vec::new();
    location::write(page.as_str(), &ours, &mut out);
    assert!(HeaderValue::from_bytes(&out).is_ok() && !out.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "{text:?}");
    let out = String::from_utf8_lossy(&out);
    let Ok(read) = url::Url::parse(&out) else { panic!("{out:?} is no URL") };
    assert_eq!(read.host_str(), Some("shop.example"), "{out:?}");
    let named = |wanted: &str| read.query_pairs().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count();
    assert_eq!((named("click_id"), named("afsrc"), named("gclid")), (1, 0, usize::from(!text.is_empty())), "{out:?}");
    assert!(read.query_pairs().any(|(name, value)| name == "click_id" && value == "ours"), "{out:?}");
}

/// A cookie that is taken stands in the header as it is, and is the same when it comes again (contract E31).
pub fn cookie(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let of = |value: HeaderValue| Said::read(&HeaderMap::from_iter([(COOKIE, value)])).visitor;
    let Some(found) = of(value) else { return };
    let text = found.as_str();
    assert!(text.len() == 22 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
    let pair = format!("aff_vid={text}");
    assert!(bytes.windows(pair.len()).any(|window| window == pair.as_bytes()), "{text}");
    assert_eq!(HeaderValue::from_str(&pair).ok().and_then(of), Some(found));
}

fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
