//! From a checked report to an answer: claim, look, append, fdatasync, mark (contract I6, I11-I16).
//!
//! Claims on orders are taken in rounds: a round waits for one claim while it holds none, takes what else is free, and
//! gives all of them up before the next round waits. So two batches of the same orders cannot block each other.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;

use super::Intake;
use super::fingerprint::Fingerprint;
use super::order_index::{Mark, MarkKey};
use super::refund::RefundReport;
use super::report::Report;
use crate::api::{Fault, Problem};
use crate::event::MerchantStatus;
use crate::spool::NotSpooled;

/// Serialised, without the number in the spool (contract I8).
const MAX_EVENT_BYTES: usize = 524_288;

/// A checked conversion or refund, ready to be written.
pub struct Submission {
    pub key: MarkKey,
    pub conversion_id: String,
    pub fingerprint: Fingerprint,
    status: Option<MerchantStatus>,
    event: &'static str,
    /// The event's JSON without its opening brace.
    fields: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On disk.
    Accepted,
    /// It was on disk before.
    Replayed,
    /// Known with other content: which fields, and the conversion ID of the first.
    Conflict {
        conversion_id: String,
        fields: Vec<&'static str>,
    },
    TooLarge,
}

impl Submission {
    pub fn conversion(report: Report) -> Result<Submission, Problem> {
        let conversion = &report.conversion;
        Ok(Submission {
            key: MarkKey::order(conversion.merchant_id, &conversion.order_id, &conversion.kind),
            conversion_id: conversion.conversion_id.clone(),
            status: conversion.merchant_status,
            event: "conversion",
            fields: render(conversion)?,
            fingerprint: report.fingerprint,
        })
    }

    pub fn refund(report: RefundReport) -> Result<Submission, Problem> {
        let refund = &report.refund;
        Ok(Submission {
            key: MarkKey::refund(refund.merchant_id, &refund.refund_id),
            conversion_id: refund.conversion_id.clone(),
            status: None,
            event: "refund",
            fields: render(refund)?,
            fingerprint: report.fingerprint,
        })
    }

    fn mark(&self) -> Mark {
        let hashes = self.fingerprint.hashes().to_vec();
        Mark { hashes, conversion_id: self.conversion_id.clone(), status: self.status }
    }
}

fn render(event: &impl Serialize) -> Result<String, Problem> {
    // Strings, numbers and maps with string keys: it serialises, and begins with a brace.
    let mut fields = serde_json::to_string(event).unwrap_or_default();
    if fields.len() > MAX_EVENT_BYTES {
        return Err(too_large());
    }
    fields.drain(..1);
    Ok(fields)
}

pub fn too_large() -> Problem {
    Problem::unprocessable(vec![Fault::pointer("", "serialised it has more than 524,288 bytes")])
}

/// The disk did not take it: nothing may be answered with 202.
fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the report could not be written to disk; send it again")
}

/// What one round found out about the submissions whose keys it claimed.
#[derive(Default)]
struct Round {
    verdicts: Vec<(usize, Verdict)>,
    marks: Vec<(MarkKey, Mark)>,
    last_seq: Option<u64>,
    /// The spool is full or failing.
    failed: bool,
}

impl Intake {
    /// Writes what is new and waits until it is on disk. One verdict per submission, in order; or 503 for all, though
    /// some may be on disk: sent again, those are replays.
    pub async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Verdict>, Problem> {
        let mut verdicts = vec![Verdict::TooLarge; submissions.len()];
        let mut open: BTreeMap<MarkKey, Vec<usize>> = BTreeMap::new();
        for (index, submission) in submissions.iter().enumerate() {
            open.entry(submission.key).or_default().push(index);
        }
        while let Some(first) = open.keys().next().copied() {
            let others = open.keys().copied().filter(|key| *key != first);
            let claimed = self.index.claim_free(first, others).await;
            let keys: Vec<MarkKey> = claimed.iter().map(|(key, _)| *key).collect();
            // Without the index every report counts as new (contract I15).
            let known = self.index.look(keys.clone()).await.unwrap_or_else(|| vec![None; keys.len()]);
            let mut round = Round::default();
            for (key, known) in keys.into_iter().zip(known) {
                for index in open.remove(&key).unwrap_or_default() {
                    self.judge(index, &submissions[index], known.as_ref(), &mut round);
                }
            }
            self.finish(round, &mut verdicts).await?;
        }
        Ok(verdicts)
    }

    /// Compares with what is durable or came before in this round, and appends what is new.
    fn judge(&self, index: usize, submission: &Submission, durable: Option<&Mark>, round: &mut Round) {
        let known = round.marks.last().filter(|(key, _)| *key == submission.key).map(|(_, mark)| mark).or(durable);
        let differing = known.and_then(|mark| submission.fingerprint.differing(&mark.hashes));
        let (verdict, mark) = match (known, differing) {
            (Some(mark), Some(fields)) if !fields.is_empty() => {
                (Verdict::Conflict { conversion_id: mark.conversion_id.clone(), fields }, None)
            }
            // A new status is a fact: the event is written again with it (contract M44), the answer is a replay's.
            (Some(mark), Some(_)) if submission.status.is_some_and(|status| mark.status != Some(status)) => {
                (Verdict::Replayed, Some(Mark { status: submission.status, ..mark.clone() }))
            }
            (Some(_), Some(_)) => (Verdict::Replayed, None),
            _ => (Verdict::Accepted, Some(submission.mark())),
        };
        let appended = match &mark {
            Some(_) if round.failed => return,
            Some(_) => self.log.append(submission.event, &submission.fields).map(Some),
            None => Ok(None),
        };
        match appended {
            Ok(None) => round.verdicts.push((index, verdict)),
            Ok(seq) => {
                round.last_seq = seq;
                round.marks.extend(mark.map(|mark| (submission.key, mark)));
                round.verdicts.push((index, verdict));
            }
            Err(NotSpooled::TooLarge(_)) => round.verdicts.push((index, Verdict::TooLarge)),
            Err(NotSpooled::Full | NotSpooled::Failing) => round.failed = true,
        }
    }

    /// Waits for the disk, then sets the marks: in this order, so that a mark always stands over an event.
    async fn finish(&self, round: Round, verdicts: &mut [Verdict]) -> Result<(), Problem> {
        if let Some(seq) = round.last_seq {
            self.log.on_disk(seq).await.map_err(|_| unavailable())?;
            self.index.remember(round.marks, self.access.clock().now()).await;
        }
        if round.failed {
            return Err(unavailable());
        }
        for (index, verdict) in round.verdicts {
            verdicts[index] = verdict;
        }
        Ok(())
    }
}
