//! Kafka: which cluster, and the names of its topics. One module below produces, one consumes; nobody else knows the client.

pub mod consumer;
pub mod producer;
pub mod topics;

use rdkafka::ClientConfig;

use crate::spool::Topic;

/// The largest record that is sent: a body of intake is 1 MiB at most, and its event is not eight times that.
pub const LARGEST_RECORD_BYTES: usize = 8 << 20;

/// Brokers to ask first, and what our topics and groups begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// HOST:PORT, separated by commas.
    pub bootstrap_servers: String,
    pub prefix: String,
}

impl Cluster {
    /// What every client of ours begins with. Reconnects fast: its ten seconds would be the longest part of an outage.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "afflux")
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    pub fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.prefix, topic.name())
    }

    /// Every revision of every decision.
    pub fn attributions(&self) -> String {
        format!("{}.attributions", self.prefix)
    }

    /// What could not be applied, as it came.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// A consumer group of ours.
    pub fn group(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

/// A real cluster for tests.
#[cfg(test)]
pub fn test_servers() -> String {
    std::env::var("AFFLUX_TEST_KAFKA").expect("AFFLUX_TEST_KAFKA is not set: run the tests by scripts/servers/with")
}
