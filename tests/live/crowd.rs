//! Visitors who click, change their mind, buy, and send things back; merchants who report once more when no answer came.
//! Everybody goes on while edges fail, and writes down every answer that came back whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;
use crate::random::Random;
use crate::rig::server::TOKEN;
use crate::rig::{Client, Response};

const TARGETS: [&str; 6] = [
    "/phone?sub1=crowd",
    "/book",
    "/lamp?sub1=lamp&sub2=x",
    "/tv",
    "/click?offer_id=12&aff_id=36&url=https%3A%2F%2Fshop.example%2Fp%2F7",
    "/book?url=https%3A%2F%2Fshop.example%2Fnovels",
];

/// How long a merchant tries to report one order, and a visitor to get one click through.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Answers {
    /// Click IDs that visitors were sent to a shop with.
    pub clicks: BTreeSet<String>,
    /// Order to the conversion ID of its 202.
    pub orders: BTreeMap<String, String>,
    /// Refund IDs that were answered with 202.
    pub refunds: BTreeSet<String>,
    /// How long each answered click took.
    pub micros: Vec<u64>,
}

impl Answers {
    pub fn add(&mut self, more: Answers) {
        self.clicks.extend(more.clicks);
        for (order, conversion) in more.orders {
            if let Some(known) = self.orders.insert(order.clone(), conversion.clone()) {
                assert_eq!(known, conversion, "order {order} got two conversions");
            }
        }
        self.refunds.extend(more.refunds);
        self.micros.extend(more.micros);
    }

    /// Of the time that clicks took, in microseconds; sorts.
    pub fn percentile(&mut self, percent: usize) -> u64 {
        self.micros.sort_unstable();
        self.micros.get((self.micros.len() * percent / 100).min(self.micros.len().max(1) - 1)).copied().unwrap_or(0)
    }
}

pub struct Crowd {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<std::thread::JoinHandle<Answers>>,
}

#[derive(Default)]
struct Counts {
    clicks: AtomicU64,
    orders: AtomicU64,
}

/// How much goes on.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Visitors and merchants at once.
    pub people: u64,
    /// What each does after a visit; half of it to twice of it.
    pub rest_ms: u64,
    /// Of a hundred visits, how many end with an order.
    pub orders_percent: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { people: 6, rest_ms: 20, orders_percent: 30 }
    }
}

impl Crowd {
    pub fn start(cluster: &Cluster, seed: u64) -> Crowd {
        Crowd::with(cluster, seed, Pace::default())
    }

    pub fn with(cluster: &Cluster, seed: u64, pace: Pace) -> Crowd {
        let doors: Vec<(SocketAddr, SocketAddr)> = cluster.edges.iter().map(|edge| (edge.edge, edge.api)).collect();
        Crowd::on(&doors, seed, pace)
    }

    pub fn on(doors: &[(SocketAddr, SocketAddr)], seed: u64, pace: Pace) -> Crowd {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let threads = (0..pace.people).map(|number| {
            let doors = doors.iter().map(|(edge, api)| Door { edge: Client::new(*edge), api: Client::new(*api) });
            let mut person = Person {
                doors: doors.collect(),
                random: Random::new(seed ^ (number + 1).wrapping_mul(0x5851_f42d_4c95_7f2d)),
                stop: stop.clone(),
                counts: counts.clone(),
                answers: Answers::default(),
                name: format!("{seed:x}-{number}"),
                agent: format!("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.{number}"),
                pace,
            };
            std::thread::spawn(move || {
                person.live();
                person.answers
            })
        });
        Crowd { threads: threads.collect(), stop, counts }
    }

    /// Waits until so many more clicks and orders were answered.
    pub fn wait_for(&self, clicks: u64, orders: u64) {
        let goal = (self.counts.clicks.load(Relaxed) + clicks, self.counts.orders.load(Relaxed) + orders);
        // A busy machine answers a few hundred clicks a second of them.
        let deadline = Instant::now() + Duration::from_secs(300 + clicks / 100);
        loop {
            let now = (self.counts.clicks.load(Relaxed), self.counts.orders.load(Relaxed));
            if now.0 >= goal.0 && now.1 >= goal.1 {
                return;
            }
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "somebody went home early");
            assert!(Instant::now() < deadline, "only {now:?} of {goal:?} clicks and orders");
            crate::sleep_ms(5);
        }
    }

    pub fn clicks(&self) -> u64 {
        self.counts.clicks.load(Relaxed)
    }

    /// Everybody finishes what they do and goes home.
    pub fn go_home(self) -> Answers {
        self.stop.store(true, Relaxed);
        let mut all = Answers::default();
        for thread in self.threads {
            all.add(thread.join().expect("nobody panics"));
        }
        all
    }
}

struct Door {
    edge: Client,
    api: Client,
}

