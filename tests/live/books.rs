//! The books of a cluster, as an outsider can count them: answered = spooled = in Kafka = applied, each order decided
//! once, the ledger equal to the oracle and to one process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::crowd::Answers;
use crate::oracle::{self, Sums};
use crate::process::Process;
use crate::rig::Client;
use crate::rig::server::{OPERATOR, TOKEN};

/// Drained within a minute of the last fault; `AFFLUX_TEST_PATIENCE` is how many times as long a slow machine may take.
pub fn patience() -> Duration {
    let patience = std::env::var("AFFLUX_TEST_PATIENCE").map(|times| times.parse::<u32>().expect("a whole number"));
    Duration::from_secs(60) * patience.unwrap_or(1)
}

/// Spool and number of a record.
type Place = (String, u64);

/// Waits until `look` is content; what it says is missing is what the test fails with.
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(missing) if Instant::now() > deadline => panic!("not within {limit:?}: {what}: {missing}"),
            Err(_) => crate::sleep_ms(100),
        }
    }
}

/// How a test's books close otherwise than usual.
#[derive(Default)]
pub struct Closing {
    /// Events that are known from before and that no disk holds any more.
    pub known: Vec<Value>,
    /// Records were deleted from the topics: what is left there is not all.
    pub emptied: bool,
    /// The catalog has models that the oracle does not know: one process alone says what is right.
    pub by_twin: bool,
}

/// Checks every book of the cluster; the edges must run, and are stopped.
pub fn close(cluster: &mut Cluster, answers: &Answers) {
    close_with(cluster, answers, Closing::default());
}

pub fn close_with(cluster: &mut Cluster, answers: &Answers, closing: Closing) {
    let begun = Instant::now();
    let on_disk = spooled(cluster);
    let (events, restored) = with_known(on_disk, closing.known);
    assert_answered_is_spooled(answers, &events);
    let in_kafka = if closing.emptied { (0, 0) } else { assert_spooled_is_in_kafka(cluster, &events) };
    let events = taking_effect(events);
    let clicks = events.iter().filter(|event| event["event"] == "click").count() as u64;
    let conversions: BTreeSet<&str> = ids(&events, "conversion", "conversion_id").collect();
    let reported = (clicks, conversions.len() as u64);
    wait_for(patience(), "all is applied", || {
        let seen = self::reported(&cluster.console);
        if seen == reported { Ok(()) } else { Err(format!("{seen:?} of {reported:?} clicks and conversions")) }
    });
    assert_every_order_is_decided(&cluster.console, answers);
    let by_oracle = (!closing.by_twin).then(|| oracle::ledger(&events));
    if let Some(expected) = &by_oracle {
        wait_for_ledger(&cluster.console, &events, expected, "the cluster");
    }
    wait_for(patience(), "reconcile finds no gap", || {
        cluster.edges.iter().chain([&cluster.console]).try_for_each(|process| run(process, &["reconcile"]).map(drop))
    });
    let drained = begun.elapsed();
    cluster.edges.iter_mut().for_each(Process::stop);
    let by_twin = (restored == 0).then(|| crate::twin::ledger(cluster, &events, reported, by_oracle.as_ref()));
    let expected = by_twin.or(by_oracle).expect("one process or the oracle says what is right");
    // Without an oracle nobody knows before now what it is to become.
    let sums = wait_for_ledger(&cluster.console, &events, &expected, "the cluster");
    succeeds(&cluster.console, &["ledger", "check"]);
    println!(
        "{}: {} clicks, {} orders, {} refunds answered; {clicks} clicks spooled and applied; {} records in Kafka \
         ({} of them again); {} balances equal to {}; closed after {drained:?}",
        cluster.prefix,
        answers.clicks.len(),
        answers.orders.len(),
        answers.refunds.len(),
        in_kafka.0,
        in_kafka.1,
        sums.len(),
        match (closing.by_twin, restored) {
            (true, _) => "one process",
            (false, 0) => "the oracle and one process",
            (false, _) => "the oracle",
        },
    );
}

/// All events once, in the order of each spool, and how many of them are on no disk.
fn with_known(on_disk: Vec<Value>, known: Vec<Value>) -> (Vec<Value>, usize) {
    let count = on_disk.len();
    let all: BTreeMap<Place, Value> =
        known.into_iter().chain(on_disk).filter_map(|event| Some((place(&event)?, event))).collect();
    let restored = all.len() - count;
    (all.into_values().collect(), restored)
}

