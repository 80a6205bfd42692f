//! Trackers and shop modules (contract I27-I32).

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::shop::{Answer, Shop, sale};

async fn form(shop: &Shop, query: &str, body: &str) -> Answer {
    let request =
        Request::post(format!("/postback?{query}")).header("content-type", "application/x-www-form-urlencoded");
    shop.ask(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn i27_a_get_becomes_a_conversion() {
    let shop = Shop::open();
    let query = "click_id=c%2d1&order_id=A+%D8%B4&amount=1250000&currency=IRR&status=Confirmed&type=sale\
                 &coupon_code=YALDA&token=p-secret&unknown=x&sub1=y";
    let answer = shop.get(&format!("/postback?{query}")).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let event = shop.event();
    assert_eq!(answer.body, format!("OK {}\n", event["conversion_id"].as_str().unwrap()));
    for (name, value) in [
        ("click_id", json!("c-1")),
        ("order_id", json!("A ش")),
        ("type", json!("sale")),
        ("amount", json!(1_250_000)),
        ("currency", json!("IRR")),
        ("coupon_code", json!("YALDA")),
        ("original_status", json!("Confirmed")),
        ("merchant_status", json!("approved")),
        ("source_ip", json!("192.0.2.7")),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event.get("extra"), None);
}

#[tokio::test]
async fn i27_of_several_names_the_first_non_empty_counts() {
    for (query, order, amount, kind) in [
        ("order_id=A&txid=B&tid=C&amount=1&payout=2&sum=3&type=lead&goal=signup&event=install", "A", 1, "lead"),
        ("tid=C&txid=B&order_id=&sum=3&payout=2&amount=&event=install&goal=signup&type=", "B", 2, "signup"),
        ("tid=C&sum=3&event=install", "C", 3, "install"),
        ("order_id=&order_id=D&order_id=E&sum=3", "D", 3, "sale"),
    ] {
        let shop = Shop::open();
        shop.get(&format!("/postback?token=p-secret&{query}")).await.expect(200);
        let event = shop.event();
        assert_eq!(
            (&event["order_id"], &event["amount"], &event["type"]),
            (&json!(order), &json!(amount), &json!(kind))
        );
    }
}

#[tokio::test]
async fn i27_the_form_wins_over_the_query() {
    let shop = Shop::open();
    form(&shop, "order_id=A&amount=1&click_id=c&token=p-secret", "txid=B&amount=2&click_id=").await.expect(200);
    let event = shop.event();
    assert_eq!((&event["order_id"], &event["amount"], &event["click_id"]), (&json!("B"), &json!(2), &json!("c")));
}

#[tokio::test]
async fn i27_media_types_of_a_post() {
    let shop = Shop::open();
    for (media_type, body, status) in [
        (Some("application/x-www-form-urlencoded; charset=utf-8"), "order_id=A&amount=5&token=p-secret", 200),
        (Some("application/json"), "{}", 415),
        (Some("application/json"), "", 415),
        (Some("multipart/form-data; boundary=x"), "--x", 415),
        (None, "order_id=A&amount=5&token=p-secret", 415),
    ] {
        let mut request = Request::post("/postback");
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let answer = shop.ask(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{media_type:?} {body}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let bare = Request::post("/postback?order_id=B&amount=5&token=p-secret").body(Body::empty()).unwrap();
    shop.ask(bare).await.expect(200);
}

#[tokio::test]
async fn i28_every_credential_must_be_right() {
    let shop = Shop::open();
    let good = "order_id=A&amount=5";
    for (query, body, bearer, status) in [
        ("token=p-secret", "", None, 200),
        ("secure=p-secret", "", None, 200),
        ("verification_token=p-secret", "", None, 200),
        ("", "token=p-secret", None, 200),
        ("", "", Some("secret"), 200),
        ("token=p-secret", "", Some("secret"), 200),
        ("token=p-secret&secure=", "", None, 200),
        ("", "", None, 401),
        ("token=", "", None, 401),
        ("token=secret", "", None, 401),
        ("token=nope", "", None, 401),
        ("token=p-secret&secure=nope", "", None, 401),
        ("token=nope", "token=p-secret", None, 401),
        ("token=p-secret", "token=nope", None, 401),
        ("token=p-secret", "", Some("nope"), 401),
        ("token=nope", "", Some("secret"), 401),
        ("token=p-secret", "token=p-toman-secret", None, 401),
        ("token=p-toman-secret", "", Some("secret"), 401),
        ("", "", Some("operator"), 403),
    ] {
        let mut request = Request::post(format!("/postback?{good}&{query}"));
        request = request.header("content-type", "application/x-www-form-urlencoded");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let answer = shop.ask(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{query} {body} {bearer:?}: {}", answer.body);
        if status == 401 {
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

#[tokio::test]
async fn i29_a_replay_answers_the_same_and_a_conflict_409() {
    let shop = Shop::open();
    let first = shop.get("/postback?order_id=A&amount=5&token=p-secret").await.expect(200);
    let again = shop.get("/postback?order_id=A&amount=5.0&token=p-secret").await.expect(200);
    assert_eq!((&first.body, again.is_replay()), (&again.body, true));
    let conflict = shop.get("/postback?order_id=A&amount=6&token=p-secret").await.expect(409);
    assert_eq!(
        conflict.body,
        "this was reported before with other content; amount: differs from what was reported first\n"
    );
    // By API the same content is the same report.
    let mut report = sale("A");
    report["amount"] = 5.into();
    report["click_id"] = json!(null);
    assert!(shop.report(&report).await.expect(202).is_replay());
    assert_eq!(shop.disk.events().len(), 1);
}

#[tokio::test]
async fn i29_errors_are_one_line() {
    let shop = Shop::open();
    for (path, status) in [
        ("/postback?token=p-secret&amount=x&order_id=%0A&status=what&type=no&currency=EUR", 422),
        ("/postback?token=p-secret&order_id=%ff", 400),
        ("/postback?order_id=A", 401),
    ] {
        let answer = shop.get(path).await.expect(status);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.body.ends_with('\n') && answer.body.lines().count() == 1, "{:?}", answer.body);
    }
    shop.disk.fail(true);
    let answer = shop.get("/postback?token=p-secret&order_id=A&amount=1").await.expect(503);
    assert_eq!((answer.header("retry-after"), answer.body.lines().count()), (Some("1"), 1));
}

#[tokio::test]
async fn i30_amounts_are_in_major_units() {
    for (merchant, amount, minor) in [
        ("secret", "12", Some(12_i64)),
        ("secret", "12.00", Some(12)),
        ("secret", "0", Some(0)),
        ("secret", "0012", Some(12)),
        ("secret", "9007199254740991", Some(9_007_199_254_740_991)),
        ("secret", "9007199254740992", None),
        ("secret", "99999999999999999999", None),
        ("secret", "12.50", None),
        ("secret", "1,000", None),
        ("secret", "%2B5", None),
        ("secret", "-5", None),
        ("secret", "1e3", None),
        ("secret", "+5", None),
        ("secret", ".5", None),
        ("secret", "5.", None),
        ("secret", "1.2.3", None),
        ("secret", "۱۲", None),
        ("secret", "NaN", None),
        ("toman-secret", "12.5", Some(125)),
        ("toman-secret", "12", Some(120)),
        ("toman-secret", "12.50", Some(125)),
        ("toman-secret", "12.55", None),
        ("toman-secret", "900719925474099.1", Some(9_007_199_254_740_991)),
        ("euro-secret", "12", Some(1_200)),
        ("euro-secret", "12.5", Some(1_250)),
        ("euro-secret", "12.345", None),
        ("euro-secret", "12.340", Some(1_234)),
    ] {
        let shop = Shop::open();
        let answer = shop.get(&format!("/postback?order_id=A&token=p-{merchant}&amount={amount}")).await;
        match minor {
            Some(minor) => {
                answer.expect(200);
                assert_eq!(shop.event()["amount"], minor, "{merchant} {amount}");
            }
            None => assert!(answer.expect(422).body.contains("amount: "), "{merchant} {amount}"),
        }
    }
}

#[tokio::test]
async fn i31_the_click_stands_in_for_a_missing_order() {
    for (query, order) in [
        ("type=lead&click_id=c", Some("c")),
        ("type=signup&click_id=c", Some("c")),
        ("goal=install&click_id=c", Some("c")),
        ("type=lead&click_id=c&tid=T", Some("T")),
        ("type=lead", None),
        ("click_id=c&amount=1", None),
        ("type=sale&click_id=c&amount=1", None),
        ("type=first_order&click_id=c", None),
        ("order_id=A", None),
    ] {
        let shop = Shop::open();
        let answer = shop.get(&format!("/postback?token=p-secret&{query}")).await;
        match order {
            Some(order) => {
                answer.expect(200);
                assert_eq!(shop.event()["order_id"], order);
            }
            None => drop(answer.expect(422)),
        }
    }
}

#[tokio::test]
async fn i32_status_words_are_mapped_without_case() {
    for (word, status) in [
        ("confirmed", Some("approved")),
        ("CONFIRMED", Some("approved")),
        ("Trash", Some("rejected")),
        ("pending", Some("pending")),
        ("Approved", Some("approved")),
        ("rejected", Some("rejected")),
        ("cancelled", None),
        ("0", None),
    ] {
        let shop = Shop::open();
        let answer = shop.get(&format!("/postback?token=p-secret&order_id=A&amount=1&status={word}")).await;
        match status {
            Some(status) => {
                answer.expect(200);
                let event = shop.event();
                assert_eq!((&event["merchant_status"], &event["original_status"]), (&json!(status), &json!(word)));
            }
            None => assert!(answer.expect(422).body.contains("status: ")),
        }
    }
}
