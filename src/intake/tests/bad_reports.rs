//! The table of bad input, `tests/fixtures/bad_reports.json`: every row gets what it says, and leaves nothing behind.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::shop::{NOW, Setup, Shop, merchant, sale, sign};

#[derive(Deserialize)]
struct Row {
    rule: String,
    name: String,
    #[serde(default = "conversions")]
    path: String,
    #[serde(default = "secret")]
    merchant: String,
    change: Option<Map<String, Value>>,
    #[serde(default)]
    without: Vec<String>,
    body: Option<String>,
    generate: Option<String>,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    chunked: bool,
    signed_s: Option<i64>,
    signed_body: Option<String>,
    status: u16,
    pointers: Option<Vec<String>>,
}

fn conversions() -> String {
    "/v1/conversions".into()
}

fn secret() -> String {
    "secret".into()
}

impl Row {
    fn body(&self) -> Bytes {
        let mut report = if self.path == "/v1/refunds" {
            json!({"refund_id": "R-1", "order_id": "A-1", "reason": "return"})
        } else {
            sale("A-1")
        };
        if let Some(body) = &self.body {
            return body.clone().into();
        }
        if let Some(generate) = &self.generate {
            return generated(generate, self.count, report);
        }
        let fields = report.as_object_mut().unwrap();
        fields.retain(|name, _| !self.without.contains(name));
        fields.extend(self.change.clone().unwrap_or_default());
        report.to_string().into()
    }

    fn request(&self) -> Request<Body> {
        let body = self.body();
        let mut request = Request::post(&self.path).header("content-type", "application/json");
        match self.signed_s {
            None => request = request.header("authorization", format!("Bearer {}", self.merchant)),
            Some(offset_s) => {
                let signed = self.signed_body.as_ref().map_or(&body[..], |body| body.as_bytes());
                request = request
                    .header("afflux-signature", sign("signing", NOW.0 / 1_000 + offset_s, signed))
                    .header("afflux-merchant", "4");
            }
        }
        if !self.chunked {
            request = request.header("content-length", body.len());
        }
        let headers = request.headers_mut().unwrap();
        if self.generate.as_deref() == Some("key_of") {
            headers.insert("idempotency-key", HeaderValue::from_str(&"k".repeat(self.count)).unwrap());
        }
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.remove(&name);
            if let Some(value) = value.as_str() {
                headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = if self.chunked { Body::new(Chunks(chunks.into_iter())) } else { Body::from(body) };
        request.body(body).unwrap()
    }
}

fn generated(what: &str, count: usize, mut report: Value) -> Bytes {
    let many = |text: &str| text.repeat(count);
    match what {
        "invalid_utf8" => return Bytes::from_static(b"{\"order_id\":\"\xc3\x28\"}"),
        "invalid_utf8_unknown" => return Bytes::from_static(b"{\"x\":\"\xff\"}"),
        "nested" => return format!("{{\"x\":{}{}}}", "[".repeat(count - 1), "]".repeat(count - 1)).into(),
        "opened" => return many("[").into(),
        "spaces" => return many(" ").into(),
        "amount_of_digits" => return format!(r#"{{"order_id":"A","type":"sale","amount":{}}}"#, many("9")).into(),
        "order_of_bytes" => report["order_id"] = many("a").into(),
        "order_of_two_byte_characters" => report["order_id"] = many("ش").into(),
        "click_id_of" => report["click_id"] = many("a").into(),
        "items" => report["items"] = vec![json!({"quantity": 1, "unit_amount": 1}); count].into(),
        "sku_of" => report["items"] = json!([{"sku": many("a"), "quantity": 1, "unit_amount": 1_000_000}]),
        "unknown_of_bytes" => report["x"] = "a".repeat(count - r#"{"x":""}"#.len()).into(),
        "extra_of_bytes" => report["extra"] = json!({"x": "a".repeat(count - r#"{"x":""}"#.len())}),
        "batch" => report = json!({"conversions": vec![report; count]}),
        "key_of" => {}
        unknown => panic!("the table names {unknown:?}"),
    }
    report.to_string().into()
}

/// A body of several pieces and no declared length.
struct Chunks(std::vec::IntoIter<Result<Bytes, std::io::Error>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(self.0.next().map(|chunk| chunk.map(http_body::Frame::data)))
    }
}

#[tokio::test]
async fn i_every_bad_report_gets_what_the_table_says() {
    let mut setup = Setup::default();
    let mut signing = merchant(4, "signing-token");
    signing.signing_secrets = vec![b"signing".to_vec()];
    setup.merchants.push(signing);
    let shop = Shop::with(setup);
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../tests/fixtures/bad_reports.json")).unwrap();
    assert!(rows.len() > 150, "{} rows", rows.len());
    let mut failures = Vec::new();
    for row in rows.into_iter().filter(|row| row.get("about").is_none()) {
        let row: Row = serde_json::from_value(row).unwrap();
        let answer = shop.ask(row.request()).await;
        let problem = answer.json();
        let right = answer.status.as_u16() == row.status
            && answer.header("content-type") == Some("application/problem+json")
            && problem["status"] == row.status
            && ["type", "title", "detail"].iter().all(|name| problem[name].is_string())
            && problem.get("errors").map(|_| answer.pointers()) == row.pointers;
        if !right {
            failures.push(format!("{} {}: {}", row.rule, row.name, answer.body));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(shop.disk.raw(), Vec::<String>::new());
}