/// Where records were parked that are fed again elsewhere.
fn fed_again(events: &[Value]) -> BTreeSet<Place> {
    let unparked = events.iter().filter(|event| event["event"] == "unparked");
    unparked.filter_map(|event| Some((event["of_spool"].as_str()?.to_owned(), event["of_seq"].as_u64()?))).collect()
}

/// What readers apply: of a record that was fed again the second one.
fn taking_effect(mut events: Vec<Value>) -> Vec<Value> {
    let parked = fed_again(&events);
    events.retain(|event| event["event"] != "unparked" && place(event).is_none_or(|place| !parked.contains(&place)));
    events
}

/// Every event of all edges' spools, by `afflux spool cat`.
pub fn spooled(cluster: &Cluster) -> Vec<Value> {
    let mut events = Vec::new();
    for edge in &cluster.edges {
        let text = succeeds(edge, &["spool", "cat"]);
        events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("one event a line")));
    }
    events
}

fn ids<'e>(events: &'e [Value], event: &'e str, field: &'e str) -> impl Iterator<Item = &'e str> {
    events.iter().filter(move |known| known["event"] == event).filter_map(move |known| known[field].as_str())
}

/// Every click ID that went out stands in a spool, once; so does what merchants were told.
pub fn assert_answered_is_spooled(answers: &Answers, events: &[Value]) {
    crate::rig::books::assert_chains_have_no_gap(events);
    let spooled = crate::rig::books::click_ids(events);
    let wrong: Vec<_> = answers.clicks.iter().filter(|id| spooled.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "{} clicks are not spooled once: {:?}", wrong.len(), &wrong[..wrong.len().min(3)]);
    let conversions: BTreeSet<&str> = ids(events, "conversion", "conversion_id").collect();
    let lost: Vec<_> = answers.orders.values().filter(|id| !conversions.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} orders are not spooled: {:?}", lost.len(), &lost[..lost.len().min(3)]);
    let refunds: BTreeSet<&str> = ids(events, "refund", "refund_id").collect();
    let lost: Vec<_> = answers.refunds.iter().filter(|id| !refunds.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} refunds are not spooled: {:?}", lost.len(), &lost[..lost.len().min(3)]);
}

