//! Where in Kafka to go on reading. Only a hint: the marks say what is applied.

use super::marks::topic_name;
use super::value::params;
use super::{Batch, StoreError, View, bits, unbits};
use crate::spool::Topic;

/// Of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    pub partition: i32,
    /// The first offset that is not applied.
    pub next: i64,
    /// A fingerprint of the record before it, by which a topic that was made anew shows; 0 when it is not known.
    pub last: u64,
}

impl Batch<'_> {
    pub fn record_offset(&self, topic: Topic, offset: Offset) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO offsets (topic, partition, next, last) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next, last = excluded.last",
            params![topic_name(topic), offset.partition, offset.next, bits(offset.last)],
        )?;
        Ok(())
    }
}

impl View<'_> {
    /// By partition.
    pub fn offsets(&self, topic: Topic) -> Result<Vec<Offset>, StoreError> {
        let sql = "SELECT partition, next, last FROM offsets WHERE topic = ?1 ORDER BY partition";
        self.connection.rows(sql, params![topic_name(topic)], |row| {
            Ok(Offset { partition: row.get(0)?, next: row.get(1)?, last: unbits(row.get(2)?) })
        })
    }
}
