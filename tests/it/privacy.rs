//! What is written down of a visitor, with the real program (contract V11-V13).

use serde_json::Value;

use crate::rig::server::Start;
use crate::rig::{Server, books};

const AGENT: (&str, &str) =
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");

/// The events of one click each with these fields more, under `privacy`.
fn events(privacy: &str, requests: &[&[(&str, &str)]]) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let start = Start { config: vec![("privacy", privacy.into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    for headers in requests {
        assert_eq!(server.edge().get("/phone", &[&[AGENT], *headers].concat()).status, 302);
    }
    let page = server.admin().get("/metrics", &[]).text();
    for (flag, header) in [("gpc", "Sec-GPC"), ("dnt", "DNT")] {
        let asked = requests.iter().filter(|headers| headers.contains(&(header, "1"))).count();
        assert!(page.contains(&format!("afflux_edge_flagged_total{{flag=\"{flag}\"}} {asked}\n")), "{page}");
    }
    let mut events = books::spooled(&server);
    // Of several spools: in the order of their times.
    events.sort_by_key(|event| event["clicked_at_ms"].as_i64());
    events
}

#[test]
fn v11_sec_gpc_and_dnt_are_recorded_and_the_click_counts_as_any_other() {
    let signals: [&[(&str, &str)]; 5] =
        [&[("Sec-GPC", "1")], &[("DNT", "1")], &[("DNT", "1"), ("Sec-GPC", "1")], &[("DNT", "0")], &[]];
    let events = events("", &signals);
    let mut flags: Vec<String> = events.iter().map(|event| event["flags"].to_string()).collect();
    flags.sort();
    assert_eq!(flags, ["[\"dnt\"]", "[\"gpc\",\"dnt\"]", "[\"gpc\"]", "[]", "[]"]);
    assert!(events.iter().all(|event| event["billable"] == true && event["click_id"].is_string()), "{events:?}");
}

#[test]
fn v11_v13_addresses_and_visitors_are_kept_as_far_as_is_said() {
    let known: &[(&str, &str)] = &[("Cookie", "aff_vid=aaaaaaaaaaaaaaaaaaaaaa")];
    let mut keys = Vec::new();
    for (privacy, ip, visitor) in [
        ("", Some("127.0.0.0"), Some("aaaaaaaaaaaaaaaaaaaaaa")),
        ("ip = \"cut\"", Some("127.0.0.0"), Some("aaaaaaaaaaaaaaaaaaaaaa")),
        ("ip = \"full\"", Some("127.0.0.1"), Some("aaaaaaaaaaaaaaaaaaaaaa")),
        ("ip = \"none\"\nvisitor = \"none\"", None, None),
    ] {
        let event = events(privacy, &[known]).remove(0);
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        assert_eq!((text("ip"), text("visitor_id")), (ip, visitor), "{privacy}: {event}");
        // These stay: without them no double click is found, and no sale is anybody's.
        assert_eq!(text("visitor_key").map(str::len), Some(16), "{privacy}");
        keys.extend(text("ip_key").map(str::to_owned));
        assert!(!event.to_string().contains("127.0.0.1") || privacy.contains("full"), "{privacy}: {event}");
    }
    assert!(keys.len() == 4 && keys.iter().all(|key| key.len() == 16), "{keys:?}");
}
