//! What a certificate says of itself: for which names and how long it is good (X.509, RFC 5280).
//!
//! Pure. Only what is asked is read: whether it is trusted is the client's question, and whether the key fits is rustls's.

use crate::time::TimeMs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names of subjectAltName in lower case, `*.` in front of a wildcard. A common name is none: no client reads it.
    pub names: Vec<String>,
    pub not_before: TimeMs,
    pub not_after: TimeMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct NotACertificate;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]` of a TBSCertificate.
const VERSION: u8 = 0xa0;
/// `[3]` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` of a GeneralName.
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Facts {
    pub fn read(der: &[u8]) -> Result<Facts, NotACertificate> {
        let mut certificate = Der(der).inner(SEQUENCE)?;
        let mut fields = certificate.inner(SEQUENCE)?;
        fields.skip_if(VERSION)?;
        // Serial number, signature algorithm, issuer.
        fields.inner(INTEGER)?;
        fields.inner(SEQUENCE)?;
        fields.inner(SEQUENCE)?;
        let mut validity = fields.inner(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let mut names = Vec::new();
        while let Some((tag, value)) = fields.next()? {
            if tag == EXTENSIONS {
                names = alternative_names(value)?;
            }
        }
        Ok(Facts { names, not_before, not_after })
    }
}

fn alternative_names(extensions: &[u8]) -> Result<Vec<String>, NotACertificate> {
    let mut names = Vec::new();
    let mut extensions = Der(extensions).inner(SEQUENCE)?;
    while let Some((SEQUENCE, extension)) = extensions.next()? {
        let mut extension = Der(extension);
        let is_wanted = extension.inner(OBJECT_IDENTIFIER)?.0 == SUBJECT_ALT_NAME;
        extension.skip_if(BOOLEAN)?;
        if !is_wanted {
            continue;
        }
        let mut general_names = extension.inner(OCTET_STRING)?.inner(SEQUENCE)?;
        while let Some((tag, name)) = general_names.next()? {
            if tag == DNS_NAME {
                names.push(std::str::from_utf8(name).map_err(|_| NotACertificate)?.to_ascii_lowercase());
            }
        }
    }
    Ok(names)
}

/// DER (X.690) that is read from its start.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value; `None` at the end.
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, NotACertificate> {
        let (tag, length, rest) = match *self.0 {
            [] => return Ok(None),
            [tag, length @ ..=0x7f, ref rest @ ..] => (tag, usize::from(length), rest),
            [tag, 0x81, length, ref rest @ ..] => (tag, usize::from(length), rest),
            [tag, 0x82, high, low, ref rest @ ..] => (tag, usize::from(u16::from_be_bytes([high, low])), rest),
            // Longer than 64 KiB is no certificate that anybody serves.
            _ => return Err(NotACertificate),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(NotACertificate)?;
        self.0 = rest;
        Ok(Some((tag, content)))
    }

    /// What stands in the next value, which must be one of this tag.
    fn inner(&mut self, wanted: u8) -> Result<Der<'a>, NotACertificate> {
        match self.next()? {
            Some((tag, content)) if tag == wanted => Ok(Der(content)),
            _ => Err(NotACertificate),
        }
    }

    fn skip_if(&mut self, tag: u8) -> Result<(), NotACertificate> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Ok(())
    }

    /// `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from 2050 on (RFC 5280 4.1.2.5).
    fn time(&mut self) -> Result<TimeMs, NotACertificate> {
        let (tag, text) = self.next()?.ok_or(NotACertificate)?;
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii()).ok_or(NotACertificate)?;
        let full = match (tag, text.len()) {
            (UTC_TIME, 13) if text < "5" => format!("20{text}"),
            (UTC_TIME, 13) => format!("19{text}"),
            (GENERALIZED_TIME, 15) => text.to_owned(),
            _ => return Err(NotACertificate),
        };
        let part = |from: usize, to: usize| &full[from..to];
        let rfc3339 = format!(
            "{}-{}-{}T{}:{}:{}{}",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(8, 10),
            part(10, 12),
            part(12, 14),
            part(14, 15)
        );
        TimeMs::parse_rfc3339(&rfc3339).map_err(|_| NotACertificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_forms_are_read() {
        let time = |tag: u8, text: &str| {
            let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
            Der(&der).time().map(TimeMs::to_rfc3339)
        };
        assert_eq!(time(UTC_TIME, "491231235959Z").as_deref(), Ok("2049-12-31T23:59:59.000Z"));
        assert_eq!(time(UTC_TIME, "500101000000Z").as_deref(), Ok("1950-01-01T00:00:00.000Z"));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z").as_deref(), Ok("9999-12-31T23:59:59.000Z"));
        for (tag, text) in [(UTC_TIME, "4912312359Z"), (UTC_TIME, "491331235959Z"), (INTEGER, "491231235959Z")] {
            assert_eq!(time(tag, text), Err(NotACertificate), "{text}");
        }
    }

    #[test]
    fn what_is_cut_or_turned_over_anywhere_never_panics() {
        let whole = crate::tls::tests::made("DNS:shop.example", "ecdsa", 10).der();
        assert_eq!(Facts::read(&whole).unwrap().names, ["shop.example"]);
        for length in 0..whole.len() {
            assert!(Facts::read(&whole[..length]).is_err(), "{length}");
            let mut other = whole.clone();
            other[length] = !other[length];
            let _ = Facts::read(&other);
        }
    }
}
