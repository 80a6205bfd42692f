//! Clicks as a visitor sees them, and the events that they leave.

use serde_json::Value;

use crate::rig::server::{CATALOG, Start};
use crate::rig::{Response, Server, books};

const TERMS: &str = "[[offers.terms]]\nfrom = 2020-01-01T00:00:00Z\nwindow_days = 10\nmodel = \"last_click\"\n\
                     default_rate = \"1%\"\n";

/// A server whose catalog has one offer more, 13, with these lines.
struct Shop {
    server: Server,
    _home: tempfile::TempDir,
}

impl Shop {
    fn with(lines: &str, edge: &str) -> Shop {
        let home = tempfile::tempdir().unwrap();
        let offer = format!("[[offers]]\nid = 13\nmerchant_id = 1\nname = \"Other\"\n{lines}\n{TERMS}");
        let start = Start {
            catalog: Some(format!("{CATALOG}\n{offer}")),
            config: vec![("edge", edge.into())],
            ..Start::default()
        };
        Shop { server: Server::start(home.path(), &start), _home: home }
    }

    fn get(&self, target: &str) -> Response {
        self.server.edge().get(target, &[])
    }

    fn location(&self, target: &str) -> String {
        let response = self.get(target);
        response.header("location").unwrap_or_else(|| panic!("{target}: {response:?}")).to_owned()
    }

    /// The one event of each click so far, by its label `sub10`.
    fn event(&self, sub10: &str) -> Value {
        let mut found: Vec<Value> = books::spooled(&self.server);
        found.retain(|event| event["sub10"] == sub10);
        assert_eq!(found.len(), 1, "{sub10}: {found:?}");
        found.remove(0)
    }
}

#[test]
fn e14_e17_a_raw_macro_sets_none_of_ours() {
    let lines = "landing_url = \"https://shop.example/l?a=b&{_sub2}\"\nstand_down = true\n\
                 extra_parameters = { raw = \"{_sub1}\" }";
    let shop = Shop::with(lines, "");
    let evil = "x%26click_id%3Devil%26Afsrc%3D9%26gclid%3Dq%26raw%3D2%26c%256Cick_id%3D3%26ok%3D1";
    let location = shop.location(&format!("/click?oid=13&pid=34&sub1={evil}&sub2={evil}&gclid=real"));
    let query: Vec<&str> = location.split_once('?').unwrap().1.split('&').collect();
    let named = |name: &str| -> Vec<&str> {
        let is_named = |pair: &&&str| pair.split('=').next().unwrap().replace("%6C", "l").eq_ignore_ascii_case(name);
        query.iter().filter(is_named).copied().collect()
    };
    assert_eq!((named("click_id").len(), named("afsrc"), named("gclid")), (1, vec!["afsrc=1"], vec!["gclid=real"]));
    assert_eq!((named("raw"), named("ok").len()), (vec!["raw=x"], 2), "{location}");
    assert!(!location.contains("evil"), "{location}");
}

#[test]
fn e24_the_landing_page_of_a_rejected_click_has_its_macros() {
    let lines = "landing_url = \"https://shop.example/{offer_id}/{publisher_id}?a={sub1}&b={click_id}&c={source}&\
                 d={_sub2}&click_id=1&afsrc=1#{coupon_code}\"\nstand_down = true\n\
                 extra_parameters = { aff_sub = \"{sub1}\" }";
    let shop = Shop::with(lines, "");
    let page = |publisher: &str| format!("https://shop.example/13/{publisher}?a=x%20y&b=&c=&d=1&e=2#");
    // The raw macro cannot set ours here either.
    let labels = "sub1=x%20y&sub2=1%26click_id%3Devil%26e%3D2";
    assert_eq!(shop.location(&format!("/click?oid=13&pid=35&{labels}&sub10=pending")), page("35"));
    assert_eq!(shop.location(&format!("/click?oid=13&pid=99&{labels}&sub10=unknown")), page("99"));
    assert_eq!(shop.location(&format!("/click?oid=13&pid=x&{labels}&sub10=none")), page(""));
    assert_eq!(shop.event("pending")["reject"], "publisher_pending");
    assert_eq!(shop.event("unknown")["publisher_id"], 99);
}

