//! What a scanner of the kind that auditors run says about our TLS (contract E39).

use std::process::Stdio;

use serde_json::Value;

use crate::rig::Server;
use crate::{alone, is_long, start_with_certificates, tool};

/// Findings that are none of the edge: name, how bad the scanner takes them, why.
const ALLOWED: [(&str, &str, &str); 7] = [
    ("engine_problem", "WARN", "of the scanner's own openssl: it has no GOST"),
    ("cert_chain_of_trust", "CRITICAL", "the test's certificates are signed by themselves"),
    ("cert_expirationStatus", "HIGH", "they are thrown away at once, and valid for days alone"),
    ("cert_notAfter", "HIGH", "the same"),
    ("cert_revocation", "HIGH", "nor can anybody revoke them"),
    // Every suite that we have is good, so the client chooses the one that is fast on its hardware, as Mozilla's
    // recommendations say.
    ("cipher_order", "HIGH", "the client's order counts"),
    // Its openssl is at the end of its input when the handshake is done, and goes before it has read the ticket, one time
    // in four; then it has none to come back with. tests/it/tls.rs comes back.
    ("sessionresumption_ticket", "WARN", "the scanner hung up too soon to know"),
];

/// In the short form versions, certificates, and what breaks whole servers; what suites alone decide is in the long one.
const SHORT: [&str; 5] = ["-p", "-S", "-H", "-BB", "-R"];
const LONG: [&str; 6] = ["-p", "-s", "-S", "-P", "-f", "-U"];

#[test]
fn e39_a_scanner_finds_nothing_in_tls() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &start_with_certificates(home.path()));
    let found = home.path().join("found.json");
    let begun = std::time::Instant::now();
    let status = tool("testssl")
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--jsonfile"])
        .arg(&found)
        .args(if is_long() { &LONG[..] } else { &SHORT[..] })
        .arg(format!("https://localhost:{}", server.edge_tls.expect("a certificate").port()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("testssl");
    let text = std::fs::read_to_string(&found).unwrap_or_else(|error| panic!("{status}: {error}"));
    let findings: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    println!("testssl.sh: {} findings in {:.0?}", findings.len(), begun.elapsed());
    let is = |finding: &Value, name: &str, severity: &str| finding["id"] == name && finding["severity"] == severity;
    // It was there, spoke what it should, and both certificates were looked at.
    for (name, severity) in [("TLS1_2", "OK"), ("TLS1_3", "OK"), ("SSLv3", "OK"), ("heartbleed", "OK"), ("ROBOT", "OK")]
    {
        assert!(findings.iter().any(|finding| is(finding, name, severity)), "{name}: {text}");
    }
    for certificate in ["<cert#1>", "<cert#2>"] {
        assert!(text.contains(certificate), "{text}");
    }
    let bad: Vec<&Value> = findings.iter().filter(|finding| !is_fine(finding)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn is_fine(finding: &Value) -> bool {
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    // A certificate's findings bear its number.
    let name = text("id").split(' ').next().unwrap_or_default();
    let severity = text("severity");
    ["OK", "INFO"].contains(&severity)
        || ALLOWED.iter().any(|(allowed, taken, _)| (*allowed, *taken) == (name, severity))
}
