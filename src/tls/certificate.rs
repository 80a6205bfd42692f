//! One certificate with its chain and its key, read and checked.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm};

use super::facts::Facts;
use super::sources::Pair;
use crate::files::Files;
use crate::time::TimeMs;
use crate::toml_reader::Violation;

/// A chain and a key are some kilobytes; more is another file by mistake.
const MOST_BYTES: u64 = 1 << 20;

pub struct Certificate {
    pub file: PathBuf,
    /// In lower case; `*.` in front of a wildcard.
    pub names: Vec<String>,
    pub not_after: TimeMs,
    /// When it was read. It is served all the same: those for other names are good.
    pub is_expired: bool,
    pub algorithm: Algorithm,
    pub(super) key: Arc<CertifiedKey>,
    /// What is allowed and unwise.
    pub warnings: Vec<String>,
}

/// Of the key. The first that a client can use is used: an ECDSA signature costs a tenth of an RSA one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Algorithm::Ecdsa => "ecdsa",
            Algorithm::Ed25519 => "ed25519",
            Algorithm::Rsa => "rsa",
        })
    }
}

impl Certificate {
    /// `now` tells whether it has expired.
    pub fn read(pair: &Pair, files: &mut Files, now: TimeMs) -> Result<Certificate, Violation> {
        let wrong = |file: &Path, message: String| Violation {
            file: file.to_owned(),
            line: 1,
            key: pair.config_key.to_owned(),
            message,
        };
        let of_certificate = |message: String| wrong(&pair.certificate, message);
        let of_key = |message: String| wrong(&pair.key, message);

        let text = text(files, &pair.certificate).map_err(of_certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let chain = chain.map_err(|error| of_certificate(not_pem(&error, "CERTIFICATE")))?;
        let Some(first) = chain.first() else {
            return Err(of_certificate(not_pem(&pem::Error::NoItemsFound, "CERTIFICATE")));
        };
        let facts = Facts::read(first)
            .map_err(|error| of_certificate(format!("{error}; a certificate in PEM, its own first, is allowed")))?;
        let key = private_key(&self::text(files, &pair.key).map_err(of_key)?).map_err(of_key)?;
        let key = any_supported_type(&key).map_err(|_| {
            of_key("no key of a known kind; ECDSA, RSA of 2048 to 8192 bits and Ed25519 are allowed".into())
        })?;
        let algorithm = match key.algorithm() {
            SignatureAlgorithm::ECDSA => Algorithm::Ecdsa,
            SignatureAlgorithm::RSA => Algorithm::Rsa,
            _ => Algorithm::Ed25519,
        };
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let file = pair.certificate.display();
                return Err(of_key(format!("not the key of {file}; the key that it was made for is allowed")));
            }
        }
        let warnings = warnings(pair, &facts, now);
        let Facts { names, not_after, .. } = facts;
        let (file, key, is_expired) = (pair.certificate.clone(), Arc::new(key), not_after <= now);
        Ok(Certificate { file, names, not_after, is_expired, algorithm, key, warnings })
    }

    /// What operators call it: its first name, else its file's.
    pub fn name(&self) -> String {
        let of_file = || self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        self.names.first().cloned().unwrap_or_else(of_file)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no name".to_owned() } else { self.names.join(" ") };
        let until = self.not_after.to_rfc3339();
        write!(out, "{names} ({}, until {until}, {})", self.algorithm, self.file.display())
    }
}

fn text(files: &mut Files, path: &Path) -> Result<String, String> {
    files.read(path, MOST_BYTES).map_err(|error| format!("cannot be read: {error}; a file in PEM is allowed"))
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    if text.contains("ENCRYPTED") {
        return Err("encrypted; a key without a password, readable by us alone, is allowed".into());
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| not_pem(&error, "PRIVATE KEY"))
}

/// Nothing of what stands in the file: it may be a secret.
fn not_pem(error: &pem::Error, wanted: &str) -> String {
    let what = match error {
        pem::Error::NoItemsFound => "holds none",
        _ => "not PEM",
    };
    format!("{what}; a file with -----BEGIN {wanted}----- is allowed")
}

fn warnings(pair: &Pair, facts: &Facts, now: TimeMs) -> Vec<String> {
    let mut warnings = Vec::new();
    let mode = std::fs::metadata(&pair.key).map_or(0, |found| found.permissions().mode());
    if mode & 0o004 != 0 {
        warnings.push(format!("{}: everybody on this machine can read this key (chmod o= it)", pair.key.display()));
    }
    if facts.not_after <= now {
        let (file, at) = (pair.certificate.display(), facts.not_after.to_rfc3339());
        warnings.push(format!("{file}: expired at {at}, clients refuse it"));
    }
    if facts.not_before > now {
        let (file, at) = (pair.certificate.display(), facts.not_before.to_rfc3339());
        warnings.push(format!("{file}: not valid before {at}, clients refuse it"));
    }
    if facts.names.is_empty() {
        warnings.push(format!("{}: it has no DNS name, browsers refuse it", pair.certificate.display()));
    }
    warnings
}
