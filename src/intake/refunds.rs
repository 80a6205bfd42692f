//! `POST /v1/refunds` (contract I37, I38).

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Intake;
use super::accept::{Submission, Verdict};
use super::conversions::refusal;
use super::metrics::{Kind, Route};
use super::receive::{self, About, Answer, Received};
use super::refund;
use super::schema;
use crate::api::Problem;
use crate::api::problem::Refusals;

/// Refund items, an amount or all of an order
///
/// 202 means that the refund is on disk, also when its order is not known yet. Its number makes it one refund: the same
/// again gets the same answer, another content is 409.
#[utoipa::path(
    post, path = "/v1/refunds", tag = "reporting",
    security(("bearer" = []), ("signature" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body(content = schema::RefundBody, content_type = "application/json"),
    responses((status = 202, description = "On disk", body = schema::RefundAnswer), Refusals)
)]
pub async fn post_refunds(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let started = Instant::now();
    let response =
        respond(&intake, request).await.map_or_else(IntoResponse::into_response, IntoResponse::into_response);
    intake.metrics.answered(Route::Refunds, response.status(), started.elapsed());
    response
}

async fn respond(intake: &Arc<Intake>, request: Request) -> Result<Answer, Problem> {
    let received = intake.receive(request).await?;
    let (refund_id, submission) = intake.refund(&received)?;
    let key = received.key;
    let intake = intake.clone();
    receive::to_the_end(async move {
        let keyed = key.map(|key| (key, About::One(submission.key)));
        intake.once(keyed, intake.accept_refund(refund_id, &submission)).await
    })
    .await
}

impl Intake {
    fn refund(&self, received: &Received) -> Result<(String, Submission), Problem> {
        let members = received.object()?;
        let rules = self.rules(received.merchant()?, received.received_at, received.peer);
        let report = refund::check(&members, &rules).map_err(|faults| {
            self.metrics.judged(Kind::Refund, None);
            Problem::unprocessable(faults)
        })?;
        Ok((report.refund.refund_id.clone(), Submission::refund(report)?))
    }

    async fn accept_refund(&self, refund_id: String, submission: &Submission) -> Result<Answer, Problem> {
        let verdicts = self.accept(std::slice::from_ref(submission)).await?;
        let verdict = verdicts.into_iter().next().unwrap_or(Verdict::TooLarge);
        self.metrics.judged(Kind::Refund, Some(&verdict));
        let replayed = verdict == Verdict::Replayed;
        refusal(verdict).map_or(Ok(()), Err)?;
        let conversion_id = &submission.conversion_id;
        let body = json!({"refund_id": refund_id, "conversion_id": conversion_id, "status": "accepted"});
        Ok(Answer { body: body.to_string(), replayed })
    }
}
