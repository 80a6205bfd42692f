//! Who may report, and how often (contract I18-I20, I26).

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use std::net::SocketAddr;

use super::shop::{Answer, NOW, Setup, Shop, merchant, post, sale, sha256, sign};

/// Merchants 1 and 2 have tokens and signing secrets, 3 has nothing at all, 4 may call from two networks.
fn shop() -> Shop {
    let mut merchants: Vec<_> = (1..=4).map(|id| merchant(id, &format!("secret-{id}"))).collect();
    merchants[0].signing_secrets = vec![b"new".to_vec(), b"old".to_vec()];
    merchants[1].signing_secrets = vec![b"second".to_vec()];
    merchants[1].bearer_tokens_sha256.push(sha256("secret-2b"));
    merchants[2].bearer_tokens_sha256.clear();
    merchants[2].postback_tokens_sha256.clear();
    merchants[3].allow_networks = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    Shop::with(Setup { merchants, ..Setup::default() })
}

fn now_s() -> i64 {
    NOW.0 / 1_000
}

async fn call(shop: &Shop, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::post("/v1/conversions").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    shop.ask(request.body(Body::from(sale("A").to_string())).unwrap()).await
}

#[tokio::test]
async fn i18_all_combinations_of_credentials() {
    let body = sale("A").to_string();
    let right = sign("new", now_s(), body.as_bytes());
    let older = sign("old", now_s(), body.as_bytes());
    let wrong = sign("no", now_s(), body.as_bytes());
    let second = sign("second", now_s(), body.as_bytes());
    let both = format!("{wrong},{}", older.split_once(',').unwrap().1);
    let (bearer, signature, id) = ("authorization", "afflux-signature", "afflux-merchant");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
    let cases: &[Case] = &[
        ("nothing", &[], 401),
        ("a right token", &[(bearer, "Bearer secret-1")], 202),
        ("the scheme in any case", &[(bearer, "bearer secret-1")], 202),
        ("a second token", &[(bearer, "Bearer secret-2b")], 202),
        ("a wrong token", &[(bearer, "Bearer nope")], 401),
        ("an empty token", &[(bearer, "Bearer ")], 401),
        ("no token", &[(bearer, "Bearer")], 401),
        ("another scheme", &[(bearer, "Basic secret-1")], 401),
        ("a postback token", &[(bearer, "Bearer p-secret-1")], 401),
        ("a token of a merchant without secrets", &[(bearer, "Bearer secret-3")], 401),
        ("two tokens", &[(bearer, "Bearer secret-1"), (bearer, "Bearer secret-1")], 401),
        ("a right signature", &[(signature, &right), (id, "1")], 202),
        ("with the older secret", &[(signature, &older), (id, "1")], 202),
        ("one of two v1", &[(signature, &both), (id, "1")], 202),
        ("a wrong signature", &[(signature, &wrong), (id, "1")], 401),
        ("a signature without a merchant", &[(signature, &right)], 401),
        ("a signature under another merchant", &[(signature, &right), (id, "2")], 401),
        ("a signature of a merchant without secrets", &[(signature, &right), (id, "3")], 401),
        ("a signature of nobody", &[(signature, &right), (id, "99")], 401),
        ("a merchant that is no number", &[(signature, &right), (id, "one")], 401),
        ("a malformed signature", &[(signature, "v1=00"), (id, "1")], 401),
        ("an empty signature", &[(signature, ""), (id, "1")], 401),
        ("both right", &[(bearer, "Bearer secret-1"), (signature, &right), (id, "1")], 202),
        ("a wrong signature beside a right token", &[(bearer, "Bearer secret-1"), (signature, &wrong), (id, "1")], 401),
        ("a wrong token beside a right signature", &[(bearer, "Bearer nope"), (signature, &right), (id, "1")], 401),
        ("right ones of two", &[(bearer, "Bearer secret-1"), (signature, &second), (id, "2")], 401),
        ("a token beside another merchant's name", &[(bearer, "Bearer secret-1"), (id, "2")], 401),
        ("a token beside its merchant's name", &[(bearer, "Bearer secret-1"), (id, "1")], 202),
        ("a name alone", &[(id, "1")], 401),
        ("an operator reports nothing", &[(bearer, "Bearer operator")], 403),
        ("an operator beside a merchant", &[(bearer, "Bearer operator"), (signature, &right), (id, "1")], 401),
    ];
    let shop = shop();
    for (what, headers, status) in cases {
        let answer = call(&shop, headers).await;
        assert_eq!(answer.status.as_u16(), *status, "{what}: {}", answer.body);
        assert_eq!(answer.header("www-authenticate").is_some(), *status == 401, "{what}");
    }
}

