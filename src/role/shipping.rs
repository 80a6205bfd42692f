//! The shipper's thread in a role.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Failure;
use super::threads::{Lost, Threads};
use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::Cluster;
use crate::shipper::{self, Duplicates, Left, Parts, Settings, ShipperMetrics};
use crate::spool::Spools;

/// How often the end looks whether everything is shipped.
const LOOK: Duration = Duration::from_millis(20);

pub struct Shipping {
    pub metrics: Arc<ShipperMetrics>,
    /// None while `shipper.enabled` is false: all stays in the spools.
    threads: Threads,
}

impl Shipping {
    pub fn start(
        config: &Config,
        cluster: Cluster,
        spools: Arc<Spools>,
        clock: Arc<dyn Clock>,
        duplicates: Duplicates,
        lost: &Lost,
    ) -> Result<Shipping, Failure> {
        let (metrics, mut threads) = (Arc::<ShipperMetrics>::default(), Threads::watched_by(lost));
        if !config.shipper.enabled {
            tracing::warn!("shipper.enabled is false: all stays in the spools");
            return Ok(Shipping { metrics, threads });
        }
        let settings = Settings {
            edge: super::house::name(config),
            batch_records: config.shipper.batch_records.0 as usize,
            linger_ms: config.shipper.linger_ms.0,
            heartbeat: shipper::HEARTBEAT,
            random: random()?,
        };
        let parts = Parts { spools, cluster, clock, settings, duplicates, metrics: metrics.clone() };
        threads.spawn("shipper", move |stop| shipper::run(parts, || stop.load(Relaxed)))?;
        Ok(Shipping { metrics, threads })
    }

    /// What is not shipped; `None` while that is not known.
    pub fn left(&self) -> Option<Left> {
        self.metrics.left()
    }

    /// Waits until everything is shipped, while Kafka takes it and `at_most` so long. Then stops; what is left waits on
    /// disk for the next start.
    pub fn finish(self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let is_left = || self.left().is_none_or(|left| left.spools > 0);
        let is_outage = || self.metrics.outage.iter().any(|outage| outage.value() > 0);
        let is_shipping = || self.threads.are_whole() && self.metrics.shipping.value() > 0;
        while is_shipping() && is_left() && !is_outage() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.stop();
    }

    pub fn stop(self) {
        // What was not saved is sent again by the next start.
        self.threads.stop();
    }
}

pub(super) fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::internal("no randomness from the system"))?;
    Ok(u64::from_le_bytes(bytes))
}
