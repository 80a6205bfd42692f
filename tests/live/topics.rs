//! Topics that are missing, deleted, emptied or too narrow: healed, or named with the command that heals it.

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Answers, Crowd, Pace};
use crate::edges::without_shipper;
use crate::rig::Client;
use crate::rig::server::TOKEN;
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

/// Does what `reconcile` says until it finds nothing more; whether it had to.
fn heal_as_told(cluster: &Cluster) -> bool {
    let mut told = false;
    books::wait_for(books::patience(), "what reconcile says heals it", || {
        let mut said = String::new();
        for process in cluster.edges.iter().chain([&cluster.console]) {
            said += &books::run(process, &["reconcile"]).err().unwrap_or_default();
        }
        if said.is_empty() {
            return Ok(());
        }
        for (spool, from) in commands(&said) {
            told = true;
            // The spool is on the disk of one edge; the other says that it does not know it.
            cluster.edges.iter().for_each(|edge| drop(edge.run(&["reship", &spool, &from])));
        }
        crate::sleep_ms(1_000);
        Err(said)
    });
    told
}

/// The words behind each `reship` in what was said.
fn commands(said: &str) -> Vec<(String, String)> {
    let is_spool = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let after = said.split("reship ").skip(1);
    let words = after.filter_map(|rest| {
        let mut words = rest.split(|byte: char| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    words.filter(|(spool, from)| is_spool(spool) && from.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

#[test]
fn commands_are_read_from_what_reconcile_says() {
    let said = "GAP 00000000000000ab: 3 to 7: heal it with `afflux reship 00000000000000ab 3`\n";
    assert_eq!(commands(said), [("00000000000000ab".to_owned(), "3".to_owned())]);
}

#[test]
fn a_topic_that_comes_late_is_an_outage() {
    let _alone = alone();
    let mut cluster = Cluster::without_topics("no-topic", Shape::default(), 2, 2);
    cluster.edges.iter_mut().for_each(|edge| edge.start());
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    cluster.shows("edge", "afflux_shipper_outage", "topic=\"clicks\"", 0.0);
    cluster.shows("edge", "afflux_shipper_errors_total", "kind=\"unknown_topic\"", 0.0);
    cluster.create_topics();
    let rest = cluster.attributions.iter_mut().chain([&mut cluster.console]);
    rest.for_each(|process| process.start());
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn a_topic_deleted_and_made_again_is_filled_again() {
    let _alone = alone();
    let mut cluster = Cluster::start("deleted-topic");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    for topic in ["clicks", "conversions"] {
        cluster.servers.kafka(&["topics", "--delete", "--topic", &cluster.topic(topic)]);
        crate::sleep_ms(1_000);
        cluster.create_topics();
        crowd.wait_for(100, 10);
    }
    let answers = crowd.go_home();
    let told = heal_as_told(&cluster);
    println!("reconcile named a command: {told}");
    cluster.shows("edge", "afflux_shipper_lost_acks_total", "", 0.0);
    cluster.shows("attribution", "afflux_topics_resets_total", "", 0.0);
    books::close(&mut cluster, &answers);
}

/// Records vanish before anybody applied them: a gap, named, and healed by the command that is named.
#[test]
fn deleted_records_are_a_gap_with_a_name() {
    let _alone = alone();
    let mut cluster = Cluster::start("deleted-records");
    cluster.attributions.iter_mut().for_each(|attribution| attribution.stop());
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    let answers = crowd.go_home();
    books::assert_spooled_is_in_kafka(&cluster, &books::spooled(&cluster));
    delete_records(&cluster, 20);
    // More comes behind the hole: only then it is one.
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(100, 10);
    let mut answers = answers;
    answers.add(crowd.go_home());
    cluster.attributions.iter_mut().for_each(|attribution| attribution.start());
    let gap = books::wait_for(books::patience(), "the gap is named", || {
        let said = cluster.edges.iter().map(|edge| books::run(edge, &["reconcile"]).err().unwrap_or_default());
        let said: String = said.collect();
        if commands(&said).is_empty() { Err(format!("reconcile says: {said}")) } else { Ok(said) }
    });
    println!("{gap}");
    cluster.shows("attribution", "afflux_attribution_gaps", "", 0.0);
    assert!(heal_as_told(&cluster));
    books::close_with(&mut cluster, &answers, books::Closing { emptied: true, ..books::Closing::default() });
}

/// Removes the first records of every partition of clicks.
fn delete_records(cluster: &Cluster, count: u64) {
    let topic = cluster.topic("clicks");
    let partitions: Vec<String> = (0..crate::cluster::PARTITIONS)
        .filter(|partition| cluster.kafka().end(&topic, *partition as i32) > count as i64)
        .map(|partition| format!(r#"{{"topic":"{topic}","partition":{partition},"offset":{count}}}"#))
        .collect();
    assert!(!partitions.is_empty(), "too few records");
    let file = cluster.path().join("delete.json");
    std::fs::write(&file, format!(r#"{{"partitions":[{}],"version":1}}"#, partitions.join(","))).unwrap();
    let file = file.display().to_string();
    cluster.servers.kafka(&["tool", "org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", &file]);
}

fn limit_messages(cluster: &Cluster, topic: &str, change: &[&str]) {
    let topic = cluster.topic(topic);
    let mut words = vec!["tool", "kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics"];
    words.extend(["--entity-name", &topic]);
    words.extend(change);
    cluster.servers.kafka(&words);
}

#[test]
fn a_refused_batch_is_sent_again() {
    let _alone = alone();
    let mut cluster = Cluster::start("refused-batch");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    // What waits meanwhile goes out many at once, however few clicks a second there are.
    cluster.edges[0].stop();
    without_shipper(&cluster.edges[0]);
    cluster.edges[0].start();
    crowd.wait_for(400, 20);
    cluster.edges[0].stop();
    // Wide enough for each record, too narrow for many at once.
    limit_messages(&cluster, "clicks", &["--add-config", "max.message.bytes=2500"]);
    cluster.write_config(&cluster.edges[0]);
    cluster.edges[0].start();
    cluster.shows("edge", "afflux_shipper_errors_total", "kind=\"too_large\"", 0.0);
    crowd.wait_for(by_form(300, 10_000), 30);
    limit_messages(&cluster, "clicks", &["--delete-config", "max.message.bytes"]);
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    assert_eq!(cluster.edges_count("afflux_shipper_parked_total"), 0.0, "each record fits");
    books::close(&mut cluster, &answers);
}

#[test]
fn a_record_that_kafka_will_not_take_is_parked_and_named() {
    let _alone = alone();
    let mut cluster = Cluster::start("parked");
    limit_messages(&cluster, "conversions", &["--add-config", "max.message.bytes=4000"]);
    // Noise that no compression makes small.
    let mut random = random::Random::new(random::seed());
    let noise: String = (0..16_000).map(|_| char::from(b'!' + random.below(90) as u8)).filter(|c| *c != '\\').collect();
    let items: Vec<_> = noise
        .as_bytes()
        .chunks(150)
        .map(|sku| serde_json::json!({"sku": String::from_utf8_lossy(sku), "quantity": 1, "unit_amount": 1}))
        .collect();
    let order = serde_json::json!({"order_id": "big", "type": "sale", "amount": items.len(), "items": items});
    let answer = Client::new(cluster.edges[0].api).post_json("/v1/conversions", TOKEN, &order);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let crowd = Crowd::with(&cluster, random.next(), PACE);
    crowd.wait_for(200, 20);
    let mut answers: Answers = crowd.go_home();
    let said = books::wait_for(books::patience(), "the parked record is named", || {
        let output = cluster.edges[0].run(&["reconcile"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("parked") { Ok(said) } else { Err(said) }
    });
    println!("{said}");
    assert_eq!(cluster.edges_metric("afflux_shipper_parked_total", "why=\"too_large\""), 1.0);
    // Everything else took effect, behind it too.
    let conversions = answers.orders.len() as u64;
    books::wait_for(books::patience(), "the rest is applied", || {
        let seen = books::reported(&cluster.console).1;
        if seen == conversions { Ok(()) } else { Err(format!("{seen} of {conversions}")) }
    });
    // The console names the command; with a wider topic it heals.
    let said = books::wait_for(books::patience(), "the parked record is in the books", || {
        books::run(&cluster.console, &["reconcile"])
            .err()
            .filter(|said| said.contains(" --parked"))
            .ok_or("not yet".into())
    });
    limit_messages(&cluster, "conversions", &["--delete-config", "max.message.bytes"]);
    let spool = said.split("reship ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a spool");
    println!("{}", books::succeeds(&cluster.edges[0], &["reship", spool, "--parked"]));
    let again = cluster.edges[0].run(&["reship", spool, "--parked"]);
    assert_eq!(again.status.code(), Some(1), "nothing is parked any more");
    answers.orders.insert("big".into(), answer.json()["conversion_id"].as_str().expect("an ID").to_owned());
    books::close_with(&mut cluster, &answers, books::Closing { by_twin: true, ..books::Closing::default() });
}

/// What is missing is on no disk any more: it is passed by command, and everything else takes effect.
#[test]
fn a_gap_that_nobody_can_fill_is_passed_by_command() {
    let _alone = alone();
    let mut cluster = Cluster::start("passed");
    cluster.attributions.iter_mut().for_each(|attribution| attribution.stop());
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    let mut answers = crowd.go_home();
    cluster.edges.iter_mut().for_each(|edge| edge.stop());
    for edge in &cluster.edges {
        books::succeeds(edge, &["edge", "--drain-only"]);
    }
    let mut events = books::spooled(&cluster);
    books::assert_spooled_is_in_kafka(&cluster, &events);
    cluster.edges.iter().for_each(|edge| std::fs::remove_dir_all(edge.home.join("data/spool")).unwrap());
    delete_records(&cluster, 20);
    cluster.edges.iter_mut().for_each(|edge| edge.start());
    cluster.attributions.iter_mut().for_each(|attribution| attribution.start());
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(100, 10);
    answers.add(crowd.go_home());
    let mut passed = std::collections::BTreeSet::new();
    let said = books::wait_for(2 * books::patience(), "every gap is passed", || {
        let said = match books::run(&cluster.console, &["reconcile"]) {
            Ok(said) if said.contains("PASSED spool ") => return Ok(said),
            said => said.unwrap_or_else(|said| said),
        };
        for (spool, first, last) in gaps(&said) {
            let wrong = (last + 1).to_string();
            let [first, last] = [first, last].map(|number| number.to_string());
            let reason = ["--reason", "the disk is gone"];
            let refused = cluster.console.run(&[&["pass", &spool, &first, &wrong][..], &reason].concat());
            assert_eq!(refused.status.code(), Some(1), "one more than is missing");
            // It may have changed since it was named.
            let pass = [&["pass", &spool, &first, &last][..], &reason].concat();
            let late = cluster.console.run(&pass);
            assert_eq!(late.status.code(), Some(1), "no ten minutes have passed: it may be only late");
            if books::run(&cluster.console, &[&pass[..], &["--even-if-late"]].concat()).is_ok() {
                passed.insert((spool, first, last));
            }
        }
        crate::sleep_ms(1_000);
        Err(said)
    });
    println!("{said}");
    let range =
        |(_, first, last): &(String, String, String)| last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1;
    let missing: u64 = passed.iter().map(range).sum();
    assert!(missing > 0 && said.matches("the disk is gone").count() == passed.len(), "{passed:?}");
    events.extend(books::spooled(&cluster));
    let clicks = events.iter().filter(|event| event["event"] == "click").count() as u64;
    books::wait_for(books::patience(), "the rest is applied by those who ran all the time", || {
        let seen = books::reported(&cluster.console).0;
        if seen + missing == clicks { Ok(()) } else { Err(format!("{seen} and {missing} of {clicks}")) }
    });
    books::assert_every_order_is_decided(&cluster.console, &answers);
    books::succeeds(&cluster.console, &["ledger", "check"]);
    cluster.edges.iter_mut().for_each(|edge| edge.stop());
}

/// Spool, first and last of each gap that was named.
fn gaps(said: &str) -> Vec<(String, u64, u64)> {
    let gap = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("GAP spool ")?.split([' ', ':']).collect();
        let at = words.iter().position(|word| *word == "records")?;
        Some((words[0].to_owned(), words.get(at + 1)?.parse().ok()?, words.get(at + 3)?.parse().ok()?))
    };
    // What a command says stands behind its name.
    said.lines().filter_map(|line| gap(&line[line.find("GAP spool ")?..])).collect()
}

#[test]
fn gaps_are_read_from_what_reconcile_says() {
    let said = "console: GAP spool 00000000000000ab: records 3 to 7 are missing; `afflux reship 00000000000000ab 3`\n";
    assert_eq!(gaps(said), [("00000000000000ab".to_owned(), 3, 7)]);
}
