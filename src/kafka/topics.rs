//! The topics as they must be, made and checked. What differs is told with the command that mends it.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication as Replication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::{Cluster, LARGEST_RECORD_BYTES};
use crate::spool::Topic;

/// How long the brokers may take to answer, or to make a topic.
const WAIT: Duration = Duration::from_secs(15);

/// Of the dead letters there should be none.
const DEAD_LETTER_PARTITIONS: i32 = 1;

const DAY_MS: u64 = 86_400_000;

/// A record is sent in a batch with a head of its own.
const BATCH_HEAD_BYTES: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of clicks, conversions and attributions.
    pub partitions: i32,
    pub replicas: i32,
    pub min_insync_replicas: i32,
    pub retention_days: u64,
}

/// A topic as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub partitions: i32,
    pub replicas: i32,
    pub settings: Vec<(&'static str, String)>,
}

/// A topic as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub partitions: i32,
    /// Of the partition with the fewest.
    pub replicas: i32,
    pub settings: HashMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    /// A command, or what else to do.
    pub mend: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    #[error("Kafka's client: {0}")]
    Client(#[from] KafkaError),
    #[error("{topic}: {code}")]
    Refused { topic: String, code: Code },
    #[error("cannot wait for Kafka: {0}")]
    Runtime(#[from] std::io::Error),
}

/// All topics of a cluster.
pub fn wanted(cluster: &Cluster, shape: Shape) -> Vec<Wanted> {
    let settings = || {
        vec![
            ("min.insync.replicas", shape.min_insync_replicas.to_string()),
            ("retention.ms", (shape.retention_days * DAY_MS).to_string()),
            ("max.message.bytes", (LARGEST_RECORD_BYTES + BATCH_HEAD_BYTES).to_string()),
            ("cleanup.policy", "delete".to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ]
    };
    let topic = |name: String, partitions| Wanted { name, partitions, replicas: shape.replicas, settings: settings() };
    vec![
        topic(cluster.topic(Topic::Clicks), shape.partitions),
        topic(cluster.topic(Topic::Conversions), shape.partitions),
        topic(cluster.attributions(), shape.partitions),
        topic(cluster.dead_letters(), DEAD_LETTER_PARTITIONS),
    ]
}

/// Makes those that are not there. For each its name, and whether it was made.
pub fn create(cluster: &Cluster, wanted: &[Wanted]) -> Result<Vec<(String, bool)>, TopicsError> {
    let admin: AdminClient<DefaultClientContext> = cluster.client().create()?;
    let new: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, Replication::Fixed(topic.replicas));
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT));
    let made = block_on(admin.create_topics(&new, &options))??;
    made.into_iter()
        .map(|made| match made {
            Ok(topic) => Ok((topic, true)),
            Err((topic, Code::TopicAlreadyExists)) => Ok((topic, false)),
            Err((topic, code)) => Err(TopicsError::Refused { topic, code }),
        })
        .collect()
}

/// How the topics are; `None` for one that is not there.
pub fn actual(cluster: &Cluster, wanted: &[Wanted]) -> Result<Vec<Option<Actual>>, TopicsError> {
    let admin: AdminClient<DefaultClientContext> = cluster.client().create()?;
    // All at once: asking for one by its name may make it.
    let metadata = admin.inner().fetch_metadata(None, WAIT)?;
    let mut found: HashMap<&str, Actual> = HashMap::new();
    for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
        let (partitions, replicas) = (topic.partitions().len() as i32, replicas.unwrap_or(0) as i32);
        found.insert(topic.name(), Actual { partitions, replicas, settings: HashMap::new() });
    }
    let there: Vec<&Wanted> = wanted.iter().filter(|topic| found.contains_key(topic.name.as_str())).collect();
    let asked: Vec<_> = there.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(WAIT));
    let described = if asked.is_empty() { Vec::new() } else { block_on(admin.describe_configs(&asked, &options))?? };
    for (topic, described) in there.iter().zip(described) {
        let described = described.map_err(|code| TopicsError::Refused { topic: topic.name.clone(), code })?;
        if let Some(actual) = found.get_mut(topic.name.as_str()) {
            actual.settings = settings(described);
        }
    }
    Ok(wanted.iter().map(|topic| found.remove(topic.name.as_str())).collect())
}

