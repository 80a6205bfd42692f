//! Whatever is sent: no panic, no 5xx, and 202 exactly when something was written or known. Proptest prints its seed.

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::shop::{Shop, post};

fn ask(shop: &Shop, request: Request<Body>) -> (u16, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let before = shop.disk.raw().len();
    let answer = runtime.block_on(shop.ask(request));
    (answer.status.as_u16(), shop.disk.raw().len() - before)
}

/// JSON near a report: known names with values of every kind.
fn near_report() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from)
    ];
    let word = prop_oneof![
        Just("sale"),
        Just("lead"),
        Just("IRR"),
        Just("return"),
        Just("2026-11-22T06:00:00Z"),
        Just("2026-11-22T06:00:60+23:59"),
        Just(""),
        Just("\u{0}"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        word.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (0_i64..3).prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("order_id"),
        Just("type"),
        Just("amount"),
        Just("currency"),
        Just("items"),
        Just("occurred_at"),
        Just("extra"),
        Just("quantity"),
        Just("unit_amount"),
        Just("discount"),
        Just("sku"),
        Just("refund_id"),
        Just("reason"),
        Just("conversions"),
        Just("checkout_started_at"),
        Just("visitor_id"),
        Just("other"),
    ];
    leaf.prop_recursive(4, 64, 12, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..12).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn i24_arbitrary_bytes_are_refused_politely(bytes in prop::collection::vec(any::<u8>(), 0..200), refund in any::<bool>()) {
        let shop = Shop::open();
        let path = if refund { "/v1/refunds" } else { "/v1/conversions" };
        let (status, written) = ask(&shop, post(path, "secret").body(Body::from(bytes)).unwrap());
        prop_assert!(matches!(status, 400 | 422), "{status}");
        prop_assert_eq!(written, 0);
    }

    #[test]
    fn i2_anything_near_a_report_is_taken_or_refused(mut report in near_report(), complete in any::<bool>(), refund in any::<bool>()) {
        let shop = Shop::open();
        if let (true, Some(fields)) = (complete, report.as_object_mut()) {
            fields.extend(json!({"order_id": "A", "type": "lead", "refund_id": "R", "reason": "fraud"}).as_object().unwrap().clone());
        }
        let path = if refund { "/v1/refunds" } else { "/v1/conversions" };
        let (status, written) = ask(&shop, post(path, "secret").body(Body::from(report.to_string())).unwrap());
        let batch = !refund && report.get("conversions").is_some_and(|conversions| !conversions.is_null());
        prop_assert!(matches!(status, 202 | 422), "{status}");
        prop_assert!(batch || written == usize::from(status == 202), "{status} {written}");
    }

    #[test]
    fn i27_any_query_and_form_is_taken_or_refused(
        query in "(order_id|tid|amount|sum|type|status|click_id|currency|token|)=[ -\"$-~]{0,12}(&(order_id|amount|status)=[0-9.a-z%]{0,6}){0,3}",
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let shop = Shop::open();
        let query: String = query.chars().filter(|c| !" \"<>\\^`{|}".contains(*c)).collect();
        let request = Request::post(format!("/postback?{query}")).header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("authorization", "Bearer secret").body(Body::from(body)).unwrap();
        let (status, written) = ask(&shop, request);
        prop_assert!(matches!(status, 200 | 400 | 401 | 422), "{status}");
        prop_assert_eq!(written, usize::from(status == 200));
    }

    #[test]
    fn i18_any_credentials_are_refused(authorization in "[ -~]{0,40}", signature in "(t=[0-9]{0,12},)?(v1=[0-9a-f]{0,70},?)*[ -~]{0,20}", id in "[0-9a-z]{0,12}") {
        let shop = Shop::open();
        let request = Request::post("/v1/conversions").header("content-type", "application/json");
        let request = request.header("authorization", authorization).header("afflux-signature", signature).header("afflux-merchant", id);
        let (status, _) = ask(&shop, request.body(Body::from("{}")).unwrap());
        prop_assert_eq!(status, 401);
    }
}
