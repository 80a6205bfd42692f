//! New processes take over from edges and consoles that run, under load, with Kafka, Redis and PostgreSQL behind them: no
//! request on a new connection fails, and the books close (contract P10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use crate::cluster::Cluster;
use crate::crowd::{Answers, Crowd, Pace};
use crate::rig::server::OPERATOR;
use crate::rig::{Client, Response};
use crate::{alone, books, by_form, random, sleep_ms};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

/// Somebody who asks again and again, each time over a new connection, and does not try twice.
struct Strict {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Strict {
    /// `heard` makes of an answer what is kept of it, or says what is wrong.
    fn asks(
        address: SocketAddr,
        target: &'static str,
        heard: impl Fn(&Response) -> Result<Option<String>, String> + Send + 'static,
    ) -> Strict {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, count) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            let authorization = format!("Bearer {OPERATOR}");
            let mut all = Vec::new();
            while !until.load(SeqCst) {
                let answer = Client::new(address).try_request("GET", target, &[("Authorization", &authorization)], b"");
                let heard = answer.map_err(|error| error.to_string()).and_then(|answer| heard(&answer));
                all.extend(heard.unwrap_or_else(|wrong| panic!("{target}, question {}: {wrong}", count.load(SeqCst))));
                count.fetch_add(1, SeqCst);
                sleep_ms(5);
            }
            all
        });
        Strict { stop, asked, thread }
    }

    /// Waits until it was answered so many times more.
    fn wait_for(&self, more: u64) {
        let goal = self.asked.load(SeqCst) + more;
        books::wait_for(books::patience(), "answers", || {
            let asked = self.asked.load(SeqCst);
            assert!(!self.thread.is_finished(), "a question failed, as told above");
            if asked >= goal { Ok(()) } else { Err(format!("{asked} of {goal}")) }
        });
    }

    fn goes_home(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("no question fails")
    }
}

#[test]
fn p10_edges_and_consoles_are_taken_over_from_and_nobody_notices() {
    let _alone = alone();
    let mut cluster = Cluster::start("upgrades");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    let clicks = Strict::asks(cluster.edges[0].edge, "/phone?sub1=strict", |answer| {
        if answer.status == 302 { Ok(Some(answer.click_id())) } else { Err(format!("{answer:?}")) }
    });
    let report = "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=merchant";
    let reports = Strict::asks(cluster.console.api, report, |answer| {
        if answer.status == 200 && answer.json()["rows"].is_array() { Ok(None) } else { Err(format!("{answer:?}")) }
    });
    let rounds = by_form(2, 100);
    for round in 0..rounds {
        crowd.wait_for(50, 5);
        clicks.wait_for(5);
        reports.wait_for(5);
        cluster.edges[round as usize % 2].upgrade();
        cluster.console.upgrade();
    }
    crowd.wait_for(50, 5);
    clicks.wait_for(5);
    reports.wait_for(5);
    let strict = clicks.goes_home();
    reports.goes_home();
    let mut answers = crowd.go_home();
    println!("{rounds} upgrades of an edge and of the console: {} clicks of a visitor who tries once", strict.len());
    answers.add(Answers { clicks: strict.into_iter().collect(), ..Answers::default() });
    books::close(&mut cluster, &answers);
}
