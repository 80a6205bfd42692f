//! The index in Redis and the ends in Kafka, as those who decide ask for them.

use crate::attribution::consumer::shared::{self, Offsets};
use crate::click::{ClickId, VisitorKey};
use crate::kafka::Cluster;
use crate::kafka::consumer::Ends;
use crate::spool::Topic;
use crate::time::TimeMs;
use crate::touch::Labels;
use crate::touch::shared::{Position, SharedTouches};

pub struct RedisAndKafka {
    index: SharedTouches,
    cluster: Cluster,
    /// Made when it is asked first.
    ends: Option<Ends>,
}

impl RedisAndKafka {
    pub fn new(index: SharedTouches, cluster: Cluster) -> RedisAndKafka {
        RedisAndKafka { index, cluster, ends: None }
    }
}

impl shared::SharedTouches for RedisAndKafka {
    fn ends(&mut self) -> Result<Offsets, shared::Unavailable> {
        let ends = match self.ends.take() {
            Some(ends) => ends,
            None => Ends::of(&self.cluster, self.cluster.topic(Topic::Clicks)).map_err(unavailable)?,
        };
        self.ends.insert(ends).ends().map_err(unavailable)
    }

    fn positions(&mut self) -> Result<Offsets, shared::Unavailable> {
        Ok(next(self.index.positions().map_err(unavailable)?))
    }

    fn find(&mut self, visitors: &[(VisitorKey, TimeMs)]) -> Result<shared::Looked, shared::Unavailable> {
        let looked = self.index.find(visitors).map_err(unavailable)?;
        Ok(shared::Looked { found: looked.found, positions: next(looked.positions) })
    }

    fn labels(&mut self, clicks: &[ClickId]) -> Result<Vec<Option<Labels>>, shared::Unavailable> {
        self.index.labels(clicks).map_err(unavailable)
    }
}

fn next(positions: impl IntoIterator<Item = (i32, Position)>) -> Offsets {
    positions.into_iter().map(|(partition, at)| (partition, at.next)).collect()
}

fn unavailable(error: impl std::fmt::Display) -> shared::Unavailable {
    shared::Unavailable(error.to_string())
}
