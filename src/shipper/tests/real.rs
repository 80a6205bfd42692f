//! Against a real Kafka.
