//! Where an offer's clicks may go and what is added to the page: templates, hosts and names, compiled and checked.

use std::cell::RefCell;

use super::deep_link::DeepLinkHosts;
use super::entries::OfferEntry;
use super::template::Template;
use crate::toml_reader::{Violation, Violations};

/// Parameters that Afflux itself adds to a page beside the click ID (contract E13): no name of the operator's.
const OURS: [&str; 5] = ["afsrc", "gclid", "fbclid", "ttclid", "msclkid"];

/// Reads the pages of one offer; violations go where they are listed.
pub struct Pages<'e> {
    entry: &'e OfferEntry,
    violations: &'e RefCell<Violations>,
}

impl<'e> Pages<'e> {
    pub fn new(entry: &'e OfferEntry, violations: &'e RefCell<Violations>) -> Pages<'e> {
        Pages { entry, violations }
    }

    pub fn landing(&self) -> Option<Template> {
        let (text, line) = self.entry.landing_url.as_ref()?;
        let page = Template::page(text, self.entry.allow_http);
        page.map_err(|error| self.wrong(*line, "landing_url", format!("{text:?}: {error}"))).ok()
    }

    /// Any absolute https page, or http where the offer allows it, as the WHATWG parser writes it.
    pub fn fallback(&self) -> Option<String> {
        let (text, line) = self.entry.fallback_url.as_ref()?;
        let schemes: &[&str] = if self.entry.allow_http { &["https", "http"] } else { &["https"] };
        let page = url::Url::parse(text).ok().filter(|page| schemes.contains(&page.scheme()) && page.has_host());
        if page.is_none() {
            let message = format!("{text:?} is no page, an absolute {} URL is allowed", schemes.join(" or "));
            self.wrong(*line, "fallback_url", message);
        }
        page.map(String::from)
    }

    /// `None`: wrong and noted.
    pub fn deep_links(&self) -> Option<DeepLinkHosts> {
        let hosts = self.entry.deep_link_hosts.as_ref()?;
        let line = self.entry.place.line_of("deep_link_hosts");
        let parsed = DeepLinkHosts::parse(hosts, self.entry.allow_http);
        parsed.map_err(|error| self.wrong(line, "deep_link_hosts", error.to_string())).ok()
    }

    pub fn click_id_parameter(&self) -> String {
        let (name, line) = &self.entry.click_id_parameter;
        if let Some(message) = name_violation(name) {
            self.wrong(*line, "click_id_parameter", message);
        }
        name.clone()
    }

    /// Names as they stand in the query, and their values. Ours replace any of the same name (contract E14), so a name
    /// that is ours or stands twice would be lost.
    pub fn extra_parameters(&self) -> Vec<(String, Template)> {
        let mut parameters: Vec<(String, Template)> = Vec::new();
        for (name, text, line) in &self.entry.extra_parameters {
            let key = format!("extra_parameters.{name}");
            let same = |other: &str| other.eq_ignore_ascii_case(name);
            if same(&self.entry.click_id_parameter.0) {
                self.wrong(*line, &key, "the click ID's parameter, another name is allowed".into());
            } else if parameters.iter().any(|(other, _)| same(other)) {
                self.wrong(*line, &key, "stands twice (names are compared without case), once is allowed".into());
            } else if let Some(message) = name_violation(name) {
                self.wrong(*line, &key, message);
            }
            match Template::parameter(text) {
                Ok(template) => parameters.push((name.clone(), template)),
                Err(error) => self.wrong(*line, &key, format!("{text:?}: {error}")),
            }
        }
        parameters
    }

    fn wrong(&self, line: usize, key: &str, message: String) {
        let place = &self.entry.place;
        let key = format!("{}.{key}", place.section);
        self.violations.borrow_mut().add(Violation { file: place.file.clone(), line, key, message });
    }
}

/// Why a name is none that can stand in a query as it is.
fn name_violation(name: &str) -> Option<String> {
    if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return Some(format!("{name:?} is added by Afflux itself, another name is allowed"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]".contains(&byte);
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(plain);
    (!fits).then(|| format!("{name:?}, 1-64 of A-Z a-z 0-9 - . _ ~ [ ] are allowed"))
}