#[tokio::test]
async fn i18_the_network_is_asked_after_the_credentials() {
    let shop = shop();
    let from = |peer: &str, token: &str| {
        let mut request = post("/v1/conversions", token).body(Body::from(sale("A").to_string())).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        shop.ask(request)
    };
    for (peer, status) in [
        ("192.0.2.7:1", 202),
        ("[::ffff:192.0.2.7]:1", 202),
        ("[2001:db8::1]:1", 202),
        ("192.0.3.7:1", 403),
        ("[::1]:1", 403),
    ] {
        from(peer, "secret-4").await.expect(status);
    }
    from("192.0.3.7:1", "nope").await.expect(401);
    from("192.0.3.7:1", "secret-1").await.expect(202);
}

#[tokio::test]
async fn i18_a_signature_is_right_within_300_seconds() {
    let body = sale("A").to_string();
    for (offset, status) in [(-301, 401), (-300, 202), (300, 202), (301, 401)] {
        let signature = sign("new", now_s() + offset, body.as_bytes());
        call(&shop(), &[("afflux-signature", &signature), ("afflux-merchant", "1")]).await.expect(status);
    }
}

#[tokio::test]
async fn i18_the_only_merchant_that_signs_needs_no_name() {
    let mut only = merchant(1, "secret");
    only.signing_secrets = vec![b"new".to_vec()];
    let shop = Shop::with(Setup { merchants: vec![only, merchant(2, "other")], ..Setup::default() });
    let signature = sign("new", now_s(), sale("A").to_string().as_bytes());
    call(&shop, &[("afflux-signature", &signature)]).await.expect(202);
}

#[tokio::test]
async fn i19_a_get_signs_the_time_alone() {
    let shop = shop();
    let signature = sign("second", now_s(), b"");
    let get = |signature: &str| {
        let request = Request::get("/postback?order_id=A&amount=5").header("afflux-signature", signature);
        shop.ask(request.header("afflux-merchant", "2").body(Body::empty()).unwrap())
    };
    get(&signature).await.expect(200);
    get(&sign("second", now_s(), b"{}")).await.expect(401);
}

#[tokio::test]
async fn i20_a_reader_is_an_operator_or_a_merchant() {
    use crate::api::Caller;
    use crate::catalog::MerchantId;
    let shop = shop();
    let access = shop.intake.access();
    let catalog = access.catalog();
    let caller = |headers: &[(&str, &str)]| {
        let mut request = Request::get("/v1/conversions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        access.caller(&catalog, request.body(()).unwrap().headers(), None).map_err(|problem| problem.status().as_u16())
    };
    let signature = sign("new", now_s(), b"");
    assert_eq!(caller(&[("authorization", "Bearer operator")]), Ok(Caller::Operator));
    assert_eq!(caller(&[("authorization", "Bearer secret-2")]), Ok(Caller::Merchant(MerchantId(2))));
    assert_eq!(
        caller(&[("afflux-signature", &signature), ("afflux-merchant", "1")]),
        Ok(Caller::Merchant(MerchantId(1)))
    );
    assert_eq!(caller(&[]), Err(401));
    assert_eq!(caller(&[("authorization", "Bearer secret-4")]), Err(403));
}

#[tokio::test]
async fn i26_too_many_requests_of_one_merchant_are_429() {
    let setup = Setup { requests_per_merchant_s: std::num::NonZeroU32::new(2), ..Setup::default() };
    let shop = Shop::with(setup);
    shop.report(&sale("A")).await.expect(202);
    shop.report(&sale("B")).await.expect(202);
    let answer = shop.report(&sale("C")).await.expect(429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let other = post("/v1/conversions", "toman-secret").body(Body::from(sale("A").to_string())).unwrap();
    shop.ask(other).await.expect(202);
    call(&shop, &[("authorization", "Bearer nope")]).await.expect(401);
    shop.clock.advance(1_000);
    shop.report(&sale("C")).await.expect(202);
}
