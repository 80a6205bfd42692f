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
use super::receive::{self, About, Answer, Received, Told};
use super::report::{self, Rules};
use super::schema;
use crate::api::problem::Refusals;
use crate::api::{Fault, Problem};
use crate::catalog::MerchantId;

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
    Batch(Vec<Result<Submission, Problem>>),
}

async fn respond(intake: &Arc<Intake>, request: Request) -> Result<Answer, Problem> {
    let received = intake.receive(request).await?;
    let (keyed, plan) = intake.plan(&received)?;
    let intake = intake.clone();
    receive::to_the_end(async move {
        match plan {
            Plan::One(submission) => intake.once(keyed, intake.accept_one(&submission)).await,
            Plan::Batch(items) => intake.once(keyed, intake.accept_batch(items)).await,
        }
    })
    .await
}

impl Intake {
    /// With what the `Idempotency-Key` is about, if there is one.
    fn plan(&self, received: &Received) -> Result<(Option<(MarkKey, About)>, Plan), Problem> {
        let members = received.object()?;
        let rules = self.rules(received.merchant()?, received.received_at, received.peer);
        let sent = |name: &str| members.iter().any(|(known, value)| known == name && *value != Value::Null);
        if !sent("conversions") {
            let submission = self.check(&members, &rules)?;
            let keyed = received.key.map(|key| (key, About::One(submission.key)));
            return Ok((keyed, Plan::One(submission)));
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
        let check = |item: &Value<'_>| match item {
            Value::Object(members) => self.check(members, &rules),
            _ => Err(receive::not_an_object()),
        };
        let checked: Vec<_> = items.iter().map(check).collect();
        let keyed = received.key.map(|key| (key, about(received.merchant_id, items, &checked)));
        Ok((keyed, Plan::Batch(checked)))
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

/// What a batch is compared by: each item that is right by what it says, any other by what was sent (contract I12, I13).
fn about(merchant_id: MerchantId, items: &[Value<'_>], checked: &[Result<Submission, Problem>]) -> About {
    let (mut sent, mut read, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (item, checked)) in items.iter().zip(checked).enumerate() {
        let from = sent.len();
        fingerprint::write_canonical(item, &mut sent);
        match checked {
            Ok(Submission { key, fingerprint, .. }) => {
                read.push(b'+');
                read.extend_from_slice(key.as_bytes());
                fingerprint.write_comparable(&mut read);
                reports.push(Told { index, key: *key, fingerprint: fingerprint.clone() });
            }
            Err(_) => {
                read.push(b'-');
                read.extend_from_slice(&sent[from..]);
            }
        }
    }
    About::Batch { body: MarkKey::batch(merchant_id, &sent, &read), reports }
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
