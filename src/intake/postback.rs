//! `GET|POST /postback`: the dialect of trackers and shop modules (contract I27-I32). Parameters become the fields of a
//! report and go through the same checks; answers are text.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{OpenApi, Required};

use super::Intake;
use super::accept::{Submission, Verdict};
use super::conversions::refusal;
use super::json::{Members, Value};
use super::metrics::{Kind, Route};
use super::receive::{self, mark_replayed};
use super::report::{self, Rules};
use super::schema;
use crate::api::body::{self, WholeBody};
use crate::api::problem::TextRefusals;
use crate::api::{self, Fault, Problem};
use crate::catalog::Merchant;
use crate::catalog::rulebook::Unit;
use crate::event::MerchantStatus;
use crate::money::MinorUnits;

const FORM: &str = "application/x-www-form-urlencoded";

/// Names of a field; the first non-empty one counts.
const ORDER: &[&str] = &["order_id", "txid", "tid"];
const AMOUNT: &[&str] = &["amount", "payout", "sum"];
const TYPE: &[&str] = &["type", "goal", "event"];
const TOKENS: &[&str] = &["token", "secure", "verification_token"];
const OTHERS: &[&str] = &["click_id", "currency", "status", "coupon_code"];

/// Types whose conversions need no order number: one click is one of them (contract I31).
const ORDERLESS: [&str; 3] = ["lead", "signup", "install"];

/// 2^53 has 16 digits; more than this is refused before it is looked at.
const MAX_AMOUNT_CHARACTERS: usize = 32;

/// Report a conversion in the query
///
/// `OK <conversion_id>` means that it is on disk. Amounts are in major units. Errors are one line of text.
#[utoipa::path(
    get, path = "/postback", tag = "reporting",
    security(("bearer" = []), ("signature" = []), ()),
    params(schema::PostbackParameters),
    responses((status = 200, description = "`OK <conversion_id>`", body = String, content_type = "text/plain"), TextRefusals)
)]
pub async fn get_postback(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    answer(&intake, request).await
}

/// Report a conversion in a form
///
/// The form wins over the query. Errors are one line of text.
#[utoipa::path(
    post, path = "/postback", tag = "reporting",
    security(("bearer" = []), ("signature" = []), ()),
    params(schema::PostbackParameters),
    request_body(
        content = schema::PostbackParameters, content_type = "application/x-www-form-urlencoded",
        description = "The parameters as a form; may be absent"
    ),
    responses((status = 200, description = "`OK <conversion_id>`", body = String, content_type = "text/plain"), TextRefusals)
)]
pub async fn post_postback(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    answer(&intake, request).await
}

/// Everything may stand in the query; the document takes every body that it knows for a required one.
pub fn needs_no_form(document: &mut OpenApi) {
    let path = document.paths.paths.get_mut(api::POSTBACK);
    let post = path.and_then(|path| path.post.as_mut());
    if let Some(body) = post.and_then(|post| post.request_body.as_mut()) {
        body.required = Some(Required::False);
    }
}

async fn answer(intake: &Arc<Intake>, request: Request) -> Response {
    let started = Instant::now();
    let response = if request.method() == Method::HEAD {
        // The router serves HEAD by GET's handler; a HEAD must not report anything.
        Problem::method_not_allowed(Some(api::POSTBACK_METHODS)).into_response()
    } else {
        respond(intake, request).await.unwrap_or_else(Problem::into_text)
    };
    intake.metrics.answered(Route::Postback, response.status(), started.elapsed());
    response
}

async fn respond(intake: &Arc<Intake>, request: Request) -> Result<Response, Problem> {
    let submission = intake.read_postback(request).await?;
    let intake = intake.clone();
    receive::to_the_end(async move {
        let verdicts = intake.accept(std::slice::from_ref(&submission)).await?;
        let verdict = verdicts.into_iter().next().unwrap_or(Verdict::TooLarge);
        intake.metrics.judged(Kind::Conversion, Some(&verdict));
        let replayed = verdict == Verdict::Replayed;
        refusal(verdict).map_or(Ok(()), Err)?;
        let line = format!("OK {}\n", submission.conversion_id);
        let mut response = ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response();
        if replayed {
            mark_replayed(&mut response);
        }
        Ok(response)
    })
    .await
}

impl Intake {
    async fn read_postback(&self, request: Request) -> Result<Submission, Problem> {
        let (parts, body) = request.into_parts();
        body::check_declared_length(&parts.headers)?;
        let typed = parts.headers.contains_key(header::CONTENT_TYPE);
        let posted = parts.method == Method::POST;
        if posted && (typed || parts.headers.contains_key(header::CONTENT_ENCODING)) {
            body::require_media_type(&parts.headers, FORM)?;
        }
        let catalog = self.access.catalog();
        let mut proof = self.access.proof(&catalog, &parts.headers)?;
        let query = parameters(parts.uri.query().unwrap_or_default().as_bytes())?;
        for token in query.tokens() {
            proof.add_postback_token(token)?;
        }
        let body = if posted { self.bodies.read(body).await? } else { WholeBody::default() };
        if !typed && !body.bytes.is_empty() {
            body::require_media_type(&parts.headers, FORM)?;
        }
        let form = parameters(&body.bytes);
        for token in form.iter().flat_map(Parameters::tokens) {
            proof.add_postback_token(token)?;
        }
        let peer = api::peer(&parts.extensions);
        let merchant_id = receive::reporting_merchant(proof.caller(&body.bytes, peer)?)?;
        let merchant = catalog.merchant(merchant_id).ok_or_else(Problem::unauthorised)?;
        let sent = Postback { form: form?, query };
        let rules = Rules { factor: 1, ..self.rules(merchant, self.access.clock().now(), peer) };
        let submission = sent.check(&rules).map_err(Problem::unprocessable).and_then(Submission::conversion);
        submission.inspect_err(|_| self.metrics.judged(Kind::Conversion, None))
    }
}

