//! Where the certificates of a door lie: a named pair, and the pairs of a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::certificate::Certificate;
use super::certificates::Certificates;
use crate::files::Files;
use crate::time::TimeMs;
use crate::toml_reader::{Violation, Violations};

/// At least one of both.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Whose they are, for the log.
    pub door: &'static str,
    /// The default.
    pub pair: Option<Pair>,
    /// NAME.crt or NAME.pem beside NAME.key, any number. Without a pair the first by name is the default.
    pub directory: Option<PathBuf>,
    /// As `section.key`.
    pub directory_key: &'static str,
}

#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The key of the configuration that named it, for what is wrong with it.
    pub config_key: &'static str,
}

pub struct Loaded {
    pub certificates: Certificates,
    /// What was looked at.
    pub files: Files,
}

impl Sources {
    /// Reads and checks all of it; everything that is wrong is told together (contract P3).
    pub fn load(&self, now: TimeMs) -> Result<Loaded, Violations> {
        let mut files = Files::default();
        let certificates = self.load_noting(&mut files, now)?;
        Ok(Loaded { certificates, files })
    }

    /// The same; what was looked at is noted also when it is refused.
    pub fn load_noting(&self, files: &mut Files, now: TimeMs) -> Result<Certificates, Violations> {
        let mut violations = Violations::default();
        let mut pairs: Vec<Pair> = self.pair.iter().cloned().collect();
        pairs.extend(self.pairs_of_directory(files, &mut violations));
        let mut all = Vec::with_capacity(pairs.len());
        for pair in &pairs {
            match Certificate::read(pair, files, now) {
                Ok(certificate) => all.push(certificate),
                Err(violation) => violations.add(violation),
            }
        }
        // What is listed twice is told only of what can be read: the rest may be the same mistake.
        violations.none()?;
        Certificates::new(all, self.directory_key)
    }

    fn pairs_of_directory(&self, files: &mut Files, violations: &mut Violations) -> Vec<Pair> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let mut wrong = |file: &Path, message: String| {
            let (file, key) = (file.to_owned(), self.directory_key.to_owned());
            violations.add(Violation { file, line: 1, key, message });
        };
        let listed = match files.listed(directory, &["crt", "key", "pem"]) {
            Ok(listed) => listed,
            Err(error) => {
                wrong(directory, format!("{error}; a directory of NAME.crt and NAME.key is allowed"));
                return Vec::new();
            }
        };
        let mut names: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for file in listed {
            names.entry(file.with_extension("")).or_default().push(file);
        }
        let mut pairs = Vec::new();
        for files in names.into_values() {
            // In name order: .crt, .key, .pem.
            let (keys, certificates): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|file| file.extension().is_some_and(|extension| extension == "key"));
            match (&certificates[..], &keys[..]) {
                ([certificate], [key]) if !self.is_named(certificate) => pairs.push(Pair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    config_key: self.directory_key,
                }),
                ([_], [_]) => {}
                ([_, second, ..], _) => {
                    wrong(second, "a .crt of this name is there too; one of both is allowed".into())
                }
                ([certificate], _) => wrong(certificate, "its NAME.key is missing; both together are allowed".into()),
                ([], [key, ..]) => wrong(key, "its NAME.crt or NAME.pem is missing; both together are allowed".into()),
                ([], []) => {}
            }
        }
        pairs
    }

    /// The named pair may lie in the directory, too.
    fn is_named(&self, certificate: &Path) -> bool {
        let same = |other: &Path| match (certificate.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => certificate == other,
        };
        self.pair.as_ref().is_some_and(|pair| same(&pair.certificate))
    }
}
