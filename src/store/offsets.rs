//! Where in Kafka to go on reading. Only a hint: the marks say what is applied.

use super::marks::topic_name;
use super::value::params;
use super::{Batch, StoreError, View};
use crate::spool::Topic;

impl Batch<'_> {
    /// `next`: the first offset of the partition that is not applied.
    pub fn record_offset(&self, topic: Topic, partition: i32, next: i64) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO offsets (topic, partition, next) VALUES (?1, ?2, ?3)
             ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next",
            params![topic_name(topic), partition, next],
        )?;
        Ok(())
    }
}

impl View<'_> {
    /// Partition and offset, sorted.
    pub fn offsets(&self, topic: Topic) -> Result<Vec<(i32, i64)>, StoreError> {
        let sql = "SELECT partition, next FROM offsets WHERE topic = ?1 ORDER BY partition";
        self.connection.rows(sql, params![topic_name(topic)], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}
