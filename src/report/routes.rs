//! `GET /v1/conversions/{id}`, `GET /v1/conversions?order_id=` and `GET /v1/reports/performance` (contract I39-I47).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::conversion::Answer;
use super::performance::{Frame, NotReported, Performance};
use super::query::{Format, Question};
use super::readers::{NotRead, Readers};
use super::schema;
use crate::api::problem::{ProblemBody, Refusals};
use crate::api::{self, Access, Caller, Fault, Problem};
use crate::catalog::{MerchantId, Snapshot};
use crate::event::ConversionIds;
use crate::metrics::{Counter, Page};
use crate::store::{Place, StoreError, View};

/// Look-ups at once; the rest waits, each on its own connection, and connections are bounded.
const MAX_LOOKUPS: usize = 8;

/// Reports at once: each reads much, and they must not keep the processor from clicks.
const MAX_REPORTS: usize = 2;

/// A report that takes longer is refused.
const MAX_REPORT_TIME: Duration = Duration::from_secs(30);

/// What the answers need.
pub struct Reports {
    access: Arc<Access>,
    ids: ConversionIds,
    readers: Arc<Readers>,
    zone: TimeZone,
    lookups: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    metrics: Metrics,
}

/// Several threads answer.
#[derive(Default)]
struct Metrics {
    lookups: Counter,
    reports: Counter,
    unavailable: Counter,
}

/// The routes and their part of the OpenAPI document, for `api::router`.
pub fn routes(reports: Arc<Reports>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(get_conversion))
        .routes(routes!(get_conversions))
        .routes(routes!(get_performance))
        .with_state(reports)
}

/// Read what became of a conversion
///
/// `outcome` is `pending` until it is decided, also for an ID whose 202 was answered a moment ago.
#[utoipa::path(
    get, path = "/v1/conversions/{conversion_id}", tag = "reading",
    security(("bearer" = []), ("signature" = [])),
    params(("conversion_id" = String, Path, description = "As the 202 gave it")),
    responses(
        (status = 200, description = "The conversion", body = schema::Conversion),
        (
            status = 404, description = "No ID of ours, or another merchant's",
            body = ProblemBody, content_type = "application/problem+json"
        ),
        Refusals
    )
)]
async fn get_conversion(
    State(reports): State<Arc<Reports>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (caller, _) = reports.caller(&request)?;
    reports.metrics.lookups.add_shared(1);
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "there is no such conversion");
    let id = path.ok().and_then(|path| reports.ids.verify(&path)).ok_or_else(unknown)?;
    if own_merchant(caller).is_some_and(|own| own != id.merchant_id()) {
        return Err(unknown());
    }
    let answer = reports.look(&reports.lookups, move |view| Answer::by_id(view, id)).await?;
    Ok(json(&answer.unwrap_or_else(|| Answer::unseen(id))))
}

/// Read all conversions of an order
#[utoipa::path(
    get, path = "/v1/conversions", tag = "reading",
    security(("bearer" = []), ("signature" = [])),
    params(("order_id" = String, Query, description = "Compared byte by byte")),
    responses((status = 200, description = "All types; none is an empty list", body = schema::Conversions), Refusals)
)]
async fn get_conversions(State(reports): State<Arc<Reports>>, request: Request) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List {
        conversions: Vec<Answer>,
    }
    let (caller, _) = reports.caller(&request)?;
    reports.metrics.lookups.add_shared(1);
    let order_id = query_pairs(&request).into_iter().find(|(name, value)| name == "order_id" && !value.is_empty());
    let missing = || Problem::unprocessable(vec![Fault::parameter("order_id", "is missing")]);
    let (_, order_id) = order_id.ok_or_else(missing)?;
    let merchant_id = own_merchant(caller);
    let found = reports.look(&reports.lookups, move |view| Answer::by_order(view, &order_id, merchant_id)).await?;
    Ok(json(&List { conversions: found.unwrap_or_default() }))
}

