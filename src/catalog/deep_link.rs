//! Which pages a publisher may link to (contract E19-E22).

/// Where an offer's deep links may go: exact hosts and `*.` patterns, each with an optional port, and whether `http` is
/// allowed.
#[derive(Clone, Debug, Default)]
pub struct DeepLinkHosts {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not an absolute https URL")]
    NotAUrl,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHost(pub String);

impl DeepLinkHosts {
    /// Reads `deep_link_hosts` as operators write them: `shop.example`, `*.shop.example`, `shop.example:8443`.
    pub fn parse(_entries: &[String], _allow_http: bool) -> Result<DeepLinkHosts, BadHost> {
        unimplemented!()
    }

    /// Checks a decoded deep link and returns it re-serialised (WHATWG), at most 2,048 bytes before and after.
    pub fn check(&self, _value: &str) -> Result<String, Refused> {
        unimplemented!()
    }
}
