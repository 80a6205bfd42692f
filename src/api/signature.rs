//! `Afflux-Signature: t=<unix>,v1=<hex>`: HMAC-SHA256 of `t.body` (contract I18, I19).

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER_PERMISSIVE;
use subtle::ConstantTimeEq;

use crate::time::TimeMs;

/// How far `t` may be from our clock, inclusive, in whole seconds.
const TOLERANCE_S: i64 = 300;
const MAX_TIMESTAMP_DIGITS: usize = 12;
const TAG_BYTES: usize = 32;

/// A well-formed, timely signature; whether it is right is known once the body is read.
pub struct Signature {
    /// As sent: these characters are what was signed.
    timestamp: String,
    tags: Vec<[u8; TAG_BYTES]>,
}

impl Signature {
    /// `None`: malformed, stale or from the future. Parts with other names are left for later versions.
    pub fn parse(header: &str, now: TimeMs) -> Option<Signature> {
        let mut timestamp = None;
        let mut tags = Vec::new();
        for part in header.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            match name {
                "t" if timestamp.is_some() => return None,
                "t" => timestamp = Some(value),
                "v1" => tags.extend(tag(value)),
                _ => {}
            }
        }
        let timestamp = timestamp?;
        let digits_only = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
        if !digits_only || timestamp.len() > MAX_TIMESTAMP_DIGITS || tags.is_empty() {
            return None;
        }
        let signed_s: i64 = timestamp.parse().ok()?;
        let timely = (now.0.div_euclid(1_000) - signed_s).abs() <= TOLERANCE_S;
        timely.then(|| Signature { timestamp: timestamp.to_owned(), tags })
    }

    /// Whether one of the tags is made with one of the secrets. Constant time over the tags.
    pub fn is_right<'s>(&self, secrets: impl IntoIterator<Item = &'s [u8]>, body: &[u8]) -> bool {
        secrets.into_iter().any(|secret| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
            context.update(self.timestamp.as_bytes());
            context.update(b".");
            context.update(body);
            let expected = context.sign();
            self.tags.iter().any(|tag| bool::from(tag.ct_eq(expected.as_ref())))
        })
    }
}

fn tag(hex: &str) -> Option<[u8; TAG_BYTES]> {
    HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_795_329_000_999);

    fn sign(secret: &str, timestamp: &str, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
        HEXLOWER_PERMISSIVE.encode(tag.as_ref())
    }

    #[test]
    fn i18_stale_and_future_signatures_are_refused_at_301_seconds() {
        for (offset, timely) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            let timestamp = 1_795_329_000 + offset;
            let header = format!("t={timestamp},v1={}", sign("s", &timestamp.to_string(), ""));
            assert_eq!(Signature::parse(&header, NOW).is_some(), timely, "{offset}");
        }
    }

    #[test]
    fn i18_any_v1_in_either_case_with_any_secret() {
        let right = sign("new", "1795329000", "{}");
        let wrong = "00".repeat(32);
        for header in [
            format!("t=1795329000,v1={right}"),
            format!("v1={wrong}, v1={}, t=1795329000", right.to_uppercase()),
            format!("t=1795329000,v1=zz,v0=what,v1={right}"),
        ] {
            let signature = Signature::parse(&header, NOW).unwrap();
            assert!(signature.is_right([&b"old"[..], b"new"], b"{}"), "{header}");
            assert!(!signature.is_right([&b"old"[..]], b"{}"));
            assert!(!signature.is_right([&b"new"[..]], b"{} "));
            assert!(!signature.is_right([], b"{}"));
        }
    }

    #[test]
    fn i18_malformed_signatures_are_none() {
        let right = sign("s", "1795329000", "");
        for header in [
            String::new(),
            "t=1795329000".into(),
            format!("v1={right}"),
            format!("t=,v1={right}"),
            format!("t=+1795329000,v1={right}"),
            format!("t=1795329000.0,v1={right}"),
            format!("t=9{},v1={right}", "9".repeat(40)),
            format!("t=1795329000,t=1795329000,v1={right}"),
            format!("t=1795329000,v1={}", &right[2..]),
            format!("t=1795329000;v1={right}"),
        ] {
            assert!(Signature::parse(&header, NOW).is_none(), "{header}");
        }
    }
}
