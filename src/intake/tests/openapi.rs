//! The OpenAPI document says what the routes do.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::Value;

use super::shop::Shop;
use crate::intake::{fingerprint, report};

async fn document(shop: &Shop) -> Value {
    let answer = shop.get("/openapi.json").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

#[tokio::test]
async fn the_document_equals_the_routes() {
    let shop = Shop::open();
    let document = document(&shop).await;
    let mut documented = BTreeSet::new();
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH"];
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in methods {
            let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
            let answer = shop.ask(request.body(Body::empty()).unwrap()).await;
            let is_documented = item.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status.as_u16() != 405, is_documented, "{method} {path}: {}", answer.status);
            if is_documented {
                documented.insert(format!("{method} {path}"));
            }
        }
    }
    let routes = ["GET /openapi.json", "GET /postback", "POST /postback", "POST /v1/conversions", "POST /v1/refunds"];
    assert_eq!(documented, routes.map(String::from).into());
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere() {
    let document = document(&Shop::open()).await;
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn the_document_names_the_fields_that_are_read() {
    let document = document(&Shop::open()).await;
    let fields = |schema: &str| -> BTreeSet<String> {
        let properties = &document["components"]["schemas"][schema]["properties"];
        properties.as_object().unwrap_or_else(|| panic!("{schema}")).keys().cloned().collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(fields("ConversionRequest"), set(report::KNOWN));
    let refund = [fingerprint::REFUND, &["refund_id"]].concat();
    assert_eq!(fields("RefundRequest"), set(&refund));
    let compared = [fingerprint::CONVERSION, &["order_id", "type", "currency"]].concat();
    assert_eq!(set(&compared), set(report::KNOWN));
}

#[tokio::test]
async fn i29_postback_answers_in_text_and_takes_a_form() {
    let document = document(&Shop::open()).await;
    for method in ["get", "post"] {
        let answers = document["paths"]["/postback"][method]["responses"].as_object().unwrap();
        assert!(answers.contains_key("200") && answers.contains_key("401") && answers.contains_key("422"));
        for (status, answer) in answers {
            let types: Vec<_> = answer["content"].as_object().unwrap().keys().collect();
            assert_eq!(types, ["text/plain"], "{method} {status}");
        }
    }
    assert_eq!(document["paths"]["/postback"]["post"]["requestBody"]["required"], false);
    let form = &document["paths"]["/postback"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"];
    let reference = form["schema"]["$ref"].as_str().unwrap_or_else(|| panic!("{form}"));
    let fields = document.pointer(&format!("{}/properties", reference.trim_start_matches('#'))).unwrap();
    let parameters = document["paths"]["/postback"]["get"]["parameters"].as_array().unwrap();
    let named: BTreeSet<_> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    assert_eq!(fields.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), named);
}
