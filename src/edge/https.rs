//! Where a plain request finds the same over TLS.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};

/// More is no host name (RFC 1035 2.3.4).
const MOST_BYTES: usize = 253;

/// The target of the request on its own host. `None` where the Host field names none that is in order: what came in it
/// would stand in our answer.
pub fn location(headers: &HeaderMap, uri: &Uri, port: u16) -> Option<HeaderValue> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let host = host(field.to_str().ok()?)?;
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if !target.starts_with('/') {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::from_str(&format!("https://{host}{port}{target}")).ok()
}

/// A host name, an IPv4 address or an IPv6 address in brackets, without the port that may stand behind it. Of the names of
/// RFC 3986 3.2.2 only those that DNS has.
fn host(field: &str) -> Option<&str> {
    let end = if field.starts_with('[') { field.find(']')? + 1 } else { field.find(':').unwrap_or(field.len()) };
    let (host, port) = field.split_at(end);
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let is_good = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()),
        None => is_name(host),
    };
    is_good.then_some(host)
}

fn is_name(host: &str) -> bool {
    let in_order = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(in_order);
    host.len() <= MOST_BYTES && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fields: &[&str], target: &str, port: u16) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(HOST, field.parse().unwrap());
        }
        location(&headers, &target.parse().unwrap(), port).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_same_target_on_the_same_host_with_the_port_of_tls() {
        for (field, port, expected) in [
            ("go.example", 443, "https://go.example/phone?sub1=a%20b"),
            ("go.example:80", 443, "https://go.example/phone?sub1=a%20b"),
            ("Go.Example:8080", 8443, "https://Go.Example:8443/phone?sub1=a%20b"),
            ("192.0.2.1:8080", 443, "https://192.0.2.1/phone?sub1=a%20b"),
            ("[2001:db8::1]:8080", 8443, "https://[2001:db8::1]:8443/phone?sub1=a%20b"),
        ] {
            assert_eq!(sent(&[field], "/phone?sub1=a%20b", port).as_deref(), Some(expected));
        }
        assert_eq!(sent(&["go.example"], "/", 443).as_deref(), Some("https://go.example/"));
        assert_eq!(sent(&["go.example"], "//other.example", 443).as_deref(), Some("https://go.example//other.example"));
    }

    #[test]
    fn a_host_that_is_none_leads_nowhere() {
        let long = ["a"; 128].join(".");
        for field in [
            "",
            ":80",
            "go.example:",
            "go.example:x",
            "go.example:123456",
            "user@go.example",
            "go.example/x",
            "a b",
            "go..example",
            ".go.example",
            "go.example.",
            "go.example?x",
            "go.example#x",
            "go.example\\",
            "[::1",
            "[x]",
            "[::1]x",
            "::1",
            "g\u{f6}.example",
            "a,b",
            "%67o.example",
            "a:1:2",
            &long,
        ] {
            assert_eq!(sent(&[field], "/", 443), None, "{field:?}");
        }
        assert_eq!(sent(&[], "/", 443), None);
        assert_eq!(sent(&["a.example", "b.example"], "/", 443), None);
    }
}