struct Person {
    doors: Vec<Door>,
    random: Random,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    answers: Answers,
    name: String,
    agent: String,
    pace: Pace,
}

impl Person {
    fn live(&mut self) {
        for serial in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            self.visit(serial);
            let rest = self.pace.rest_ms / 2 + self.random.below(self.pace.rest_ms * 3 / 2 + 1);
            crate::sleep_ms(rest);
        }
    }

    /// One new visitor: up to three clicks, perhaps an order, perhaps one more click, which is too late to earn.
    fn visit(&mut self, serial: u64) {
        let mut cookie = None;
        let mut clicks = Vec::new();
        for _ in 0..=self.random.below(3) {
            clicks.extend(self.click(&mut cookie));
        }
        if clicks.is_empty() || !self.random.percent(self.pace.orders_percent) {
            return;
        }
        let amount = 1_000 + self.random.below(1_000_000);
        let order_id = format!("{}-{serial}", self.name);
        let click_id = self.random.pick(&clicks).clone();
        let order = json!({"order_id": order_id, "type": "sale", "click_id": click_id, "amount": amount});
        if !self.order(&order_id, &order) {
            return;
        }
        if self.random.percent(20) {
            // The merchant did not see the answer, or has two systems.
            self.order(&order_id, &order);
        }
        if self.random.percent(25) {
            // Apart from the order by more than the clocks of two edges differ.
            crate::sleep_ms(20);
            self.click(&mut cookie);
        }
        if self.random.percent(20) {
            self.send_back(&order_id, amount);
        }
    }

    fn click(&mut self, cookie: &mut Option<String>) -> Option<String> {
        let target = *self.random.pick(&TARGETS);
        let agent = self.agent.clone();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut headers = vec![("User-Agent", agent.as_str())];
            if let Some(cookie) = cookie.as_deref() {
                headers.push(("Cookie", cookie));
            }
            let door = self.random.below(self.doors.len() as u64) as usize;
            let asked = Instant::now();
            match self.doors[door].edge.try_request("GET", target, &headers, b"") {
                Ok(response) => {
                    self.answers.micros.push(asked.elapsed().as_micros() as u64);
                    return Some(self.clicked(&response, cookie));
                }
                // A visitor whose edge died asks again; what was answered before counts on its own.
                Err(_) => crate::sleep_ms(10),
            }
        }
        panic!("no edge answers a click");
    }

    fn clicked(&mut self, response: &Response, cookie: &mut Option<String>) -> String {
        assert_eq!(response.status, 302, "{response:?}");
        if let Some(set) = response.header("set-cookie") {
            assert!(cookie.is_none(), "a known visitor was given another name: {response:?}");
            *cookie = set.split(';').next().map(str::to_owned);
        }
        let id = response.click_id();
        assert!(self.answers.clicks.insert(id.clone()), "click ID {id} twice");
        self.counts.clicks.fetch_add(1, Relaxed);
        id
    }

    fn order(&mut self, order_id: &str, order: &serde_json::Value) -> bool {
        let Some(answer) = self.post("/v1/conversions", order) else { return false };
        let id = answer["conversion_id"].as_str().expect("an ID").to_owned();
        if let Some(known) = self.answers.orders.insert(order_id.to_owned(), id.clone()) {
            assert_eq!(known, id, "order {order_id} got two conversions");
        } else {
            self.counts.orders.fetch_add(1, Relaxed);
        }
        true
    }

    /// A part, or all of it.
    fn send_back(&mut self, order_id: &str, amount: u64) {
        let refund_id = format!("R-{order_id}");
        let mut refund = json!({"refund_id": refund_id, "order_id": order_id, "type": "sale", "reason": "return"});
        if self.random.percent(70) {
            refund["amount"] = json!(1 + self.random.below(amount));
        }
        if self.post("/v1/refunds", &refund).is_some() {
            self.answers.refunds.insert(refund_id);
        }
    }

    /// Tries until a 202 comes, at any edge; `None` when the crowd goes home before that.
    fn post(&mut self, target: &str, body: &serde_json::Value) -> Option<serde_json::Value> {
        let deadline = Instant::now() + PATIENCE;
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let bytes = body.to_string();
        loop {
            let door = self.random.below(self.doors.len() as u64) as usize;
            let answer = self.doors[door].api.try_request("POST", target, &headers, bytes.as_bytes());
            match answer {
                Ok(response) if response.status == 202 => return Some(response.json()),
                Ok(response) => assert_eq!(response.status, 503, "{target}: {}", response.text()),
                Err(_) => {}
            }
            if self.stop.load(Relaxed) {
                return None;
            }
            assert!(Instant::now() < deadline, "no edge takes {body}");
            crate::sleep_ms(10);
        }
    }
}
