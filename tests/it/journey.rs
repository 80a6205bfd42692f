//! What the README promises a stranger: click, order, reason.

use serde_json::json;

use crate::rig::server::{OPERATOR, Start, TOKEN};
use crate::rig::{Client, Server, books};

fn get(api: &mut Client, target: &str) -> serde_json::Value {
    let authorization = format!("Bearer {TOKEN}");
    let response = api.get(target, &[("Authorization", &authorization)]);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()
}

fn wait_until_decided(api: &mut Client, order: &str) -> serde_json::Value {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let found = get(api, &format!("/v1/conversions?order_id={order}"));
        if let Some(conversion) = found["conversions"].as_array().and_then(|list| list.first())
            && conversion["outcome"] != "pending"
        {
            return conversion.clone();
        }
        assert!(std::time::Instant::now() < deadline, "{order} is not decided: {found}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_click_becomes_money_and_the_reason_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let (mut edge, mut api) = (server.edge(), server.api());

    let click = edge.get(
        "/phone?sub1=demo",
        &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")],
    );
    assert_eq!(click.status, 302);
    let location = click.header("location").unwrap();
    assert!(location.starts_with("https://shop.example/p/1?color=black&"), "{location}");
    assert_eq!(click.location_parameter("afsrc").as_deref(), Some("1"));
    assert_eq!(click.location_parameter("aff_sub").as_deref(), Some("demo"));

    let order = json!({"order_id": "A-1001", "type": "sale", "click_id": click.click_id(), "amount": 1_250_000});
    let posted = api.post_json("/v1/conversions", TOKEN, &order);
    assert_eq!(posted.status, 202, "{}", posted.text());
    let id = posted.json()["conversion_id"].as_str().unwrap().to_owned();

    let conversion = wait_until_decided(&mut api, "A-1001");
    assert_eq!(conversion["outcome"], "attributed", "{conversion}");
    assert_eq!(conversion["commission"], 150_000);
    assert_eq!(conversion["shares"][0]["publisher_id"], 34);
    assert_eq!(get(&mut api, &format!("/v1/conversions/{id}")), conversion);

    let refund = json!({"refund_id": "R-1", "order_id": "A-1001", "reason": "return", "amount": 250_000});
    assert_eq!(api.post_json("/v1/refunds", TOKEN, &refund).status, 202);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while get(&mut api, &format!("/v1/conversions/{id}"))["commission"] != 120_000 {
        assert!(std::time::Instant::now() < deadline, "the refund has no effect");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }

    for arguments in [&["explain", &id][..], &["explain", "--order", "1/A-1001"][..]] {
        let explained = server.run(arguments);
        let text = String::from_utf8(explained.stdout).unwrap();
        assert!(explained.status.success() && text.contains("34") && text.contains("120000"), "{text}");
    }
    let unknown = server.run(&["explain", "--order", "1/nobody-ordered-this"]);
    assert_eq!(unknown.status.code(), Some(1));

    books::assert_books_close(&server);
    let authorization = format!("Bearer {OPERATOR}");
    let report = api.get(
        "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=publisher,sub1",
        &[("Authorization", &authorization)],
    );
    let row = &report.json()["rows"][0];
    assert_eq!((&row["publisher"], &row["sub1"]), (&json!(34), &json!("demo")), "{row}");
    assert_eq!(
        (&row["clicks"], &row["commission"], &row["reversed"]),
        (&json!(1), &json!(120_000), &json!(30_000)),
        "{row}"
    );
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let click_id = server.edge().get("/phone", &[]).click_id();
    let order = json!({"order_id": "K-1", "type": "sale", "click_id": click_id, "amount": 1_000});
    assert_eq!(server.api().post_json("/v1/conversions", TOKEN, &order).status, 202);
    server.kill();

    let server = Server::start(home.path(), &Start::default());
    let conversion = wait_until_decided(&mut server.api(), "K-1");
    assert_eq!(conversion["commission"], 120, "{conversion}");
    let again = server.api().post_json("/v1/conversions", TOKEN, &order);
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    let events = books::spooled(&server);
    books::assert_chains_have_no_gap(&events);
    assert_eq!(books::click_ids(&events).get(&click_id), Some(&1));
    books::wait_for_report(&server, 1, 1, 10);
    books::assert_books_close(&server);
}
