//! Contract P3, P19-P25: what is accepted, and what is said of everything that is not.

use super::*;
use crate::catalog::rulebook::{CheckoutRule, CouponPolicy, Model, RateBasis};
use crate::event::MerchantStatus;
use crate::money::Rate;

/// The example with the first `from` replaced by `to`.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

/// Each case: what of the example is replaced, by what, the text at whose line the one violation must be, what it says.
fn assert_refused(cases: &[(&str, &str, &str, &str)]) {
    for (from, to, at, expected) in cases {
        let text = changed(from, to);
        let said = violations(load_text(&text));
        let line = text[..text.find(at).unwrap()].matches('\n').count() + 1;
        let expected = format!("catalog.toml:{line}: {expected}");
        assert!(said.starts_with(&expected), "{to}:\n{said}\nshould start\n{expected}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn p19_the_example_is_accepted_as_it_is() {
    let snapshot = loaded(load_text(EXAMPLE)).snapshot;
    assert_eq!(snapshot.counts().map(|(_, count)| count), [1, 1, 2, 1, 1]);
    let merchant = snapshot.merchant(MerchantId(1)).unwrap();
    assert_eq!(merchant.signing_secrets, [b"demo-signing-secret-1".to_vec(), b"demo-2".to_vec()]);
    assert_eq!(merchant.status_words.get("trash"), Some(&MerchantStatus::Rejected));
    assert_eq!(merchant.bearer_tokens_sha256, merchant.postback_tokens_sha256);
    let offer = snapshot.offer(OfferId(12)).unwrap();
    assert_eq!(offer.rules.checkout_rule, CheckoutRule::IgnoreAfterCheckout);
    assert_eq!((offer.click_id_parameter.as_str(), offer.stand_down), ("click_id", true));
    assert_eq!(offer.fallback_url.as_deref(), Some("https://shop.example/sold-out"));
    assert_eq!(offer.extra_parameters[0].0, "aff_sub");
    let link = snapshot.link(b"phone").unwrap();
    assert_eq!((link.offer_id, link.publisher_id), (OfferId(12), PublisherId(34)));
    assert_eq!(link.url, Some("https://shop.example/p/1?color=black"));
    let coupon = snapshot.rulebook.coupon(MerchantId(1), " yalda ").unwrap();
    assert_eq!(coupon.policy, CouponPolicy::IfNoClick);
    assert_eq!(snapshot.hash.len(), 64);
}

#[test]
fn m14_terms_inherit_all_but_their_dates() {
    let snapshot = loaded(load_text(EXAMPLE)).snapshot;
    let terms = &snapshot.offer(OfferId(12)).unwrap().rules.terms;
    let (first, yalda) = (&terms[0], &terms[1]);
    assert_eq!((first.until.is_none(), yalda.until.is_none()), (true, false));
    assert_eq!(yalda.default_rate, Rate::PartsPerMillion(150_000));
    assert_eq!((yalda.window_days, yalda.model, yalda.hold_days), (10, Model::LastClick, 14));
    assert_eq!((&yalda.rates, &yalda.conversion_rates), (&first.rates, &first.conversion_rates));
    assert_eq!((yalda.coupon_rate, yalda.rates.len()), (first.coupon_rate, 3));
    // Lists are replaced whole.
    let text = changed("default_rate = \"15%\"", "rates = [ { category = \"rice\", rate = \"1%\" } ]\n  hold_days = 0");
    let snapshot = loaded(load_text(&text)).snapshot;
    let yalda = &snapshot.offer(OfferId(12)).unwrap().rules.terms[1];
    assert_eq!((yalda.rates.len(), yalda.hold_days, yalda.conversion_rates.len()), (1, 0, 1));
    assert_eq!(yalda.default_rate, Rate::PartsPerMillion(120_000));
}

#[test]
fn m14_defaults_and_the_least_that_must_be_said() {
    let text = "[[merchants]]\nid = 1\ncurrency = \"EUR\"\n[[offers]]\nid = 2\nmerchant_id = 1\nstatus = \"active\"\n\
        [[offers.terms]]\nfrom = 2026-01-01T00:00:00Z\nwindow_days = 0\nmodel = \"linear\"\ndefault_rate = \"5\"\n\
        conversion_rates = [{ type = \"install\", rate = \"1%\" }, { type = \"call_me\", rate = \"2\" }]\n";
    let snapshot = loaded(load_text(text)).snapshot;
    let offer = snapshot.offer(OfferId(2)).unwrap();
    let terms = &offer.rules.terms[0];
    assert_eq!((terms.hold_days, terms.rate_basis, terms.coupon_rate), (14, RateBasis::Conversion, None));
    assert_eq!((offer.click_id_parameter.as_str(), offer.stand_down), ("click_id", false));
    assert_eq!(offer.rules.checkout_rule, CheckoutRule::None);
    assert_eq!(snapshot.merchant(MerchantId(1)).unwrap().conversion_types, ["call_me"]);
    assert_eq!(loaded(load_text("")).snapshot.counts().map(|(_, count)| count), [0; 5]);
}

#[test]
fn p23_keys_and_ids() {
    assert_refused(&[
        ("name = \"Demo Shop\"", "colour = 1", "colour", "merchants.colour: unknown key, allowed here: id, name"),
        ("[[coupons]]", "[[coupon]]", "[[coupon]]", "coupon: unknown key, allowed here: "),
        ("name = \"Gadget blog\"", "name = 5", "name = 5", "publishers.name: an integer, a string is allowed"),
        ("id = 35", "id = 34", "id = 34\nname = \"New", "publishers.id: 34 stands twice"),
        ("id = 35", "id = 0", "id = 0", "publishers.id: 0, a whole number from 1 to 4294967295 is allowed"),
        ("id = 35", "id = 4294967296", "id = 42", "publishers.id: 4294967296, a whole number from 1"),
        ("id = 35", "", "[[publishers]]\n\nname = \"New", "publishers.id: missing"),
        ("status = \"pending\"", "status = \"new\"", "status = \"new\"", "publishers.status: unknown variant `new`"),
        ("status = \"active\"", "status = \"on\"", "status = \"on\"", "offers.status: unknown variant `on`"),
        ("merchant_id = 1", "merchant_id = 9", "merchant_id = 9", "offers.merchant_id: no merchant 9"),
        ("merchant_id = 1", "", "[[offers]]", "offers.merchant_id: missing"),
        ("stand_down = true", "stand_down = 1", "stand_down", "offers.stand_down: an integer, true or false"),
    ]);
    let text = format!("{EXAMPLE}\n[[offers]]\nmerchant_id = 1\nid = 12\n");
    let said = violations(load_text(&text));
    let line = text.lines().count();
    assert_eq!(said, format!("catalog.toml:{line}: offers.id: 12 stands twice, once is allowed"));
}

#[test]
fn p23_merchants() {
    let unit = "unit = \"rial\"";
    assert_refused(&[
        ("\"IRR\"", "\"IRT\"", "\"IRT\"", "merchants.currency: \"IRT\" is not an ISO 4217"),
        (unit, "unit = \"dinar\"", "unit =", "merchants.unit: unknown variant `dinar`, allowed: `rial` or `toman`"),
        ("\"IRR\"\nunit = \"rial\"", "\"EUR\"\nunit = \"toman\"", "unit =", "merchants.unit: \"toman\" is ten rials"),
        ("2bb80d53", "secret", "bearer_", "merchants.bearer_tokens_sha256: entry 1: not a SHA-256, 64 hex digits"),
        ("[]", "[\"10.0.0.0/99\"]", "allow_n", "merchants.allow_networks: entry 1: \"10.0.0.0/99\" is no network"),
        ("\"approved\", \"tr", "\"sold\", \"tr", "status_words", "merchants.status_words.confirmed: unknown variant"),
        ("\"trash\"", "\"Confirmed\"", "status_words", "merchants.status_words.confirmed: stands twice"),
        ("\"demo-shop.signing\"", "\"none\"", "signing_s", "merchants.signing_secrets_file: none: No such file"),
    ]);
    let home = Home::with(EXAMPLE);
    home.write("demo-shop.signing", "\n \n");
    assert!(violations(home.load("catalog.toml")).contains("demo-shop.signing: no secret in it"));
}

#[test]
fn p23_never_one_token_for_two_merchants() {
    let token = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    for key in ["bearer_tokens_sha256", "postback_tokens_sha256"] {
        let own = "ab".repeat(32);
        let text = format!("{EXAMPLE}\n[[merchants]]\nid = 2\ncurrency = \"EUR\"\n{key} = [\"{own}\", \"{token}\"]\n");
        let line = text.lines().count();
        let expected = format!("catalog.toml:{line}: merchants.{key}: entry 2: a token of merchant 1 too");
        let said = violations(load_text(&text));
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn p23_terms() {
    let dates = "from = 2026-12-18T00:00:00+03:30";
    let ends = "until = 2026-12-22T00:00:00+03:30";
    let sign_up = "type = \"signup\"";
    assert_refused(&[
        (dates, "from = 2025-01-01T00:00:00Z", "from = 2025", "offers.terms.from: not after the `from`"),
        (dates, "from = 2025-12-31T20:30:00Z", "from = 2025", "offers.terms.from: not after the `from`"),
        (dates, "", "[[offers.terms]]                  #", "offers.terms.from: missing"),
        (
            dates,
            "from = 2026-12-18",
            "from = 2026-12-18\n",
            "offers.terms.from: 2026-12-18, a date and time with an off",
        ),
        (ends, "until = 2026-12-18T00:00:00+03:30", "until =", "offers.terms.until: not after `from`"),
        ("model = \"last_click\"", "", "[[offers.terms]]", "offers.terms.model: missing, the first terms"),
        ("window_days = 10", "", "[[offers.terms]]", "offers.terms.window_days: missing, the first terms"),
        ("default_rate = \"12%\"", "", "[[offers.terms]]", "offers.terms.default_rate: missing, the first terms"),
        ("= 10\n", "= -1\n", "window_days", "offers.terms.window_days: -1, a whole number from 0 to 3650"),
        ("hold_days = 14", "hold_days = 1.5", "hold_days", "offers.terms.hold_days: a decimal number, a whole"),
        ("\"last_click\"", "\"best\"", "model =", "offers.terms.model: unknown variant `best`"),
        ("= \"conversion\"", "= \"sale\"", "rate_basis", "offers.terms.rate_basis: unknown variant `sale`"),
        ("\"12%\"\n", "\"112%\"\n", "default_rate", "offers.terms.default_rate: \"112%\": a rate is a percentage"),
        ("\"8%\"", "\"8.00001%\"", "coupon_rate", "offers.terms.coupon_rate: \"8.00001%\": a rate is"),
        ("\"2%\"", "\"-2%\"", "{ category = \"mobile\"", "offers.terms.rates.rate: \"-2%\": a rate is"),
        ("category = \"rice\"", "category = \"mobile\"", "rate = \"0%\"", "offers.terms.rates.category: stands twice"),
        (sign_up, "type = \"Sign-up\"", "type = \"S", "offers.terms.conversion_rates.type: \"Sign-up\", [a-z]"),
    ]);
}

#[test]
fn p23_pages_and_parameters() {
    let name = "click_id_parameter = \"click_id\"";
    assert_refused(&[
        ("= \"https://shop.example/?utm", "= \"http://shop.example/?utm", "landing_url", "offers.landing_url: "),
        ("={publisher_id}", "={publisher}", "landing_url", "offers.landing_url: "),
        ("\"https://shop.example/sold-out\"", "\"/gone\"", "fallback_url", "offers.fallback_url: \"/gone\" is no page"),
        ("\"https://shop.example/sold", "\"http://shop.example/sold", "fallback_url", "offers.fallback_url: \"http:"),
        ("\"*.shop.example\"", "\"10.0.0.1\"", "deep_link", "offers.deep_link_hosts: \"10.0.0.1\": "),
        (
            name,
            "click_id_parameter = \"afsrc\"",
            "click_id_parameter",
            "offers.click_id_parameter: \"afsrc\" is added by",
        ),
        (name, "click_id_parameter = \"a b\"", "click_id_parameter", "offers.click_id_parameter: \"a b\", 1-64 of"),
        ("{ aff_sub", "{ Click_ID", "extra_", "offers.extra_parameters.Click_ID: the click ID's parameter"),
        ("{ aff_sub", "{ gclid", "extra_", "offers.extra_parameters.gclid: \"gclid\" is added by Afflux"),
        ("{ aff_sub =", "{ a = \"1\", A =", "extra_", "offers.extra_parameters.a: stands twice"),
        ("\"{sub1}\"", "\"{sub11}\"", "extra_", "offers.extra_parameters.aff_sub: "),
    ]);
    let http = changed("allow_http = false", "allow_http = true").replace("https://shop", "http://shop");
    loaded(load_text(&http));
}

#[test]
fn p23_links_and_coupons() {
    let long = format!("code = \"{}\"", "x".repeat(65));
    let code = "code = \"phone\"";
    let coupon = "code = \"YALDA\"\noffer_id = 12";
    assert_refused(&[
        (code, "code = \"pho ne\"", "code = \"pho", "links.code: \"pho ne\", 1-64 of A-Z a-z 0-9 _ - are allowed"),
        (code, "code = \"\"", "code = \"\"", "links.code: \"\", 1-64 of"),
        (code, &long, "code = \"xx", "links.code: \"xx"),
        ("\"phone\"\noffer_id = 12", "\"p\"\noffer_id = 13", "offer_id = 13", "links.offer_id: no offer 13"),
        ("publisher_id = 34\nurl", "publisher_id = 9\nurl", "publisher_id = 9", "links.publisher_id: no publisher 9"),
        (
            "/p/1?color=black\"",
            "@other/\"",
            "url = \"https://shop.example@",
            "links.url: \"https://shop.example@other/\":",
        ),
        (coupon, "code = \"Y\"\noffer_id = 13", "offer_id = 13", "coupons.offer_id: no offer 13"),
        (coupon, "code = \" \"\noffer_id = 12", "code = \" \"", "coupons.code: empty or over 255 bytes"),
        ("34\npolicy", "36\npolicy", "publisher_id = 36", "coupons.publisher_id: no publisher 36"),
        ("\"if_no_click\"", "\"never\"", "policy =", "coupons.policy: unknown variant `never`"),
    ]);
    for reserved in ["click", "pixel", "healthz", "robots", "postback", "v1", "api", "metrics", "favicon"] {
        let said = violations(load_text(&changed("\"phone\"", &format!("\"{reserved}\""))));
        assert!(said.contains(&format!("links.code: \"{reserved}\" is a path of the edge's own")), "{said}");
    }
    loaded(load_text(&changed("\"phone\"", "\"Click\"")));
    let again = |what: &str| {
        let text = format!("{EXAMPLE}\n{what}");
        (text.lines().count(), violations(load_text(&text)))
    };
    let (line, said) = again("[[links]]\noffer_id = 12\npublisher_id = 34\ncode = \"phone\"");
    assert_eq!(said, format!("catalog.toml:{line}: links.code: \"phone\": this code stands twice, once is allowed"));
    let (line, said) = again("[[coupons]]\noffer_id = 12\npublisher_id = 35\npolicy = \"always\"\ncode = \" yaldA\"");
    assert!(said.starts_with(&format!("catalog.toml:{line}: coupons.code: \" yaldA\" stands twice")), "{said}");
}

#[test]
fn p21_all_violations_stand_together_in_the_order_of_the_file() {
    let text = EXAMPLE
        .replace("currency = \"IRR\"", "currency = \"X\"")
        .replace("status = \"pending\"", "status = 1")
        .replace("code = \"phone\"", "code = \"click\"")
        .replace("deep_link_hosts = [\"shop.example\"", "deep_link_hosts = [\":0\"")
        .replace("policy = \"if_no_click\"", "policy = \"\"");
    let said = violations(load_text(&text));
    let keys: Vec<_> = said.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    // The merchant, publisher and offer whose entries are wrong are still known to those that refer to them.
    let expected =
        ["merchants.currency", "offers.deep_link_hosts", "publishers.status", "links.code", "coupons.policy"];
    assert_eq!(keys, expected, "{said}");
}

#[test]
fn p3_one_fault_of_an_entry_hides_no_other() {
    let entries = "[[links]]\ncode = \"a\"\noffer_id = 99\npublisher_id = 98\n\
        [[links]]\ncode = \"a b\"\noffer_id = 97\npublisher_id = 34\n\
        [[links]]\ncode = \"a\"\noffer_id = 12\npublisher_id = 34\n\
        [[coupons]]\ncode = \"q\"\noffer_id = 96\npublisher_id = 95\npolicy = \"always\"\n\
        [[coupons]]\ncode = \"q\"\noffer_id = 12\npublisher_id = 34\npolicy = \"bad\"\n\
        [[coupons]]\ncode = \"Q\"\noffer_id = 12\npublisher_id = 34\npolicy = \"always\"\n";
    let said = violations(load_text(&format!("{EXAMPLE}\n{entries}")));
    let keys: Vec<_> = said.lines().map(|line| line.splitn(3, ": ").skip(1).collect::<Vec<_>>().join(": ")).collect();
    let expected = [
        "links.offer_id: no offer 99",
        "links.publisher_id: no publisher 98",
        "links.code: \"a b\", 1-64",
        "links.offer_id: no offer 97",
        "links.code: \"a\": this code stands twice",
        "coupons.offer_id: no offer 96",
        "coupons.publisher_id: no publisher 95",
        "coupons.policy: unknown variant",
        "coupons.code: \"Q\" stands twice",
    ];
    assert_eq!(keys.len(), expected.len(), "{said}");
    for (said, expected) in keys.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\nshould start\n{expected}");
    }
}

#[test]
fn p25_a_secrets_file_that_is_no_text_is_one_violation() {
    let home = Home::with(EXAMPLE);
    home.write("demo-shop.signing", [0xff, 0xfe]);
    let said = violations(home.load("catalog.toml"));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("merchants.signing_secrets_file: demo-shop.signing: "), "{said}");
}

#[test]
fn p3_a_syntax_error_stands_alone() {
    let said = violations(load_text(&changed("id = 12", "id = = 12")));
    assert_eq!(said.lines().count(), 1, "{said}");
    let line = EXAMPLE[..EXAMPLE.find("id = 12").unwrap()].matches('\n').count() + 1;
    assert!(said.starts_with(&format!("catalog.toml:{line}: not TOML: ")), "{said}");
    assert!(
        load(std::path::Path::new("/nowhere/c.toml")).err().unwrap().to_string().starts_with("/nowhere/c.toml:1: ")
    );
}

#[test]
fn the_hash_is_that_of_the_rules_alone() {
    let hash = |text: &str| loaded(load_text(text)).snapshot.hash;
    let running = hash(EXAMPLE);
    assert_eq!(running, hash(&changed("code = \"phone\"", "code = \"telephone\"")));
    assert_ne!(running, hash(&changed("default_rate = \"12%\"", "default_rate = \"11%\"")));
}
