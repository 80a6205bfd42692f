//! Whatever is killed or refused at whatever moment: every number of every spool is in the topic, and a reader that applies
//! the one that is due, and no other, ends with all.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::world::*;
use crate::spool::Topic;

/// Refusals that a broker may give: of a record, a topic, a leader, a client, and a lost connection.
const REFUSALS: [Error; 6] = [
    Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    Error::RD_KAFKA_RESP_ERR__TRANSPORT,
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn story(seed: u64) {
    let mut random = Random(seed | 1);
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(2));
    let spools = spools(home.path());
    let mut writers = [0, 1, 2].map(|worker| spools.writer(Topic::Clicks, worker).unwrap());
    let ids = [0, 1, 2].map(|at: usize| writers[at].id());
    let world = World::new(&spools, &mock.cluster);
    let (mut shipper, mut written) = (world.shipper(), [0; 3]);
    for step in 0..60 {
        for _ in 0..random.below(120) {
            let at = random.below(3) as usize;
            click(&mut writers[at], step);
            written[at] += 1;
        }
        match random.below(8) {
            // Killed: what was not saved is not known any more.
            0 => {
                drop(shipper);
                shipper = world.shipper();
            }
            1 => {
                let refusal = REFUSALS[random.below(REFUSALS.len() as u64) as usize];
                let times = 1 + random.below(3) as usize;
                mock.mock.request_errors(RDKafkaApiKey::Produce, &vec![refusal; times]);
            }
            2 => shipper.save(true),
            _ => {}
        }
        for _ in 0..random.below(4) {
            shipper.round();
        }
    }
    assert_eq!(spools.close(), []);
    world.until_done(&mut shipper);
    let read = consume(&mock.cluster, Topic::Clicks);
    for (id, written) in ids.iter().zip(written) {
        let spool = &read[id];
        assert_eq!(spool.next, written, "seed {seed}, spool {id}: {} early", spool.early);
        assert_eq!(spool.partitions.len(), 1, "seed {seed}");
        assert_eq!(spool.seal.as_ref().map(|seal| seal.shipped), Some(written), "seed {seed}");
        for (seq, value) in spool.values.iter().enumerate() {
            assert_eq!(crate::event::address(value).unwrap().seq, Some(seq as u64), "seed {seed}");
        }
    }
}

#[test]
fn r1_no_number_is_skipped_whatever_is_killed_or_refused() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    for seed in [1, 2, 3, seed] {
        eprintln!("seed {seed}");
        story(seed);
    }
}
