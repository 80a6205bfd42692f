//! The API listener: what intake and the reports have in common.
//!
//! Who calls (`access`, `signature`, `rate`), how a body is read (`body`), how an error looks (`problem`), and the router
//! that both doors' routes are merged into, with the OpenAPI document that is made of the same routes.

pub mod access;
pub mod body;
#[cfg(any(test, fuzzing))]
pub mod probes;
pub mod problem;
mod rate;
mod signature;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Extension};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::{Access, Caller};
pub use problem::{Fault, Problem};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Where trackers report, and how (contract I27).
pub const POSTBACK: &str = "/postback";
pub const POSTBACK_METHODS: &str = "GET, POST";

/// The document's frame; the paths come from the routes themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Afflux",
        description = "Report conversions and refunds, read what became of them. Errors are RFC 9457 problems; \
                       amounts are integers in the currency's minor unit."
    ),
    components(schemas(problem::ProblemBody, problem::FaultBody)),
    modifiers(&Credentials)
)]
struct Frame;

struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let signature = ApiKeyValue::with_description(
            "Afflux-Signature",
            "`t=<unix>,v1=<hex>`: HMAC-SHA256 of `t.body` with a signing secret; with `Afflux-Merchant: <id>`",
        );
        components.add_security_scheme("signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    }
}

/// The whole API of the routes in `parts`: with `/openapi.json`, and with problems for unknown paths and methods
/// (contract I25).
pub fn router(parts: impl IntoIterator<Item = OpenApiRouter>) -> axum::Router {
    let whole = OpenApiRouter::with_openapi(Frame::openapi()).routes(routes!(openapi_document));
    let (router, document) = parts.into_iter().fold(whole, OpenApiRouter::merge).split_for_parts();
    // Only strings, numbers and maps with string keys: it serialises.
    let document: Arc<str> = document.to_json().unwrap_or_default().into();
    router
        .layer(Extension(document))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async |uri: Uri| Problem::method_not_allowed(allowed_at(uri.path())))
        .layer(axum::middleware::map_response(no_store))
}

/// No answer is for a cache (contract E4): what it says of money or of a fault is true for one caller at one moment.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// What the router would not say right by itself: it serves HEAD wherever it serves GET, but at `/postback` a GET reports.
fn allowed_at(path: &str) -> Option<&'static str> {
    (path == POSTBACK).then_some(POSTBACK_METHODS)
}

#[utoipa::path(
    get, path = "/openapi.json", tag = "about",
    responses((status = 200, description = "This document", content_type = "application/json"))
)]
async fn openapi_document(Extension(document): Extension<Arc<str>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

/// What the door refused before any route saw it: malformed HTTP, heads past their limits, too many connections.
pub fn refused(refusal: crate::http::Refusal) -> Response {
    let mut response = Problem::new(refusal.status(), refusal.detail()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The address that the listener's connection came from (contract I18); an IPv4-mapped one is IPv4.
pub fn peer(extensions: &axum::http::Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical())
}
