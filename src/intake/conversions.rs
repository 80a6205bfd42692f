//! `POST /v1/conversions`: one report or a batch (contract I1, I9-I13).

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Intake;
use super::accept::{self, Submission, Verdict};
use super::fingerprint;
use super::json::{Members, Value};
use super::metrics::{Kind, Route};
use super::order_index::MarkKey;
use super::receive::{self, Answer, Received};
use super::report::{self, Rules};
use super::schema;
use crate::api::problem::Refusals;
use crate::api::{Fault, Problem};

const MAX_BATCH: usize = 1_000;

/// Report one conversion, or up to 1,000 in a batch
///
/// 202 means that the report is on disk. The same report again gets the same answer with `Idempotency-Replayed: true`;
/// another content for a known order is 409.
#[utoipa::path(
    post, path = "/v1/conversions", tag = "reporting",
    security(("bearer" = []), ("signature" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body(content = schema::ConversionsBody, content_type = "application/json"),
    responses((status = 202, description = "On disk", body = schema::ConversionsAnswer), Refusals)
)]
pub async fn post_conversions(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let started = Instant::now();
    let response =
        respond(&intake, request).await.map_or_else(IntoResponse::into_response, IntoResponse::into_response);
    intake.metrics.answered(Route::Conversions, response.status(), started.elapsed());
    response
}

/// What a body asks for, checked.
enum Plan {
    One(Submission),
    Batch { about: MarkKey, items: Vec<Result<Submission, Problem>> },
}

async fn respond(intake: &Arc<Intake>, request: Request) -> Result<Answer, Problem> {
    let received = intake.receive(request).await?;
    let plan = intake.plan(&received)?;
    let key = received.key;
    let intake = intake.clone();
    receive::to_the_end(async move {
        match plan {
            Plan::One(submission) => intake.once(key, submission.key, false, intake.accept_one(&submission)).await,
            Plan::Batch { about, items } => intake.once(key, about, true, intake.accept_batch(items)).await,
        }
    })
    .await
}

impl Intake {
    fn plan(&self, received: &Received) -> Result<Plan, Problem> {
        let members = received.object()?;
        let rules = self.rules(received.merchant()?, received.received_at, received.peer);
        let sent = |name: &str| members.iter().any(|(known, value)| known == name && *value != Value::Null);
        if !sent("conversions") {
            return self.check(&members, &rules).map(Plan::One);
        }
        if sent("order_id") {
            let fault = Fault::pointer("", "either one conversion or a list `conversions`, not both");
            return Err(Problem::unprocessable(vec![fault]));
        }
        let items = match members.iter().find(|(name, _)| name == "conversions") {
            Some((_, Value::Array(items))) if (1..=MAX_BATCH).contains(&items.len()) => items,
            _ => {
                let fault = Fault::pointer("/conversions", "must be a list of 1 to 1,000 conversions");
                self.metrics.judged(Kind::Conversion, None);
                return Err(Problem::unprocessable(vec![fault]));
            }
        };
        let mut canonical = Vec::new();
        items.iter().for_each(|item| fingerprint::write_canonical(item, &mut canonical));
        let check = |item: &Value<'_>| match item {
            Value::Object(members) => self.check(members, &rules),
            _ => Err(receive::not_an_object()),
        };
        let about = MarkKey::batch(received.merchant_id, &canonical);
        Ok(Plan::Batch { about, items: items.iter().map(check).collect() })
    }

    fn check(&self, members: &Members<'_>, rules: &Rules<'_>) -> Result<Submission, Problem> {
        let report = report::check(members, rules).map_err(Problem::unprocessable);
        let submission = report.and_then(Submission::conversion);
        if submission.is_err() {
            self.metrics.judged(Kind::Conversion, None);
        }
        submission
    }

    async fn accept_one(&self, submission: &Submission) -> Result<Answer, Problem> {
        let verdicts = self.accept(std::slice::from_ref(submission)).await?;
        let verdict = verdicts.into_iter().next().unwrap_or(Verdict::TooLarge);
        self.metrics.judged(Kind::Conversion, Some(&verdict));
        let replayed = verdict == Verdict::Replayed;
        refusal(verdict).map_or(Ok(()), Err)?;
        let body = json!({"conversion_id": submission.conversion_id, "status": "accepted"}).to_string();
        Ok(Answer { body, replayed })
    }

    async fn accept_batch(&self, items: Vec<Result<Submission, Problem>>) -> Result<Answer, Problem> {
        let mut problems = Vec::with_capacity(items.len());
        let mut submissions = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Ok(submission) => {
                    submissions.push(submission);
                    problems.push(None);
                }
                Err(problem) => problems.push(Some(problem)),
            }
        }
        let verdicts = self.accept(&submissions).await?;
        verdicts.iter().for_each(|verdict| self.metrics.judged(Kind::Conversion, Some(verdict)));
        let mut judged = submissions.iter().zip(verdicts);
        let results: Vec<serde_json::Value> = problems
            .into_iter()
            .enumerate()
            .map(|(index, problem)| match problem.map_or_else(|| judged.next().ok_or_else(accept::too_large), Err) {
                Ok((submission, verdict)) => result(index, &submission.conversion_id, verdict),
                Err(problem) => rejected(index, &problem),
            })
            .collect();
        Ok(Answer { body: json!({"results": results}).to_string(), replayed: false })
    }
}

fn result(index: usize, conversion_id: &str, verdict: Verdict) -> serde_json::Value {
    let mut result = json!({"index": index, "status": "accepted", "conversion_id": conversion_id});
    if verdict == Verdict::Replayed {
        result["replayed"] = true.into();
    }
    match refusal(verdict) {
        Some(problem) => rejected(index, &problem),
        None => result,
    }
}

fn rejected(index: usize, problem: &Problem) -> serde_json::Value {
    json!({"index": index, "status": "rejected", "problem": problem})
}

/// The problem of a verdict that is none of a 202.
pub fn refusal(verdict: Verdict) -> Option<Problem> {
    match verdict {
        Verdict::Accepted | Verdict::Replayed => None,
        Verdict::TooLarge => Some(accept::too_large()),
        Verdict::Conflict { conversion_id, fields } => {
            let fault = |field| Fault::pointer(format!("/{field}"), "differs from what was reported first");
            let faults = fields.into_iter().map(fault).collect();
            Some(Problem::conflict("this was reported before with other content", faults, Some(conversion_id)))
        }
    }
}
