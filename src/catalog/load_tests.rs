//! A catalog and everything that can be wrong with one.

use std::path::Path;

use super::*;
use crate::time::TimeMs;

const EXAMPLE: &str = include_str!("../../config/catalog.toml");

fn load_text(text: &str) -> Result<Loaded, String> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("catalog.toml"), text).unwrap();
    std::fs::write(home.path().join("demo-shop.signing"), "demo-signing-secret-1\n\n demo-2 \n").unwrap();
    load(&home.path().join("catalog.toml"))
        .map_err(|violations| violations.to_string().replace(&format!("{}/", home.path().display()), ""))
}

/// The example with one text replaced; the violations.
fn violations_of(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    load_text(&EXAMPLE.replacen(from, to, 1)).err().unwrap_or_else(|| panic!("{to} was accepted"))
}

fn line_of(text: &str, part: &str) -> usize {
    text[..text.find(part).unwrap()].lines().count()
}

#[test]
fn p19_the_example_is_accepted_as_it_is() {
    let snapshot = load_text(EXAMPLE).map_err(|error| panic!("{error}")).unwrap().snapshot;
    let merchant = snapshot.merchant(MerchantId(1)).unwrap();
    assert_eq!(merchant.signing_secrets, [b"demo-signing-secret-1".to_vec(), b"demo-2".to_vec()]);
    assert_eq!(merchant.status_words.len(), 2);
    let offer = snapshot.offer(OfferId(12)).unwrap();
    assert_eq!(offer.rules.terms.len(), 2);
    let (first, yalda) = (&offer.rules.terms[0], &offer.rules.terms[1]);
    assert_eq!(yalda.default_rate.to_string(), "15%");
    assert_eq!((&yalda.rates, yalda.coupon_rate), (&first.rates, first.coupon_rate));
    let link = snapshot.link(b"phone").unwrap();
    assert_eq!(link.url, Some("https://shop.example/p/1?color=black"));
    assert_eq!(snapshot.hash.len(), 64);
    assert!(snapshot.rulebook.coupon(MerchantId(1), "yalda ").is_some());
}

