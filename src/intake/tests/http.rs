//! The order of checks, media types, sizes and the shape of errors (contract I21-I25).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use serde_json::json;

use super::shop::{Shop, post, sale};

/// A body that tells whether somebody looked at it.
struct Watched(Arc<AtomicBool>);

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.store(true, SeqCst);
        std::task::Poll::Ready(None)
    }
}

#[tokio::test]
async fn i21_checks_run_in_order_and_refusals_do_not_read_the_body() {
    let shop = Shop::open();
    let json = ("content-type", "application/json");
    let large = ("content-length", "1048577");
    let token = ("authorization", "Bearer secret");
    let wrong_token = ("authorization", "Bearer nope");
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16);
    let cases: &[Case] = &[
        ("POST", "/nowhere", &[large], 404),
        ("POST", "/v1", &[large], 404),
        ("DELETE", "/v1/conversions", &[large], 405),
        ("PUT", "/v1/refunds", &[large], 405),
        ("HEAD", "/postback?order_id=A&amount=5&token=p-secret", &[], 405),
        ("PUT", "/postback", &[large], 405),
        ("POST", "/v1/conversions", &[large, ("content-type", "text/plain"), wrong_token], 413),
        ("POST", "/v1/conversions", &[large, json, token, ("expect", "100-continue")], 413),
        ("POST", "/v1/conversions", &[("content-type", "text/plain"), wrong_token], 415),
        ("POST", "/v1/conversions", &[json, wrong_token], 401),
        ("POST", "/v1/conversions", &[json], 401),
        ("POST", "/v1/conversions", &[json, ("authorization", "Bearer operator")], 403),
        ("POST", "/v1/refunds", &[json, wrong_token], 401),
        ("POST", "/postback", &[large, json], 413),
        ("POST", "/postback", &[json], 415),
        ("POST", "/postback?token=nope", &[], 401),
        ("GET", "/postback?token=nope", &[], 401),
        ("GET", "/postback", &[], 401),
        ("GET", "/postback?token=p-secret", &[], 422),
    ];
    for (method, path, headers, status) in cases {
        let read = Arc::new(AtomicBool::new(false));
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(*path);
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let answer = shop.ask(request.body(Body::new(Watched(read.clone()))).unwrap()).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {headers:?}: {}", answer.body);
        assert!(!read.load(SeqCst), "{method} {path} {headers:?} read the body");
    }
    assert!(shop.disk.events().is_empty());
}

#[tokio::test]
async fn i27_postback_allows_get_and_post_alone() {
    let shop = Shop::open();
    for method in ["HEAD", "PUT", "DELETE"] {
        let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri("/postback");
        let answer = shop.ask(request.body(Body::empty()).unwrap()).await.expect(405);
        assert_eq!(answer.header("allow"), Some("GET, POST"), "{method}");
    }
    let answer = shop.ask(Request::delete("/v1/refunds").body(Body::empty()).unwrap()).await.expect(405);
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn i21_nobody_unknown_learns_about_the_body() {
    let shop = Shop::open();
    for body in ["{}", "not JSON", "{\"a\":1,\"a\":1}", ""] {
        shop.ask(post("/v1/conversions", "nope").body(Body::from(body)).unwrap()).await.expect(401);
        let signed = Request::post("/v1/conversions").header("content-type", "application/json");
        let signed = signed.header("afflux-signature", format!("t=1795329000,v1={}", "00".repeat(32)));
        shop.ask(signed.body(Body::from(body)).unwrap()).await.expect(401);
    }
}

#[tokio::test]
async fn i22_media_types_and_codings_that_are_taken() {
    for (media_type, coding, status) in [
        ("application/json", None, 202),
        ("Application/JSON", None, 202),
        ("application/json; charset=utf-8", None, 202),
        ("application/json;charset=UTF-8", None, 202),
        ("application/json; Charset=\"utf-8\"", Some("identity"), 202),
        ("application/json", Some("IDENTITY"), 202),
        ("application/json", Some("identity, gzip"), 415),
        ("application/json", Some("br"), 415),
        ("application/jsonx", None, 415),
        ("application/json, text/plain", None, 415),
        ("application/json; charset", None, 415),
        ("", None, 415),
    ] {
        let shop = Shop::open();
        let mut request = Request::post("/v1/conversions").header("authorization", "Bearer secret");
        request = request.header("content-type", media_type);
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        let answer = shop.ask(request.body(Body::from(sale("A").to_string())).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{media_type} {coding:?}");
    }
}

#[tokio::test]
async fn i23_a_body_of_exactly_one_mebibyte_is_read() {
    let shop = Shop::open();
    let mut body = sale("A").to_string();
    body.push_str(&" ".repeat(1_048_576 - body.len()));
    shop.post("/v1/conversions", body.clone()).await.expect(202);
    body.push(' ');
    shop.post("/v1/conversions", body).await.expect(413);
}

#[tokio::test]
async fn i25_errors_are_problems() {
    let shop = Shop::open();
    let not_found = shop.get("/v1/nothing").await.expect(404);
    assert_eq!(not_found.header("content-type"), Some("application/problem+json"));
    assert_eq!(
        not_found.json(),
        json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is nothing at this path"})
    );
    let not_allowed = shop.ask(Request::delete("/v1/refunds").body(Body::empty()).unwrap()).await.expect(405);
    assert_eq!(not_allowed.json()["status"], 405);
    assert_eq!(not_allowed.header("allow"), Some("POST"));
    let invalid = shop.post("/v1/conversions", r#"{"order_id":"A","type":"sale","amount":-1}"#).await.expect(422);
    assert_eq!(
        invalid.json(),
        json!({
            "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
            "detail": "the request is understood, but not valid",
            "errors": [{"pointer": "/amount", "detail": "must be an integer from 0 to 9007199254740991"}],
        })
    );
    let unauthorised = shop
        .ask(Request::post("/v1/refunds").header("content-type", "application/json").body(Body::empty()).unwrap())
        .await
        .expect(401);
    assert_eq!(unauthorised.header("www-authenticate"), Some("Bearer"));
    assert_eq!(unauthorised.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn e4_no_answer_of_the_api_is_for_a_cache() {
    let shop = Shop::open();
    let delete = Request::delete("/v1/refunds").body(Body::empty()).unwrap();
    let without_token = Request::post("/v1/refunds").body(Body::empty()).unwrap();
    for answer in [
        shop.report(&sale("A")).await.expect(202),
        shop.get("/openapi.json").await.expect(200),
        shop.get("/v1/nothing").await.expect(404),
        shop.ask(delete).await.expect(405),
        shop.ask(without_token).await.expect(415),
        shop.post("/v1/conversions", "{}").await.expect(422),
    ] {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{}", answer.json());
    }
    assert_eq!(crate::api::refused(crate::http::Refusal::Overloaded).headers()["cache-control"], "no-store");
}