/// Report performance: clicks and money by what you ask for
///
/// Clicks are counted by quarter hours of UTC: a quarter hour that the range touches counts whole. So a `from` or `to`
/// that is no start of a quarter hour also counts clicks of up to 15 minutes before `from` or after `to`. Conversions and
/// money by `occurred_at`, to the millisecond. Amounts and commissions are net of refunds. A `day` is a date, an `hour` an RFC 3339
/// time, both in the configured time zone.
#[utoipa::path(
    get, path = "/v1/reports/performance", tag = "reading",
    security(("bearer" = []), ("signature" = [])),
    params(
        ("from" = String, Query, description = "Inclusive: a date, or RFC 3339"),
        ("to" = String, Query, description = "Exclusive: a date, or RFC 3339"),
        ("group_by" = Option<String>, Query, description = "A list of day hour merchant offer publisher link source \
            type coupon_code sub1 currency, separated by commas"),
        ("format" = Option<String>, Query, description = "`json` (default) or `csv`"),
    ),
    responses(
        (
            status = 200, description = "At most 100,000 rows",
            content((schema::Performance = "application/json"), (String = "text/csv"))
        ),
        Refusals
    )
)]
async fn get_performance(State(reports): State<Arc<Reports>>, request: Request) -> Result<Response, Problem> {
    let (caller, catalog) = reports.caller(&request)?;
    reports.metrics.reports.add_shared(1);
    let question = Question::read(&query_pairs(&request), &reports.zone).map_err(|wrong| {
        let fault = |wrong: super::query::Wrong| Fault::parameter(wrong.parameter, wrong.detail);
        Problem::unprocessable(wrong.into_iter().map(fault).collect())
    })?;
    let (zone, format) = (reports.zone.clone(), question.format);
    let empty = Performance::empty(&question);
    let look = move |view: View<'_>| {
        let currency_of = |id| catalog.merchant(id).map(|merchant| merchant.rules.currency);
        let frame = Frame {
            merchant_id: own_merchant(caller),
            zone: &zone,
            currency_of: &currency_of,
            deadline: Instant::now() + MAX_REPORT_TIME,
        };
        Performance::of(view, &question, &frame)
    };
    let report = reports.look(&reports.reports, look).await?.unwrap_or(empty);
    Ok(match format {
        Format::Json => typed("application/json", report.to_json()),
        Format::Csv => typed("text/csv; charset=utf-8", report.to_csv()),
    })
}

impl Reports {
    /// `connections`: most to the store at once.
    pub fn new(access: Arc<Access>, ids: ConversionIds, store: Place, connections: usize, zone: TimeZone) -> Reports {
        Reports {
            access,
            ids,
            readers: Arc::new(Readers::new(store, connections)),
            zone,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            reports: Arc::new(Semaphore::new(MAX_REPORTS)),
            metrics: Metrics::default(),
        }
    }

    pub fn write_metrics(&self, page: &mut Page) {
        for (name, help, counter) in [
            ("afflux_report_lookups_total", "Conversions asked for.", &self.metrics.lookups),
            ("afflux_report_reports_total", "Reports of performance asked for.", &self.metrics.reports),
            (
                "afflux_report_unavailable_total",
                "Questions that the store did not answer: 503.",
                &self.metrics.unavailable,
            ),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
    }

    fn caller(&self, request: &Request) -> Result<(Caller, Arc<Snapshot>), Problem> {
        let catalog = self.access.catalog();
        let headers: &HeaderMap = request.headers();
        let caller = self.access.caller(&catalog, headers, api::peer(request.extensions()))?;
        Ok((caller, catalog))
    }

    /// Looks at the store on a thread that may block. `None`: there is no store yet.
    async fn look<T, E>(
        &self,
        slots: &Arc<Semaphore>,
        look: impl FnOnce(View<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Option<T>, Problem>
    where
        T: Send + 'static,
        E: From<StoreError> + Into<NotReported> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        // The slots are never closed.
        let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| unavailable())?;
        let seen = tokio::task::spawn_blocking(move || {
            let seen = readers.read(look);
            // Held to here: a caller who is gone does not make room for another before the work is done.
            drop(slot);
            seen
        });
        let error = match seen.await {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(NotRead::Nothing)) => return Ok(None),
            Ok(Err(NotRead::Failed(error))) => match error.into() {
                NotReported::Store(error) => error.to_string(),
                too_much => {
                    let fault = Fault::parameter(too_much.parameter(), too_much.to_string());
                    return Err(Problem::unprocessable(vec![fault]));
                }
            },
            Ok(Err(NotRead::Open(error))) => error.to_string(),
            Ok(Err(NotRead::Busy)) => NotRead::<StoreError>::Busy.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.unavailable.add_shared(1);
        tracing::warn!(error, "the store did not answer a question");
        Err(unavailable())
    }
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer now")
}

/// Operators see all, a merchant its own (contract I20).
fn own_merchant(caller: Caller) -> Option<MerchantId> {
    match caller {
        Caller::Operator => None,
        Caller::Merchant(id) => Some(id),
    }
}

fn query_pairs(request: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect()
}

fn json(answer: &impl Serialize) -> Response {
    // Strings, numbers and lists of them under string keys: it serialises.
    typed("application/json", serde_json::to_string(answer).unwrap_or_default())
}

fn typed(media_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")], body).into_response()
}