#[test]
fn p23_every_rule_names_file_line_key_and_what_is_allowed() {
    let cases = [
        ("name = \"Demo Shop\"", "name = \"Demo Shop\"\ncolour = 1", "merchants.colour: unknown key"),
        ("currency = \"IRR\"", "currency = \"IRT\"", "merchants.currency: \"IRT\" is not an ISO 4217"),
        ("unit = \"rial\"", "unit = \"dinar\"", "merchants.unit: unknown variant `dinar`, allowed: `rial` or `toman`"),
        (
            "currency = \"IRR\"\nunit = \"rial\"",
            "currency = \"EUR\"\nunit = \"toman\"",
            "merchants.unit: \"toman\" is ten rials",
        ),
        ("id = 12", "id = 0", "offers.id: 0, a whole number from 1 to 4294967295"),
        ("merchant_id = 1", "merchant_id = 9", "offers.merchant_id: no merchant 9"),
        ("status = \"active\"", "status = \"on\"", "offers.status: unknown variant `on`"),
        ("model = \"last_click\"", "model = \"best_click\"", "offers.terms.model: unknown variant"),
        (
            "default_rate = \"12%\"",
            "default_rate = \"112%\"",
            "offers.terms.default_rate: \"112%\": a rate is a percentage",
        ),
        ("default_rate = \"12%\"", "", "offers.terms.default_rate: missing, the first terms"),
        (
            "window_days = 10",
            "window_days = \"10\"",
            "offers.terms.window_days: a string, a whole number from 0 to 3650",
        ),
        (
            "from = 2026-12-18T00:00:00+03:30",
            "from = 2025-12-18T00:00:00+03:30",
            "offers.terms.from: not after the `from`",
        ),
        (
            "until = 2026-12-22T00:00:00+03:30",
            "until = 2026-12-18T00:00:00+03:30",
            "offers.terms.until: not after `from`",
        ),
        (
            "from = 2026-01-01T00:00:00+03:30",
            "from = 2026-01-01T00:00:00",
            "offers.terms.from: 2026-01-01T00:00:00, a date and time with an offset",
        ),
        ("landing_url = \"https://", "landing_url = \"http://", "offers.landing_url:"),
        ("{campaign}", "", ""),
        ("utm_campaign={publisher_id}", "utm_campaign={publisher}", "offers.landing_url:"),
        ("fallback_url = \"https://shop.example/sold-out\"", "fallback_url = \"/sold-out\"", "offers.fallback_url:"),
        ("click_id_parameter = \"click_id\"", "click_id_parameter = \"afsrc\"", "offers.click_id_parameter: a name of"),
        (
            "extra_parameters = { aff_sub",
            "extra_parameters = { Click_ID",
            "offers.extra_parameters.Click_ID: a name other",
        ),
        ("id = 35", "id = 34", "publishers.id: 34 stands twice"),
        ("code = \"phone\"", "code = \"click\"", "links.code: \"click\" is a path of the edge's own"),
        ("code = \"phone\"", "code = \"pho ne\"", "links.code: \"pho ne\", 1-64 of"),
        (
            "url = \"https://shop.example/p/1?color=black\"",
            "url = \"https://other.example/\"",
            "links.url: \"https://other.example/\":",
        ),
        ("code = \"YALDA\"\noffer_id = 12", "code = \"YALDA\"\noffer_id = 13", "coupons.offer_id: no offer 13"),
        ("policy = \"if_no_click\"", "policy = \"never\"", "coupons.policy: unknown variant"),
        (
            "signing_secrets_file = \"demo-shop.signing\"",
            "signing_secrets_file = \"none\"",
            "merchants.signing_secrets_file: ",
        ),
        (
            "allow_networks = []",
            "allow_networks = [\"10.0.0.0/99\"]",
            "merchants.allow_networks: entry 1: \"10.0.0.0/99\" is no network",
        ),
        ("2bb80d53", "secret", "merchants.bearer_tokens_sha256: entry 1: not a SHA-256"),
    ];
    for (from, to, expected) in cases.into_iter().filter(|(from, ..)| *from != "{campaign}") {
        let said = violations_of(from, to);
        assert!(said.contains(expected), "{from} -> {to}: {said}");
        assert!(said.starts_with("catalog.toml:"), "{said}");
        let line: usize = said.split(':').nth(1).unwrap().parse().unwrap();
        let expected_line = line_of(EXAMPLE, from);
        assert!(line.abs_diff(expected_line) <= 8, "{from}: line {line}, it stands at {expected_line}");
    }
}

#[test]
fn p21_all_violations_stand_together() {
    let text = EXAMPLE
        .replace("currency = \"IRR\"", "currency = \"X\"")
        .replace("code = \"phone\"", "code = \"click\"")
        .replace("id = 35", "id = 34");
    let said = load_text(&text).err().unwrap();
    assert!(said.lines().count() >= 3, "{said}");
}

#[test]
fn p23_two_merchants_never_share_a_token_and_codes_are_unique_for_each() {
    let second = EXAMPLE.to_owned()
        + "\n[[merchants]]\nid = 2\ncurrency = \"EUR\"\nbearer_tokens_sha256 = [\"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"]\n";
    let said = load_text(&second).err().unwrap();
    assert!(said.contains("a token of merchant 1 too"), "{said}");
    let coupon = EXAMPLE.to_owned()
        + "\n[[coupons]]\ncode = \" yalda\"\noffer_id = 12\npublisher_id = 34\npolicy = \"always\"\n";
    let said = load_text(&coupon).err().unwrap();
    assert!(said.contains("stands twice for merchant 1"), "{said}");
}

