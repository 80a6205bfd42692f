//! What is written down of a visitor, with the real program (contract V11-V13).

use serde_json::Value;

use crate::rig::server::{self, Start, TOKEN};
use crate::rig::{Server, books};

const AGENT: (&str, &str) = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");

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

/// Beside the running program.
#[test]
fn a_visitor_is_erased_while_the_service_runs_and_the_books_still_close() {
    const VISITOR: &str = "-aaaaaaaaaaaaaaaaaaaa_";
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let click = server.edge().get("/phone", &[AGENT, ("Cookie", &format!("aff_vid={VISITOR}"))]);
    let location = click.header("location").unwrap();
    let (_, click_id) = location.split_once("click_id=").unwrap();
    let click_id: String = click_id.chars().take(48).collect();
    let order = serde_json::json!({
        "order_id": "A-1", "type": "sale", "amount": 1_250_000, "click_id": click_id, "visitor_id": VISITOR,
        "customer_id": "somebody",
    });
    assert_eq!(server.api().post_json("/v1/conversions", TOKEN, &order).status, 202);
    books::wait_for_report(&server, 1, 1, 20);
    let run = |arguments: &[&str]| {
        let output = server::run(home.path(), arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let explained = run(&["explain", "--order", "1/A-1"]);
    let counts =
        |touches: u32, buyers: u32| format!("  touches            {touches}\n  buyers of orders   {buyers} of 1\n");
    for _ in 0..2 {
        let (code, said) = run(&["erase", VISITOR, "--dry-run"]);
        assert!(code == Some(0) && said.contains(&counts(1, 1)) && said.starts_with("would be erased"), "{said}");
    }
    let (code, said) = run(&["erase", "--click", &click_id]);
    assert!(code == Some(0) && said.contains(&counts(1, 1)), "{said}");
    assert!(said.contains("7 days") && said.contains("spool.keep_days"), "{said}");
    let (code, said) = run(&["erase", VISITOR]);
    assert!(code == Some(0) && said.contains(&counts(0, 0)), "{said}");
    assert_eq!(run(&["explain", "--order", "1/A-1"]), explained);
    books::assert_books_close(&server);
    // Another last character than it has.
    let forged = format!("{}{}", &click_id[..47], if click_id.ends_with('x') { 'y' } else { 'x' });
    for (wrong, code) in [
        (&["erase", "short"][..], 64),
        (&["erase"], 64),
        (&["erase", "--click", &forged], 64),
        (&["erase", "--order", "nothing"], 64),
        (&["erase", "--order", "1/B-1"], 1),
        (&["erase", VISITOR, "--order", "1/A-1"], 64),
    ] {
        assert_eq!(run(wrong).0, Some(code), "{wrong:?}");
    }
}