/// By number and by ID: nothing is missing, nothing else is there, each spool is in one partition. Says how
/// many records there are, and how many of them a second time.
pub fn assert_spooled_is_in_kafka(cluster: &Cluster, events: &[Value]) -> (u64, u64) {
    let parked = fed_again(events);
    let is_sent = |event: &&Value| event["event"] != "unparked" && place(event).is_none_or(|at| !parked.contains(&at));
    let expected: BTreeMap<Place, &Value> =
        events.iter().filter(is_sent).filter_map(|event| Some((place(event)?, event))).collect();
    let mut seen = Log::default();
    let mut kafka = cluster.kafka();
    wait_for(patience(), "all is in Kafka", || {
        kafka.read(&mut seen);
        let missing: Vec<&Place> = expected.keys().filter(|place| !seen.records.contains_key(*place)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{} missing: {:?}", missing.len(), missing.first())) }
    });
    seen.early.iter().for_each(|early| println!("{early}"));
    let stand_ins: BTreeSet<Place> =
        seen.told.iter().filter(|told| told["event"] == "parked").filter_map(place).collect();
    assert!(parked.is_subset(&stand_ins), "{parked:?} are fed again, and parked are {stand_ins:?}");
    for (place, record) in &seen.records {
        let Some(spooled) = expected.get(place) else { panic!("{place:?} is in Kafka and in no spool: {record}") };
        for field in ["event", "click_id", "conversion_id", "refund_id", "amount", "visitor_key"] {
            assert_eq!(record[field], spooled[field], "{field} of {place:?}");
        }
    }
    (seen.records.len() as u64 + seen.again, seen.again)
}

fn place(event: &Value) -> Option<Place> {
    Some((event["spool"].as_str()?.to_owned(), event["seq"].as_u64()?))
}

/// What stands in the topics, read so far.
#[derive(Default)]
pub struct Log {
    pub records: HashMap<Place, Value>,
    /// Records that came a second time.
    pub again: u64,
    /// Places where a later record stands before an earlier one: what was under way to a broker that failed may arrive
    /// after what was sent to the next one. Readers wait for it there, and it must come.
    pub early: Vec<String>,
    /// Heartbeats, seals and parked records.
    pub told: Vec<Value>,
    partitions: HashMap<String, (String, i32)>,
    next: HashMap<String, u64>,
}

impl Log {
    fn add(&mut self, topic: &str, partition: i32, value: Value) {
        let spool = value["spool"].as_str().expect("a spool").to_owned();
        let home = self.partitions.entry(spool.clone()).or_insert_with(|| (topic.to_owned(), partition));
        assert_eq!((home.0.as_str(), home.1), (topic, partition), "spool {spool} has two partitions");
        if !matches!(value["event"].as_str(), Some("click" | "conversion" | "refund")) {
            self.told.push(value);
            return;
        }
        let seq = value["seq"].as_u64().expect("a number");
        let next = self.next.entry(spool.clone()).or_default();
        if seq > *next {
            self.early.push(format!("{topic} {partition}: spool {spool}: {seq} before {next}"));
        }
        *next = seq + 1;
        if self.records.insert((spool, seq), value).is_some() {
            self.again += 1;
        }
    }
}

/// A reader of both topics, apart from the program's.
pub struct Kafka {
    consumer: BaseConsumer,
    topics: [String; 2],
    at: BTreeMap<(String, i32), i64>,
}

impl Kafka {
    pub fn new(bootstrap: &str, prefix: &str) -> Kafka {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "books").set("enable.auto.commit", "false");
        config.set("fetch.wait.max.ms", "50").set("fetch.queue.backoff.ms", "10").set("auto.offset.reset", "error");
        let topics = [format!("{prefix}.clicks"), format!("{prefix}.conversions")];
        Kafka { consumer: config.create().expect("a consumer"), topics, at: BTreeMap::new() }
    }

    /// Behind the last record of a partition.
    pub fn end(&self, topic: &str, partition: i32) -> i64 {
        self.consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).expect("an answer").1
    }

    /// Reads on to what is now the end of every partition; a partition that cannot be read now is left for later.
    pub fn read(&mut self, into: &mut Log) {
        let mut ends = BTreeMap::new();
        for topic in self.topics.clone() {
            let Ok(metadata) = self.consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)) else { continue };
            for partition in metadata.topics()[0].partitions() {
                let limits = self.consumer.fetch_watermarks(&topic, partition.id(), Duration::from_secs(10));
                let Ok((low, high)) = limits else { continue };
                let at = *self.at.entry((topic.clone(), partition.id())).or_insert(low);
                if at < high {
                    ends.insert((topic.clone(), partition.id()), high);
                }
            }
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in ends.keys() {
            let at = self.at[&(topic.clone(), *partition)];
            list.add_partition_offset(topic, *partition, Offset::Offset(at)).expect("an offset");
        }
        self.consumer.assign(&list).expect("assigned");
        let deadline = Instant::now() + Duration::from_secs(20);
        while ends.iter().any(|(partition, end)| self.at[partition] < *end) && Instant::now() < deadline {
            let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(200)) else { continue };
            let partition = (message.topic().to_owned(), message.partition());
            assert_eq!(message.offset(), self.at[&partition], "{partition:?}: the reader of these books skips nothing");
            let value = serde_json::from_slice(message.payload().expect("a value")).expect("JSON");
            into.add(message.topic(), message.partition(), value);
            self.at.insert(partition, message.offset() + 1);
        }
    }
}

/// Σ clicks, rejected ones too, and Σ conversions of a process's report; (0, 0) while it does not answer.
pub fn reported(process: &Process) -> (u64, u64) {
    let authorization = format!("Bearer {OPERATOR}");
    let target = "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=merchant";
    let headers = [("Authorization", authorization.as_str())];
    let Ok(response) = Client::new(process.api).try_request("GET", target, &headers, b"") else { return (0, 0) };
    if response.status != 200 {
        return (0, 0);
    }
    let rows = response.json()["rows"].as_array().expect("rows").clone();
    let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap_or(0)).sum();
    (sum("clicks") + sum("rejected_clicks"), sum("conversions"))
}

