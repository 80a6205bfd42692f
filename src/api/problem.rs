//! Errors as RFC 9457 problems (contract I25), or as one line of text where the caller is a tracker (I29).

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::{Serialize, SerializeMap, Serializer};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, ResponseBuilder, Schema};

/// Errors named in one problem; the rest is cut, so that a body of empty items cannot make an answer of 50 MiB.
pub const MAX_FAULTS: usize = 100;

/// How long a caller should wait after a 429 or 503.
const RETRY_AFTER_S: u32 = 1;

/// One wrong field or parameter, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: Place,
    detail: Cow<'static, str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// RFC 6901, from the body's (in a batch: the item's) root.
    Pointer(String),
    /// Of the query string.
    Parameter(&'static str),
}

/// An answer that is not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    faults: Vec<Fault>,
    conversion_id: Option<String>,
    allow: Option<&'static str>,
}

impl Fault {
    pub fn pointer(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault { place: Place::Pointer(pointer.into()), detail: detail.into() }
    }

    pub fn parameter(name: &'static str, detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault { place: Place::Parameter(name), detail: detail.into() }
    }

    fn place(&self) -> &str {
        match &self.place {
            Place::Pointer(pointer) => pointer.strip_prefix('/').unwrap_or(pointer),
            Place::Parameter(name) => name,
        }
    }
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, detail: detail.into(), faults: Vec::new(), conversion_id: None, allow: None }
    }

    /// 422 with at least one fault; at most `MAX_FAULTS` are told.
    pub fn unprocessable(mut faults: Vec<Fault>) -> Problem {
        faults.truncate(MAX_FAULTS);
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the request is understood, but not valid");
        Problem { faults, ..problem }
    }

    /// 409: the order, refund or key is known with another content.
    pub fn conflict(detail: &'static str, faults: Vec<Fault>, conversion_id: Option<String>) -> Problem {
        Problem { faults, conversion_id, ..Problem::new(StatusCode::CONFLICT, detail) }
    }

    /// 401, the same for every reason.
    pub fn unauthorised() -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "credentials are missing or wrong")
    }

    /// 405. The router adds `Allow` by itself where it refuses the method.
    pub fn method_not_allowed(allow: Option<&'static str>) -> Problem {
        Problem { allow, ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not know this method") }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The same answer as one line of `text/plain`.
    pub fn into_text(self) -> Response {
        let mut line = self.detail.clone().into_owned();
        for fault in &self.faults {
            line.push_str("; ");
            if !fault.place().is_empty() {
                line.push_str(fault.place());
                line.push_str(": ");
            }
            line.push_str(&fault.detail);
        }
        line.retain(|c| !c.is_control());
        line.push('\n');
        self.respond("text/plain; charset=utf-8", line)
    }

    fn respond(self, media_type: &'static str, body: String) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, media_type)], body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Strings and numbers only: it serialises.
        let body = serde_json::to_string(&self).unwrap_or_default();
        self.respond("application/problem+json", body)
    }
}

/// The refusals that every route may answer with, for the OpenAPI document.
pub struct Refusals;

/// The same as one line of text (contract I29).
pub struct TextRefusals;

impl utoipa::IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        refusals("application/problem+json", RefOr::Ref(Ref::from_schema_name("Problem")))
    }
}

impl utoipa::IntoResponses for TextRefusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let line = ObjectBuilder::new().schema_type(Type::String).description(Some("One line of reason")).build();
        refusals("text/plain", RefOr::T(line.into()))
    }
}

fn refusals(media_type: &str, schema: RefOr<Schema>) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let all = [
        ("400", "Not strict JSON, or a header that is not as it must be"),
        ("401", "Credentials are missing or wrong"),
        ("403", "The caller may not do this, or not from this network"),
        ("408", "The body did not arrive in time"),
        ("409", "Known with other content: the fields that differ are named"),
        ("413", "The body has more than 1,048,576 bytes"),
        ("415", "Not the media type that is wanted"),
        ("422", "Wrong fields, each named with what is allowed"),
        ("429", "Too many requests of this merchant"),
        ("503", "Nothing was answered for: send it again after `Retry-After`"),
    ];
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = |description: &str| {
        let response = ResponseBuilder::new().description(description);
        RefOr::T(response.content(media_type, content.clone()).build())
    };
    all.into_iter().map(|(status, description)| (status.to_owned(), response(description))).collect()
}

/// RFC 9457. `errors` stands on 409 and 422, `conversion_id` on a conflict with an earlier report.
#[derive(utoipa::ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "it only describes what `Problem` serialises to")]
pub struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    conversion_id: Option<String>,
    errors: Option<Vec<FaultBody>>,
}

/// `pointer` (RFC 6901) into a body, or the name of a query `parameter`.
#[derive(utoipa::ToSchema)]
#[schema(as = Fault)]
#[allow(dead_code, reason = "it only describes what `Fault` serialises to")]
pub struct FaultBody {
    pointer: Option<String>,
    parameter: Option<String>,
    detail: String,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "about:blank")?;
        map.serialize_entry("title", self.status.canonical_reason().unwrap_or("Error"))?;
        map.serialize_entry("status", &self.status.as_u16())?;
        map.serialize_entry("detail", &self.detail)?;
        if let Some(conversion_id) = &self.conversion_id {
            map.serialize_entry("conversion_id", conversion_id)?;
        }
        if matches!(self.status, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY) {
            map.serialize_entry("errors", &self.faults)?;
        }
        map.end()
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match &self.place {
            Place::Pointer(pointer) => map.serialize_entry("pointer", pointer)?,
            Place::Parameter(name) => map.serialize_entry("parameter", name)?,
        }
        map.serialize_entry("detail", &self.detail)?;
        map.end()
    }
}
