//! What callers prove themselves with, against what must always hold of it (see `crate::probes`).

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;

use super::signature::Signature;
use crate::time::TimeMs;

/// 2026-11-22T06:30:00Z.
const NOW: TimeMs = TimeMs(1_795_329_000_000);
const SECRET: &[u8] = b"a secret that is in no corpus";

/// A header that somebody made up is never right. One that was made with the secret is, for its own body alone.
pub fn signature(bytes: &[u8]) {
    if let Some(made_up) = std::str::from_utf8(bytes).ok().and_then(|header| Signature::parse(header, NOW)) {
        assert!(!made_up.is_right([SECRET], b"") && !made_up.is_right([SECRET], bytes));
        assert!(!made_up.is_right([], bytes), "without a secret nobody is right");
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, &[b"1795329000.", bytes].concat());
    let header = format!("t=1795329000,v1={}", HEXLOWER.encode(tag.as_ref()));
    let Some(ours) = Signature::parse(&header, NOW) else { panic!("{header}") };
    assert!(ours.is_right([&b"an older one"[..], SECRET], bytes));
    assert!(!ours.is_right([SECRET], &[bytes, b" "].concat()) && !ours.is_right([&b"another"[..]], bytes));
}