#[test]
fn p19_a_directory_is_read_as_one_and_links_files_by_line() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let (first, rest) = EXAMPLE.split_at(EXAMPLE.find("[[publishers]]").unwrap());
    std::fs::write(at("demo-shop.signing"), "x").unwrap();
    std::fs::write(at("10-shop.toml"), rest).unwrap();
    std::fs::write(at("20-offers.toml"), format!("links_file = \"links.ndjson\"\n{first}")).unwrap();
    std::fs::write(at("notes.txt"), "not read").unwrap();
    let good = "{\"code\":\"a\",\"offer_id\":12,\"publisher_id\":34,\"url\":\"https://shop.example/x\"}\n\n{\"code\":\"b\",\"offer_id\":12,\"publisher_id\":34}\n";
    std::fs::write(at("links.ndjson"), good).unwrap();
    let loaded = load(home.path()).map_err(|error| panic!("{error}")).unwrap();
    assert_eq!(loaded.snapshot.links.len(), 3);
    assert_eq!(loaded.files.len(), 3);
    let bad = format!(
        "{good}{{\"code\":\"a\",\"offer_id\":12,\"publisher_id\":34}}\n{{\"code\":\"c\",\"offer_id\":1,\"publisher_id\":34}}\n{{\"cod\n"
    );
    std::fs::write(at("links.ndjson"), bad).unwrap();
    let said = load(home.path()).err().unwrap().to_string();
    for expected in [
        "links.ndjson:4: code: \"a\": this code stands twice",
        "links.ndjson:5: offer_id: no offer 1",
        "links.ndjson:6: not a link",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn p21_a_bad_reload_leaves_the_running_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("catalog.toml");
    std::fs::write(home.path().join("demo-shop.signing"), "x").unwrap();
    std::fs::write(&path, EXAMPLE).unwrap();
    let current = Current::load(Some(&path), false).unwrap();
    let now = TimeMs::parse_rfc3339("2026-11-24T00:00:00Z").unwrap();
    assert!(!current.has_changed());
    std::fs::write(&path, EXAMPLE.replace("id = 12", "id = \"x\"")).unwrap();
    assert!(current.has_changed());
    assert!(current.reload(now).is_err());
    assert!(!current.has_changed());
    assert!(current.handle().load().link(b"phone").is_some());
    let more = format!("{EXAMPLE}\n[[links]]\ncode = \"more\"\noffer_id = 12\npublisher_id = 34\n");
    std::fs::write(&path, more).unwrap();
    current.reload(now).unwrap();
    assert!(current.handle().load().link(b"more").is_some());
}

#[test]
fn p22_terms_in_force_change_only_when_allowed() {
    let now = TimeMs::parse_rfc3339("2026-11-24T00:00:00Z").unwrap();
    let book = |text: &str| load_text(text).map_err(|error| panic!("{error}")).unwrap().snapshot.rulebook;
    let running = book(EXAMPLE);
    let change = |from: &str, to: &str| changed_terms(&running, &book(&EXAMPLE.replacen(from, to, 1)), now);
    assert_eq!(changed_terms(&running, &running, now), None);
    assert!(change("default_rate = \"12%\"", "default_rate = \"11%\"").is_some());
    // The campaign lies ahead: it may change. An end that lies ahead may be set; one in the past may not.
    assert_eq!(change("default_rate = \"15%\"", "default_rate = \"16%\""), None);
    let ends = |end: &str| format!("from = 2026-01-01T00:00:00+03:30\n  until = {end}");
    assert_eq!(change("from = 2026-01-01T00:00:00+03:30", &ends("2027-01-01T00:00:00Z")), None);
    assert!(change("from = 2026-01-01T00:00:00+03:30", &ends("2026-06-01T00:00:00Z")).is_some());
}

#[test]
fn a_missing_catalog_is_named() {
    let said = load(Path::new("/nowhere/catalog.toml")).err().unwrap().to_string();
    assert!(said.starts_with("/nowhere/catalog.toml:1: cannot be read"), "{said}");
}