#[test]
fn v1_a_publisher_that_is_no_number_is_left_out_of_the_event() {
    let shop = Shop::with("landing_url = \"https://shop.example/\"", "");
    for (number, publisher) in ["", "&pid=x", "&pid=4294967296", "&pid=-1"].iter().enumerate() {
        assert_eq!(shop.get(&format!("/click?oid=13{publisher}&sub10={number}")).status, 302);
        let event = shop.event(&number.to_string());
        assert_eq!((event.get("publisher_id"), &event["reject"]), (None, &"unknown_publisher".into()), "{event}");
    }
    // It is counted all the same, as nobody's.
    books::wait_for_report(&shop.server, 4, 0, 5);
    books::assert_books_close(&shop.server);
}

#[test]
fn e24_e31_the_cookie_is_set_where_there_is_no_page_too() {
    let shop = Shop::with("", "");
    let cookie = |response: &Response| response.header("set-cookie").map(str::to_owned);
    for target in ["/click?oid=13&pid=34", "/click?oid=13&pid=35"] {
        let response = shop.get(target);
        assert_eq!(response.status, 404, "{target}");
        assert!(cookie(&response).is_some_and(|cookie| cookie.starts_with("aff_vid=")), "{target}: {response:?}");
        let known = [("Cookie", "aff_vid=aaaaaaaaaaaaaaaaaaaaaa")];
        assert_eq!(cookie(&shop.server.edge().get(target, &known)), None);
        let head = shop.server.edge().try_request("HEAD", target, &[], b"").unwrap();
        assert_eq!((head.status, cookie(&head)), (404, None));
    }
    // No click, no cookie.
    assert_eq!(cookie(&shop.get("/nobody")), None);
}

#[test]
fn e11_the_referrer_policy_stands_on_every_redirect() {
    let shop = Shop::with("", "referrer_policy = \"origin\"\nfallback_url = \"https://network.example/\"");
    for target in ["/phone", "/nobody", "/click?oid=13&pid=35"] {
        let response = shop.get(target);
        assert_eq!((response.status, response.header("referrer-policy")), (302, Some("origin")), "{target}");
    }
    let shop = Shop::with("", "fallback_url = \"https://network.example/\"");
    for target in ["/phone", "/nobody"] {
        assert_eq!(shop.get(target).header("referrer-policy"), None, "{target}");
    }
}

#[test]
fn e27_p9_lists_label_clicks_and_are_read_again_and_a_bad_one_is_refused() {
    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 Acme/1";
    let lists = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(lists.path().join(name), text).unwrap();
    write("bots", "nobody\n");
    write("networks", "127.0.0.0/8\n");
    let path = |name: &str| lists.path().join(name);
    let lines = format!("bots_file = {:?}\ndatacenters_file = {:?}", path("bots"), path("networks"));
    let shop = Shop::with("landing_url = \"https://shop.example/\"", &lines);
    let click = |sub10: &str| {
        shop.server.edge().get(&format!("/click?offer_id=13&aff_id=34&sub10={sub10}"), &[("user-agent", BROWSER)]);
        let event = shop.event(sub10);
        (event["flags"].to_string(), event["billable"].as_bool().unwrap())
    };
    let until = |what: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !what() {
            assert!(started.elapsed() < std::time::Duration::from_secs(60), "{}", shop.server.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let metric = |line: &str| until(&|| shop.server.admin().get("/metrics", &[]).text().contains(line));
    assert_eq!(click("a"), ("[\"datacenter\"]".into(), true));

    write("networks", "cloud\n");
    shop.server.signal("HUP");
    metric("afflux_edge_lists_last_reload_successful 0");
    until(&|| shop.server.log().contains("/networks:1: "));
    assert_eq!(click("b"), ("[\"datacenter\"]".into(), true));

    write("bots", "acme/\n");
    write("networks", "192.0.2.0/24\n198.51.100.0/24\n");
    shop.server.signal("HUP");
    metric("afflux_edge_lists_last_reload_successful 1");
    metric("afflux_edge_list_entries{list=\"datacenters\"} 2");
    assert_eq!(click("c"), ("[\"bot\"]".into(), false));
    metric("afflux_edge_flagged_total{flag=\"datacenter\"} 2");
    metric("afflux_edge_flagged_total{flag=\"bot\"} 1");
}