fn settings(described: ConfigResource) -> HashMap<String, String> {
    described.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// What is wrong with a topic.
pub fn differences(cluster: &Cluster, wanted: &Wanted, actual: Option<&Actual>) -> Vec<Difference> {
    let Some(actual) = actual else {
        return vec![Difference { what: "is not there".into(), mend: "afflux topics create".into() }];
    };
    let (servers, name) = (&cluster.bootstrap_servers, &wanted.name);
    let mut found = Vec::new();
    if actual.partitions < wanted.partitions {
        let what = format!("{} partitions, {} are wanted", actual.partitions, wanted.partitions);
        let mend = format!(
            "kafka-topics.sh --bootstrap-server {servers} --alter --topic {name} --partitions {}",
            wanted.partitions
        );
        found.push(Difference { what, mend });
    }
    if actual.replicas < wanted.replicas {
        let what = format!("{} replicas, {} are wanted", actual.replicas, wanted.replicas);
        let mend = format!("kafka-reassign-partitions.sh --bootstrap-server {servers} (more replicas for {name})");
        found.push(Difference { what, mend });
    }
    for (key, value) in &wanted.settings {
        let is = actual.settings.get(*key).map_or("", String::as_str);
        if !serves(key, is, value) {
            let what = format!("{key} is {is}, {value} is wanted");
            let mend = format!(
                "kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name} \
                 --add-config {key}={value}"
            );
            found.push(Difference { what, mend });
        }
    }
    found
}

/// Whether a setting does what the wanted one would: of what is kept and allowed more is no harm.
fn serves(key: &str, is: &str, wanted: &str) -> bool {
    match (key, is.parse::<i64>(), wanted.parse::<i64>()) {
        ("retention.ms", Ok(-1), _) => true,
        ("retention.ms" | "max.message.bytes" | "min.insync.replicas", Ok(is), Ok(wanted)) => is >= wanted,
        _ => is == wanted,
    }
}

/// The admin client is asynchronous alone.
fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(bootstrap_servers: &str, prefix: &str) -> Cluster {
        Cluster { bootstrap_servers: bootstrap_servers.into(), prefix: prefix.into() }
    }

    const SHAPE: Shape = Shape { partitions: 12, replicas: 3, min_insync_replicas: 2, retention_days: 51 };

    #[test]
    fn every_difference_is_told_with_what_mends_it() {
        let cluster = cluster("127.0.0.1:9092", "afflux");
        let wanted = &wanted(&cluster, SHAPE)[0];
        assert_eq!((wanted.name.as_str(), wanted.partitions), ("afflux.clicks", 12));
        let settings: HashMap<String, String> =
            wanted.settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let whole = Actual { partitions: 12, replicas: 3, settings };
        assert_eq!(differences(&cluster, wanted, Some(&whole)), []);
        assert_eq!(differences(&cluster, wanted, None)[0].mend, "afflux topics create");
        let mut more = Actual { partitions: 24, ..whole.clone() };
        more.settings.insert("retention.ms".into(), "-1".into());
        assert_eq!(differences(&cluster, wanted, Some(&more)), []);
        let mut less = Actual { partitions: 6, replicas: 1, ..whole };
        less.settings.insert("retention.ms".into(), "1000".into());
        less.settings.insert("cleanup.policy".into(), "compact".into());
        let found = differences(&cluster, wanted, Some(&less));
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0].what, "6 partitions, 12 are wanted");
        assert!(found[0].mend.ends_with("--alter --topic afflux.clicks --partitions 12"), "{found:?}");
        assert!(found[2].mend.ends_with("--entity-name afflux.clicks --add-config retention.ms=4406400000"));
    }

    #[test]
    fn topics_are_made_once_and_are_then_as_they_must_be() {
        let prefix = format!("topics-{}", std::process::id());
        let cluster = cluster(&crate::kafka::test_servers(), &prefix);
        let shape = Shape { partitions: 3, replicas: 1, min_insync_replicas: 1, retention_days: 51 };
        let wanted = wanted(&cluster, shape);
        assert_eq!(actual(&cluster, &wanted).unwrap(), [None, None, None, None]);
        assert!(create(&cluster, &wanted).unwrap().iter().all(|(_, made)| *made));
        assert!(create(&cluster, &wanted).unwrap().iter().all(|(_, made)| !*made));
        // The brokers' knowledge of a topic follows its making by a moment.
        let mut found = actual(&cluster, &wanted).unwrap();
        while found.iter().any(Option::is_none) {
            found = actual(&cluster, &wanted).unwrap();
        }
        for (wanted, actual) in wanted.iter().zip(&found) {
            assert_eq!(differences(&cluster, wanted, actual.as_ref()), []);
        }
        let more = super::wanted(&cluster, Shape { partitions: 6, retention_days: 60, ..shape });
        let found = differences(&cluster, &more[0], found[0].as_ref());
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
