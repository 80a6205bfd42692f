//! `afflux attribution`: from Kafka's topics to the books in PostgreSQL, by touches in Redis; any number of copies.
//!
//! Kafka, Redis and PostgreSQL may be down at the start and at any time: it waits, and goes on where the store says.
//! Threads: one applies clicks and conversions, one keeps the touch index up, one decides what waited for it, one tells
//! decisions to Kafka, one watches the catalog, and the one that called runs admin and signals.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::base::{Base, KeysFrom};
use super::certificates::TlsOfDoors;
use super::cluster::required;
use super::shipping::random;
use super::signals::Signals;
use super::succession::Arrival;
use super::threads::{Lost, Threads};
use super::{Exit, Failure, configured, doors, links, logging, observed, place, running};
use crate::admin::Admin;
use crate::attribution::consumer::shared::{Layout, Sharing};
use crate::attribution::consumer::{self, AttributionMetrics, DeciderParts, Parts, WaitingMetrics, decide, kept_ms};
use crate::attribution::topics::{
    IndexerMetrics, IndexerParts, Message, OutboxMetrics, OutboxParts, RedisAndKafka, TopicMetrics, TopicSource, index,
    tell,
};
use crate::handover::DoorName;
use crate::kafka::Cluster;
use crate::kafka::producer::ProducerMetrics;
use crate::redis::{Link, LinkMetrics, LinkSettings};
use crate::report::Answer;
use crate::store::{Place, StoreError, Told, View};
use crate::touch::shared::{Kept, SharedTouches, SharedTouchesMetrics};

struct Built {
    base: Base,
    place: Place,
    cluster: Cluster,
    redis: LinkSettings,
    admin: Vec<TcpListener>,
}

#[derive(Default)]
struct Metrics {
    attribution: Arc<AttributionMetrics>,
    waiting: Arc<WaitingMetrics>,
    topics: Arc<TopicMetrics>,
    indexer: Arc<IndexerMetrics>,
    outbox: Arc<OutboxMetrics>,
    producer: Arc<ProducerMetrics>,
    link: Arc<LinkMetrics>,
    touches: Arc<SharedTouchesMetrics>,
}

pub fn attribution(file: Option<&Path>, allow_changed_terms: bool) -> Result<Exit, Failure> {
    let file = file.map(Path::to_owned);
    let arrival = Arrival::new("attribution", false)?;
    running::start(move || build(file.as_deref(), allow_changed_terms, arrival), run)
}

fn build(file: Option<&Path>, allow_changed_terms: bool, arrival: Arrival) -> Result<Built, Failure> {
    let mut config = configured(file)?;
    config.keys.catalog.allow_changed_terms |= allow_changed_terms;
    logging::start();
    let keys = ("click.keys_file", config.click.keys_file.is_some());
    let url = ("postgresql.url_file", config.postgresql.url_file.is_some());
    let cluster = required(&config, &[keys, url])?;
    let place = place::required(&config).map_err(Failure::usage)?;
    let redis = links::settings(&config)?;
    let base = Base::build(config, KeysFrom::File)?;
    let address: SocketAddr = base.config.admin.listen;
    let (mut handed, _) = arrival.ask(&base.config)?;
    let admin = doors::bind_one(&base.config, &mut handed, DoorName::Admin, address).map_err(Failure::usage)?;
    handed.finish();
    Ok(Built { base, place, cluster, redis, admin })
}

async fn run(built: Built, mut signals: Signals) -> Result<Exit, Failure> {
    let admin_address = doors::address(&built.admin)?;
    let metrics = Arc::new(Metrics::default());
    let lost = Lost::default();
    let threads = start_threads(&built, &metrics, &lost)?;
    let Built { base, admin: listener, .. } = built;
    let admin = Arc::new(observed_by(&base, metrics, &lost));
    running::serve_admin(listener, &admin, &lost)?;
    let reloads = running::watch_files(&base, &TlsOfDoors::default(), None, &lost)?;
    tracing::info!(admin = %admin_address, "listening");

    // It has no door that others wait at: it is started anew.
    let nobody = std::future::pending();
    let end = running::until_asked_to_stop(&base, &mut signals, reloads, &lost, || None, nobody).await;
    running::drain(&base, &mut signals, &admin, end, move || threads.stop()).await;
    tracing::info!("stopped");
    lost.or(Exit::Ok)
}