struct Postback {
    form: Parameters,
    query: Parameters,
}

impl Postback {
    fn first(&self, names: &[&str]) -> Option<&str> {
        self.form.first(names).or_else(|| self.query.first(names))
    }

    fn check(&self, rules: &Rules<'_>) -> Result<report::Report, Vec<Fault>> {
        let mut faults = Vec::new();
        let kind = self.first(TYPE).unwrap_or("sale");
        let click_id = self.first(&["click_id"]);
        let order_id = self.first(ORDER).or(click_id.filter(|_| ORDERLESS.contains(&kind)));
        let mut members: Members<'_> = vec![("type".into(), Value::String(kind.into()))];
        let texts = [
            ("order_id", order_id),
            ("click_id", click_id),
            ("coupon_code", self.first(&["coupon_code"])),
            ("currency", self.first(&["currency"])),
        ];
        members.extend(texts.iter().filter_map(|(name, text)| Some(((*name).into(), Value::String((*text)?.into())))));
        if let Some(text) = self.first(AMOUNT) {
            let decimals = decimals(rules.merchant);
            match minor_units(text, decimals) {
                Some(amount) => members.push(("amount".into(), Value::Number(Cow::Owned(amount.to_string())))),
                None => {
                    faults.push(Fault::pointer("/amount", format!("must be digits with at most {decimals} decimals")));
                    // In place of it, so that its absence is no second fault.
                    members.push(("amount".into(), Value::Number("0".into())));
                }
            }
        }
        let original_status = self.first(&["status"]);
        let merchant_status = original_status.map(|word| status(word, rules.merchant));
        if merchant_status == Some(None) {
            faults
                .push(Fault::pointer("/status", "must be approved, pending, rejected or one of the merchant's words"));
        }
        let report = report::check(&members, rules);
        if !faults.is_empty() {
            faults.extend(report.err().into_iter().flatten());
            return Err(faults);
        }
        let mut report = report?;
        report.conversion.original_status = original_status.map(str::to_owned);
        report.conversion.merchant_status = merchant_status.flatten();
        Ok(report)
    }
}

/// The merchant's words first, then the three themselves; without case (contract I32).
fn status(word: &str, merchant: &Merchant) -> Option<MerchantStatus> {
    let word = word.to_lowercase();
    merchant.status_words.get(&word).copied().or(match word.as_str() {
        "approved" => Some(MerchantStatus::Approved),
        "pending" => Some(MerchantStatus::Pending),
        "rejected" => Some(MerchantStatus::Rejected),
        _ => None,
    })
}

/// Decimals of an amount in major units: a rial is a tenth of a toman.
fn decimals(merchant: &Merchant) -> usize {
    let of_currency = usize::from(merchant.rules.currency.decimals());
    of_currency + usize::from(merchant.rules.unit == Unit::Toman)
}

/// `12`, `12.5` or `12.50`: digits, a point between digits, and beyond the currency's decimals only zeros (contract I30).
fn minor_units(text: &str, decimals: usize) -> Option<MinorUnits> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits_only = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if text.len() > MAX_AMOUNT_CHARACTERS || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let (kept, beyond) = fraction.split_at(decimals.min(fraction.len()));
    if beyond.bytes().any(|b| b != b'0') {
        return None;
    }
    format!("{whole}{kept:0<decimals$}").parse().ok()
}

/// Known, non-empty parameters, in the order in which they stand.
#[derive(Default)]
struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// The first alias that is there, in the order of `names`.
    fn first(&self, names: &[&str]) -> Option<&str> {
        let found = names.iter().find_map(|name| self.0.iter().find(|(known, _)| known == name));
        found.map(|(_, value)| value.as_str())
    }

    /// All of them: a wrong one spoils a right one (contract I18).
    fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(name, _)| TOKENS.contains(name)).map(|(_, value)| value.as_str())
    }
}

/// Decodes `application/x-www-form-urlencoded`; unknown names are ignored. 400 for what is not UTF-8.
fn parameters(encoded: &[u8]) -> Result<Parameters, Problem> {
    let names = || [ORDER, AMOUNT, TYPE, TOKENS, OTHERS].into_iter().flatten();
    let known = |name: &str| names().find(|known| **known == name).copied();
    let mut parameters = Parameters::default();
    for pair in encoded.split(|b| *b == b'&') {
        let equals = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
        let Some(name) = decode(name).ok().as_deref().and_then(known) else { continue };
        let value = decode(value).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "a parameter is not UTF-8"))?;
        if !value.is_empty() {
            parameters.0.push((name, value));
        }
    }
    Ok(parameters)
}

fn decode(encoded: &[u8]) -> Result<String, std::string::FromUtf8Error> {
    let spaced: Vec<u8> = encoded.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    String::from_utf8(percent_encoding::percent_decode(&spaced).collect())
}
