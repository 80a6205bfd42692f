//! Values that are more than text: parsed once, where they enter.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use crate::toml_reader::{FromToml, Int};

/// An IANA time zone, `UTC` or `Asia/Tehran`.
#[derive(Clone, Debug)]
pub struct TimeZone(pub jiff::tz::TimeZone);

impl FromToml for TimeZone {
    fn from_toml(value: &DeValue<'_>) -> Result<TimeZone, String> {
        let name = String::from_toml(value)?;
        let zone = jiff::tz::TimeZone::get(&name);
        zone.map(TimeZone).map_err(|_| format!("{name:?} is no IANA time zone, as \"UTC\" or \"Asia/Tehran\""))
    }
}

/// A network, or an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromToml for Network {
    fn from_toml(value: &DeValue<'_>) -> Result<Network, String> {
        let text = String::from_toml(value)?;
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let allowed = "ADDRESS/BITS without bits behind them is allowed, as \"10.0.0.0/8\", or an address alone";
        let good = network.ok().filter(|network: &IpNet| network.trunc() == *network);
        good.map(Network).ok_or_else(|| format!("{text:?} is no network, {allowed}"))
    }
}

/// An absolute http or https URL, as WHATWG writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackUrl(pub String);

impl FromToml for FallbackUrl {
    fn from_toml(value: &DeValue<'_>) -> Result<FallbackUrl, String> {
        let text = String::from_toml(value)?;
        match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(FallbackUrl(url.into())),
            _ => Err(format!("{text:?} is no page, an absolute http or https URL is allowed")),
        }
    }
}

/// A value of the header Referrer-Policy (W3C Referrer Policy, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerPolicy(pub &'static str);

const POLICIES: [&str; 8] = [
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

impl FromToml for ReferrerPolicy {
    fn from_toml(value: &DeValue<'_>) -> Result<ReferrerPolicy, String> {
        let text = String::from_toml(value)?;
        let known = POLICIES.iter().find(|policy| **policy == text);
        known.map(|policy| ReferrerPolicy(policy)).ok_or_else(|| format!("{text:?}, allowed: {}", POLICIES.join(", ")))
    }
}

/// A value of the header Strict-Transport-Security (RFC 6797 6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictTransportSecurity(pub String);

impl FromToml for StrictTransportSecurity {
    fn from_toml(value: &DeValue<'_>) -> Result<StrictTransportSecurity, String> {
        let text = String::from_toml(value)?;
        let mut directives = text.split(';').map(str::trim);
        let age = directives.next().and_then(|first| first.strip_prefix("max-age="));
        let is_age = age.is_some_and(|age| (1..=10).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit()));
        if is_age && directives.all(|directive| matches!(directive, "includeSubDomains" | "preload")) {
            return Ok(StrictTransportSecurity(text));
        }
        Err(format!("{text:?}, allowed: max-age=SECONDS, and behind it ; includeSubDomains and ; preload"))
    }
}

/// Where plain requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpsPort {
    /// Nowhere: they are answered.
    No,
    OfListener,
    Number(u16),
}

impl FromToml for HttpsPort {
    fn from_toml(value: &DeValue<'_>) -> Result<HttpsPort, String> {
        if let Some(yes) = value.as_bool() {
            return Ok(if yes { HttpsPort::OfListener } else { HttpsPort::No });
        }
        let number = Int::<1, 65_535>::from_toml(value);
        number.map(|port| HttpsPort::Number(port.0 as u16)).map_err(|error| format!("{error}, or true or false"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromToml>(text: &str) -> Option<T> {
        let line = format!("x = {text}");
        let table = toml::de::DeTable::parse(&line).unwrap();
        T::from_toml(table.get_ref().get("x").unwrap().get_ref()).ok()
    }

    #[test]
    fn hsts_is_a_header_of_rfc_6797() {
        for good in ["max-age=0", "max-age=31536000; includeSubDomains; preload", "max-age=1;preload"] {
            assert!(read::<StrictTransportSecurity>(&format!("{good:?}")).is_some(), "{good}");
        }
        for bad in
            ["", "31536000", "max-age=", "max-age=-1", "max-age=1, x", "includeSubDomains", "max-age=1\\r\\nX: y"]
        {
            assert!(read::<StrictTransportSecurity>(&format!("\"{bad}\"")).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_trusted_network_has_no_bits_behind_its_own() {
        for good in ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "0.0.0.0/0", "::ffff:10.0.0.0/104"] {
            assert!(read::<Network>(&format!("{good:?}")).is_some(), "{good}");
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "load-balancer", "10.0.0.0/8 "] {
            assert_eq!(read::<Network>(&format!("{bad:?}")), None, "{bad}");
        }
    }

    #[test]
    fn plain_requests_go_nowhere_to_the_listener_or_to_a_port() {
        assert_eq!(read("false"), Some(HttpsPort::No));
        assert_eq!(read("true"), Some(HttpsPort::OfListener));
        assert_eq!(read("443"), Some(HttpsPort::Number(443)));
        for bad in ["0", "65536", "\"yes\""] {
            assert_eq!(read::<HttpsPort>(bad), None, "{bad}");
        }
    }
}
