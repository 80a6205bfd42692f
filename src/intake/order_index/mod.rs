//! Intake's fast check: was this order, refund or key answered before, and with what content (contract I11-I16)?
//!
//! A *claim* is in memory and lasts while one request writes; followers wait for it. A *mark* is durable: it is set after
//! the event's fdatasync and before the answer, so a mark always stands over an event. A claim that dies with its process
//! leaves nothing: its order is as if never reported. All of it is a hint with good manners: lost or down, reports are
//! accepted, and the exact check at consumption decides.

mod claims;
mod database;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::{mpsc, oneshot};

pub use claims::Claim;
use claims::Claims;

use crate::catalog::MerchantId;
use crate::event::MerchantStatus;
use crate::metrics::Counter;
use crate::time::TimeMs;

/// Questions waiting for the thread; beyond it askers wait, and after `ANSWER_TIMEOUT` do without.
const QUEUE: usize = 1_024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// 128 bits of a SHA-256: what a claim or mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarkKey([u8; 16]);

/// The first report of an order, or of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Hashes per field (see `fingerprint`).
    pub hashes: Vec<u64>,
    pub conversion_id: String,
    /// The merchant's status as last received; not part of the content (contract I12).
    pub status: Option<MerchantStatus>,
}

/// An `Idempotency-Key` that was answered with 202.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMark {
    /// What it came with: an order, a refund or a whole batch.
    pub about: MarkKey,
    /// The answer to a batch; a single report's is told by its order's mark.
    pub answer: Option<String>,
}

pub struct OrderIndex {
    thread: mpsc::Sender<Question>,
    claims: Arc<Claims>,
    /// Questions that got no answer.
    pub unavailable: Counter,
}

enum Question {
    Look(Vec<MarkKey>, oneshot::Sender<Vec<Option<Mark>>>),
    Remember(Vec<(MarkKey, Mark)>, TimeMs, oneshot::Sender<()>),
    LookKey(MarkKey, oneshot::Sender<Option<KeyMark>>),
    RememberKey(MarkKey, KeyMark, TimeMs, oneshot::Sender<()>),
}

impl MarkKey {
    pub fn order(merchant_id: MerchantId, order_id: &str, kind: &str) -> MarkKey {
        MarkKey::hash("order", merchant_id, &[kind.as_bytes(), order_id.as_bytes()])
    }

    pub fn refund(merchant_id: MerchantId, refund_id: &str) -> MarkKey {
        MarkKey::hash("refund", merchant_id, &[refund_id.as_bytes()])
    }

    pub fn idempotency(merchant_id: MerchantId, path: &str, key: &str) -> MarkKey {
        MarkKey::hash("key", merchant_id, &[path.as_bytes(), key.as_bytes()])
    }

    /// Of a batch, half over its items as they were sent and half over what they say once they are read: a body that says
    /// the same in other words is the same, and so is one that was sent unchanged, even if what is allowed changed since.
    pub fn batch(merchant_id: MerchantId, sent: &[u8], read: &[u8]) -> MarkKey {
        let mut key = MarkKey::hash("batch", merchant_id, &[sent]);
        let of_read = MarkKey::hash("batch read", merchant_id, &[read]);
        key.0[8..].copy_from_slice(&of_read.0[..8]);
        key
    }

    /// Both of a batch: it was sent in the same words.
    pub fn is_sent_alike(&self, other: &MarkKey) -> bool {
        self.0[..8] == other.0[..8]
    }

    /// Both of a batch: it says the same, but for times that were left to us.
    pub fn is_read_alike(&self, other: &MarkKey) -> bool {
        self.0[8..] == other.0[8..]
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hash(what: &str, merchant_id: MerchantId, parts: &[&[u8]]) -> MarkKey {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&merchant_id.0.to_be_bytes());
        for part in [what.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&context.finish().as_ref()[..16]);
        MarkKey(key)
    }
}

impl OrderIndex {
    /// Starts the thread that owns the SQLite file. A file that cannot be opened is tried again later.
    pub fn start(path: PathBuf) -> std::io::Result<OrderIndex> {
        let (thread, questions) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("order-index".into()).spawn(move || database::run(&path, questions))?;
        Ok(OrderIndex { thread, claims: Arc::default(), unavailable: Counter::new() })
    }

    /// Waits until nobody else in this process writes about `key`. Ask for a second claim only where every asker of both
    /// asks in the same order.
    pub async fn claim(&self, key: MarkKey) -> Claim {
        self.claims.claim(key).await
    }

    pub fn try_claim(&self, key: MarkKey) -> Option<Claim> {
        self.claims.try_claim(key)
    }

    /// What is durable, in the order of `keys`; `None`: the index is down.
    pub async fn look(&self, keys: Vec<MarkKey>) -> Option<Vec<Option<Mark>>> {
        self.ask(|answer| Question::Look(keys, answer)).await
    }

    /// Makes marks durable against the end of this process.
    pub async fn remember(&self, marks: Vec<(MarkKey, Mark)>, now: TimeMs) {
        self.ask(|answer| Question::Remember(marks, now, answer)).await;
    }

    pub async fn look_key(&self, key: MarkKey) -> Option<KeyMark> {
        self.ask(|answer| Question::LookKey(key, answer)).await.flatten()
    }

    pub async fn remember_key(&self, key: MarkKey, mark: KeyMark, now: TimeMs) {
        self.ask(|answer| Question::RememberKey(key, mark, now, answer)).await;
    }

    async fn ask<A>(&self, question: impl FnOnce(oneshot::Sender<A>) -> Question) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.thread.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.ok().flatten();
        if answer.is_none() {
            self.unavailable.add_shared(1);
        }
        answer
    }
}
