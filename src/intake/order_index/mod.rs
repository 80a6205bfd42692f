//! Intake's fast check: was this order, refund or key answered before, and with what content (contract I11-I16)?
//!
//! A *claim* is in memory and lasts while one request writes; followers wait for it. A *mark* is durable: it is set after
//! the event's fdatasync and before the answer, so a mark always stands over an event. A claim that dies with its process
//! leaves nothing: its order is as if never reported. All of it is a hint with good manners: lost or down, reports are
//! accepted, and the exact check at consumption decides.
//!
//! Where several edges take reports, marks and claims are in Redis too. A claim of another edge is waited for a second at
//! most.

mod claims;
mod database;
mod server;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::sync::{mpsc, oneshot};

pub use claims::Claim;
use claims::Claims;

use crate::catalog::MerchantId;
use crate::event::MerchantStatus;
use crate::metrics::Counter;
use crate::redis::{Link, LinkMetrics, LinkSettings};
use crate::time::TimeMs;

/// Questions waiting for the thread; beyond it askers wait, and after `ANSWER_TIMEOUT` do without.
const QUEUE: usize = 1_024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long another edge's claim is waited for: far longer than an fdatasync takes. Beyond it we go on without, counted.
const CLAIM_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at it; twice as long each time.
const FIRST_LOOK_AGAIN: Duration = Duration::from_millis(4);
const LAST_LOOK_AGAIN: Duration = Duration::from_millis(64);

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

/// The name of the thread that answers.
pub const THREAD: &str = "order-index";

pub struct OrderIndex {
    thread: mpsc::Sender<Question>,
    claims: Arc<Claims>,
    /// In Redis: other edges write about the same orders.
    shared: Option<Tokens>,
    /// Questions that got no answer.
    pub unavailable: Counter,
    /// Claims of other edges that took too long to wait for.
    pub outwaited: Counter,
}

/// What claims of this process are known by.
struct Tokens {
    process: u64,
    next: AtomicU64,
}

/// Gives claims among edges up when it is dropped. Without room in the queue they are over after a minute by themselves.
pub struct Release {
    keys: Vec<MarkKey>,
    token: String,
    thread: mpsc::Sender<Question>,
}

enum Question {
    Look(Vec<MarkKey>, oneshot::Sender<Vec<Option<Mark>>>),
    Remember(Vec<(MarkKey, Mark)>, TimeMs, oneshot::Sender<()>),
    LookKey(MarkKey, oneshot::Sender<Option<KeyMark>>),
    RememberKey(MarkKey, KeyMark, TimeMs, oneshot::Sender<()>),
    /// Which of the keys are ours now, by a token.
    Claim(Vec<MarkKey>, String, oneshot::Sender<Vec<bool>>),
    Release(Vec<MarkKey>, String),
}

impl Drop for Release {
    fn drop(&mut self) {
        let question = Question::Release(std::mem::take(&mut self.keys), std::mem::take(&mut self.token));
        let _ = self.thread.try_send(question);
    }
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
        std::thread::Builder::new().name(THREAD.into()).spawn(move || database::run(&path, questions))?;
        Ok(OrderIndex::of(thread, None))
    }

    /// Starts the thread that speaks to Redis. It connects when the first question comes.
    pub fn start_redis(settings: LinkSettings, metrics: Arc<LinkMetrics>) -> std::io::Result<OrderIndex> {
        let (thread, questions) = mpsc::channel(QUEUE);
        let link = Link::new(settings.with_timeout(server::TIMEOUT), metrics, "orders");
        std::thread::Builder::new().name(THREAD.into()).spawn(move || server::run(link, questions))?;
        let process = std::hash::RandomState::new().build_hasher().finish();
        Ok(OrderIndex::of(thread, Some(Tokens { process, next: AtomicU64::new(0) })))
    }

    /// Its thread has ended, which it does by a panic alone while it is held.
    pub fn is_lost(&self) -> bool {
        self.thread.is_closed()
    }

    fn of(thread: mpsc::Sender<Question>, shared: Option<Tokens>) -> OrderIndex {
        let (unavailable, outwaited) = (Counter::new(), Counter::new());
        OrderIndex { thread, claims: Arc::default(), shared, unavailable, outwaited }
    }

    /// Waits until nobody else in this process writes about `key`, and nobody of another edge as far as that is known. Ask
    /// for a second claim only where every asker of both asks in the same order.
    pub async fn claim(&self, key: MarkKey) -> Claim {
        let claim = self.claims.claim(key).await;
        let Some(release) = self.release(vec![key]) else { return claim };
        let wait = self.claim_among_edges(&release);
        if tokio::time::timeout(CLAIM_WAIT, wait).await.is_err() {
            self.outwaited.add_shared(1);
        }
        claim.with(&release)
    }

    /// Waits for the claim on `first`, then takes what is free of the others.
    pub async fn claim_free(&self, first: MarkKey, others: impl Iterator<Item = MarkKey>) -> Vec<(MarkKey, Claim)> {
        let mut claimed = vec![(first, self.claim(first).await)];
        let free: Vec<_> = others.filter_map(|key| Some((key, self.claims.try_claim(key)?))).collect();
        let Some(release) = self.release(free.iter().map(|(key, _)| *key).collect()) else {
            claimed.extend(free);
            return claimed;
        };
        let ours = self.ask_claims(&release).await;
        // Without an answer all of them count as ours: the exact check decides.
        let is_ours = |place: usize| ours.as_ref().and_then(|ours| ours.get(place)).is_none_or(|ours| *ours);
        let free = free.into_iter().enumerate().filter(|(place, _)| is_ours(*place));
        claimed.extend(free.map(|(_, (key, claim))| (key, claim.with(&release))));
        claimed
    }

    /// Until it is ours, or Redis does not answer.
    async fn claim_among_edges(&self, release: &Release) {
        let mut pause = FIRST_LOOK_AGAIN;
        while self.ask_claims(release).await.is_some_and(|ours| ours != [true]) {
            tokio::time::sleep(pause).await;
            pause = LAST_LOOK_AGAIN.min(pause * 2);
        }
    }

    async fn ask_claims(&self, release: &Release) -> Option<Vec<bool>> {
        let (keys, token) = (release.keys.clone(), release.token.clone());
        self.ask(|answer| Question::Claim(keys, token, answer)).await
    }

    /// Made before the claims are asked for: an answer may be lost. `None` where there is nobody to ask, or nothing.
    fn release(&self, keys: Vec<MarkKey>) -> Option<Arc<Release>> {
        let Tokens { process, next } = self.shared.as_ref().filter(|_| !keys.is_empty())?;
        let token = format!("{process:016x}{:x}", next.fetch_add(1, Relaxed));
        Some(Arc::new(Release { keys, token, thread: self.thread.clone() }))
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