pub fn assert_every_order_is_decided(console: &Process, answers: &Answers) {
    let mut api = Client::new(console.api);
    let authorization = format!("Bearer {TOKEN}");
    let mut open: BTreeMap<&String, &String> = answers.orders.iter().collect();
    wait_for(patience(), "every order is decided", || {
        let mut last = None;
        open.retain(|order, id| {
            let response = api.get(&format!("/v1/conversions/{id}"), &[("Authorization", &authorization)]);
            assert_eq!(response.status, 200, "{}", response.text());
            let conversion = response.json();
            assert!(conversion["order_id"] == order.as_str() || conversion["outcome"] == "pending", "{conversion}");
            let pending = conversion["outcome"] == "pending";
            if pending {
                last = Some(conversion);
            }
            pending
        });
        if open.is_empty() { Ok(()) } else { Err(format!("{} are pending: {last:?}", open.len())) }
    });
}

/// Waits until the ledger is what is expected: refunds and second looks may come last.
pub fn wait_for_ledger(process: &Process, events: &[Value], expected: &Sums, whose: &str) -> Sums {
    let deadline = Instant::now() + patience();
    loop {
        let sums = ledger(process);
        let Some(conversion) = first_difference(&sums, expected) else { return sums };
        if Instant::now() > deadline {
            show_why(process, events, conversion);
            panic!("the ledger of {whose} and what is right: {}", difference(&sums, expected));
        }
        crate::sleep_ms(100);
    }
}

fn first_difference<'s>(sums: &'s Sums, expected: &'s Sums) -> Option<&'s str> {
    let keys = sums.keys().chain(expected.keys());
    keys.into_iter().find(|key| sums.get(*key) != expected.get(*key)).map(|key| key.0.as_str())
}

/// What the program says of a conversion, and the facts that it had.
fn show_why(process: &Process, events: &[Value], conversion: &str) {
    eprintln!("{}", run(process, &["explain", conversion]).unwrap_or_else(|said| said));
    let reports: Vec<&Value> = events.iter().filter(|event| event["conversion_id"] == conversion).collect();
    let clicks = reports.iter().filter_map(|report| report["click_id"].as_str());
    let visitors: BTreeSet<&str> = clicks
        .filter_map(|id| events.iter().find(|event| event["event"] == "click" && event["click_id"] == id))
        .filter_map(|click| click["visitor_key"].as_str())
        .collect();
    let of_them = events.iter().filter(|event| event["visitor_key"].as_str().is_some_and(|key| visitors.contains(key)));
    reports.into_iter().chain(of_them).for_each(|event| eprintln!("fact: {event}"));
}

/// Sums of `afflux ledger cat` by conversion and account.
pub fn ledger(process: &Process) -> Sums {
    let mut sums = Sums::new();
    for line in succeeds(process, &["ledger", "cat"]).lines() {
        let entry: Value = serde_json::from_str(line).expect("one entry a line");
        let text = |name: &str| entry[name].as_str().expect("text").to_owned();
        *sums.entry((text("conversion_id"), text("account"))).or_default() +=
            i128::from(entry["amount"].as_i64().expect("an amount"));
    }
    sums.retain(|_, amount| *amount != 0);
    sums
}

fn difference(sums: &Sums, expected: &Sums) -> String {
    let keys: BTreeSet<_> = sums.keys().chain(expected.keys()).collect();
    let differ: Vec<String> = keys
        .into_iter()
        .filter(|key| sums.get(*key) != expected.get(*key))
        .map(|key| format!("{} {}: {:?}, right {:?}", key.0, key.1, sums.get(key), expected.get(key)))
        .collect();
    format!("{} of {} differ: {:#?}", differ.len(), expected.len(), &differ[..differ.len().min(5)])
}

pub fn run(process: &Process, arguments: &[&str]) -> Result<String, String> {
    let output = process.run(arguments);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    Err(format!("{} {arguments:?}: {}{}", process.name, said(&output.stdout), said(&output.stderr)))
}

pub fn succeeds(process: &Process, arguments: &[&str]) -> String {
    run(process, arguments).unwrap_or_else(|said| panic!("{said}"))
}
