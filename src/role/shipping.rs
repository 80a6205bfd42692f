//! The shipper's thread in a role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::kafka::Cluster;
use crate::shipper::{self, Duplicates, Left, Parts, Settings, ShipperMetrics};
use crate::spool::Spools;

/// How often the end looks whether everything is shipped.
const LOOK: Duration = Duration::from_millis(20);

pub struct Shipping {
    pub metrics: Arc<ShipperMetrics>,
    stop: Arc<AtomicBool>,
    /// `None`: `shipper.enabled` is false, all stays in the spools.
    thread: Option<JoinHandle<()>>,
}

impl Shipping {
    pub fn start(
        config: &Config,
        cluster: Cluster,
        spools: Arc<Spools>,
        clock: Arc<dyn Clock>,
        duplicates: Duplicates,
    ) -> Result<Shipping, Failure> {
        let (metrics, stop) = (Arc::<ShipperMetrics>::default(), Arc::new(AtomicBool::new(false)));
        if !config.shipper.enabled {
            tracing::warn!("shipper.enabled is false: all stays in the spools");
            return Ok(Shipping { metrics, stop, thread: None });
        }
        let settings = Settings {
            edge: super::house::name(config),
            batch_records: config.shipper.batch_records.0 as usize,
            linger_ms: config.shipper.linger_ms.0,
            heartbeat: shipper::HEARTBEAT,
            random: random()?,
        };
        let parts = Parts { spools, cluster, clock, settings, duplicates, metrics: metrics.clone() };
        let stopped = stop.clone();
        let work = move || shipper::run(parts, || stopped.load(Relaxed));
        let thread = std::thread::Builder::new().name("shipper".into()).spawn(work).map_err(Failure::internal)?;
        Ok(Shipping { metrics, stop, thread: Some(thread) })
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
        let is_shipping = || self.thread.is_some() && self.metrics.shipping.value() > 0;
        while is_shipping() && is_left() && !is_outage() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.stop();
    }

    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread {
            // A panic there was told; what was not saved is sent again by the next start.
            let _ = thread.join();
        }
    }
}

fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::internal("no randomness from the system"))?;
    Ok(u64::from_le_bytes(bytes))
}