/// All of them end after what is at hand; the next process finds the rest where the store says.
fn start_threads(built: &Built, metrics: &Arc<Metrics>, lost: &Lost) -> Result<Threads, Failure> {
    let mut threads = Threads::watched_by(lost);
    let Built { base, place, cluster, .. } = built;
    let config = &base.config.attribution;
    let (grace_ms, key_wait_ms) = (config.grace_ms.0 as i64, config.unknown_key_wait_ms.0 as i64);
    let sharing = Arc::new(Sharing::new(grace_ms, key_wait_ms));

    let source = TopicSource::new(cluster.clone(), metrics.topics.clone());
    let rules = base.rules(Layout::Shared(sharing.clone()));
    let parts = Parts { source, place: place.clone(), rules, metrics: metrics.attribution.clone() };
    threads.spawn("attribution", move |stop| consumer::run(parts, || stop.load(Relaxed)))?;

    let parts = DeciderParts {
        touches: Box::new(RedisAndKafka::new(touches(built, metrics, "decider"), cluster.clone())),
        place: place.clone(),
        rules: base.rules(Layout::Shared(sharing.clone())),
        sharing,
        metrics: metrics.attribution.clone(),
        waiting_metrics: metrics.waiting.clone(),
        random: random()?,
    };
    threads.spawn("decider", move |stop| decide(parts, || stop.load(Relaxed)))?;

    let (catalog, days) = (base.catalog.handle(), config.max_report_delay_days.0 as u32);
    let parts = IndexerParts {
        cluster: cluster.clone(),
        index: touches(built, metrics, "indexer"),
        keys: base.keys.clone(),
        clock: base.clock.clone(),
        kept_ms: Box::new(move || kept_ms(&catalog.load(), days)),
        unknown_key_wait: Duration::from_millis(config.unknown_key_wait_ms.0),
        metrics: metrics.indexer.clone(),
    };
    threads.spawn("touches", move |stop| index(parts, || stop.load(Relaxed)))?;

    let parts = OutboxParts {
        cluster: cluster.clone(),
        place: place.clone(),
        render: Box::new(message),
        producer_metrics: metrics.producer.clone(),
        metrics: metrics.outbox.clone(),
    };
    threads.spawn("outbox", move |stop| tell(&parts, || stop.load(Relaxed)))?;
    Ok(threads)
}

fn touches(built: &Built, metrics: &Metrics, name: &'static str) -> SharedTouches {
    let config = &built.base.config;
    let kept = Kept {
        buckets: config.touch.buckets.0 as u32,
        visitor_day_touches: config.touch.visitor_day_touches.0 as u32,
        kept_ms: kept_ms(&built.base.catalog.handle().load(), config.attribution.max_report_delay_days.0 as u32),
    };
    SharedTouches::new(Link::new(built.redis.clone(), metrics.link.clone(), name), kept, metrics.touches.clone())
}

/// A conversion as its merchant reads it, as of now: a revision that was overtaken is told as the later one.
fn message(view: View<'_>, told: &Told) -> Result<Option<Message>, StoreError> {
    let Some(row) = view.conversion_row(told.id)? else { return Ok(None) };
    let key = format!("{}/{}", row.report.merchant_id.0, row.report.order_id);
    let revision = row.revision;
    let facts = serde_json::to_value(Answer::of(view, row)?);
    let facts = facts.map_err(|error| StoreError::Unreadable { what: "answer", why: error.to_string() })?;
    Ok(Some(Message { key, revision, facts }))
}

fn observed_by(base: &Base, metrics: Arc<Metrics>, lost: &Lost) -> Admin {
    let mut admin = observed::base(base);
    admin.not_ready.push(lost.not_ready());
    admin.metrics.push(Box::new(move |page| {
        metrics.attribution.write(page);
        metrics.waiting.write(page);
        metrics.topics.write(page);
        metrics.indexer.write(page);
        metrics.outbox.write(page);
        metrics.producer.write(page);
        LinkMetrics::write(&[("touches", &*metrics.link)], page);
        metrics.touches.write(page);
    }));
    admin
}
