//! All certificates of a door, and which of them a client gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

use super::certificate::{Algorithm, Certificate};
use crate::toml_reader::{Violation, Violations};

pub struct Certificates {
    /// The default first.
    pub all: Vec<Certificate>,
    /// Of each name, what is to be tried first at the front.
    by_name: HashMap<String, Vec<Choice>>,
    /// For who asks for no name, or for one that nobody here has.
    default: Vec<Choice>,
}

struct Choice {
    is_expired: bool,
    algorithm: Algorithm,
    key: Arc<CertifiedKey>,
    /// In `all`.
    index: usize,
}

impl Certificates {
    /// The first is the default, together with those of other algorithms for its first name. `config_key` names what
    /// listed them.
    pub fn new(all: Vec<Certificate>, config_key: &str) -> Result<Certificates, Violations> {
        let mut by_name: HashMap<String, Vec<Choice>> = HashMap::new();
        let mut violations = Violations::default();
        for (index, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                let choices = by_name.entry(name.clone()).or_default();
                match choices.iter_mut().find(|choice| choice.algorithm == certificate.algorithm) {
                    // Named twice in one certificate.
                    Some(known) if known.index == index => {}
                    // One that was renewed under another file's name.
                    Some(_) if certificate.is_expired => {}
                    Some(known) if known.is_expired => *known = choice(certificate, index),
                    Some(known) => violations.add(twice(certificate, name, &all[known.index], config_key)),
                    None => choices.push(choice(certificate, index)),
                }
            }
        }
        violations.none()?;
        by_name.values_mut().for_each(|choices| choices.sort_by_key(|choice| (choice.is_expired, choice.algorithm)));
        let of_first_name = all.first().and_then(|first| by_name.get(first.names.first()?));
        let default = match of_first_name {
            Some(choices) => choices.iter().map(|known| choice(&all[known.index], known.index)).collect(),
            None => all.first().map(|first| choice(first, 0)).into_iter().collect(),
        };
        Ok(Certificates { all, by_name, default })
    }

    /// Each that somebody gets, with the first name for which they do: one that was renewed in another file is none of
    /// them.
    pub fn served(&self) -> impl Iterator<Item = (String, &Certificate)> {
        let is_served = |name: &str, index| {
            self.by_name.get(name).is_some_and(|choices| choices.iter().any(|choice| choice.index == index))
        };
        self.all.iter().enumerate().filter_map(move |(index, certificate)| {
            let name = certificate.names.iter().find(|name| is_served(name, index));
            let default = self.default.iter().any(|choice| choice.index == index).then(|| certificate.name());
            Some((name.cloned().or(default)?, certificate))
        })
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`. Where it can verify none, one all the
    /// same: rustls then tells it what is missing.
    pub fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let choices = name.and_then(|name| self.of_name(&name.to_ascii_lowercase())).unwrap_or(&self.default);
        let fits = |choice: &&Choice| choice.key.key.choose_scheme(schemes).is_some();
        choices.iter().find(fits).or(choices.first()).map(|choice| choice.key.clone())
    }

    /// A wildcard stands for one label (RFC 6125 6.4.3).
    fn of_name(&self, name: &str) -> Option<&Vec<Choice>> {
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(name).or_else(wildcard)
    }
}

fn choice(certificate: &Certificate, index: usize) -> Choice {
    let Certificate { is_expired, algorithm, ref key, .. } = *certificate;
    Choice { is_expired, algorithm, key: key.clone(), index }
}

fn twice(certificate: &Certificate, name: &str, other: &Certificate, config_key: &str) -> Violation {
    let (algorithm, file) = (certificate.algorithm, other.file.display());
    let message = format!("{name} has another {algorithm} certificate, {file}; one of each algorithm is allowed");
    Violation { file: certificate.file.clone(), line: 1, key: config_key.to_owned(), message }
}
