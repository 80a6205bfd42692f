//! A crowd on the doors: connections that click and connections that post orders, until the server is gone. It writes
//! down every answer that came back whole, and when.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;

use crate::rig::server::TOKEN;
use crate::rig::{Client, Server};

#[derive(Default)]
pub struct Answers {
    /// Click ID to the moment its 302 was read.
    pub clicks: HashMap<String, Instant>,
    /// Order to conversion ID of its 202.
    pub orders: HashMap<String, String>,
    /// Every order that was sent, answered or not, as it was sent.
    pub sent: Vec<String>,
}

pub struct Crowd {
    stop: Arc<AtomicBool>,
    clicks: Arc<AtomicU64>,
    orders: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Answers>>,
}

impl Crowd {
    /// 64 connections click and 8 post orders.
    pub fn start(server: &Server, round: u32) -> Crowd {
        Crowd::with(server, round, 64, 8)
    }

    pub fn with(server: &Server, round: u32, clickers: u32, merchants: u32) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let (clicks, orders) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (edge, api) = (server.edge, server.api);
        let mut threads = Vec::new();
        let latest = Arc::new(Mutex::new(String::new()));
        for number in 0..clickers {
            let (stop, clicks, latest) = (stop.clone(), clicks.clone(), latest.clone());
            threads.push(std::thread::spawn(move || click(edge, number, &stop, &clicks, &latest)));
        }
        for number in 0..merchants {
            let (stop, orders, latest) = (stop.clone(), orders.clone(), latest.clone());
            threads.push(std::thread::spawn(move || order(api, round, number, &stop, &orders, &latest)));
        }
        Crowd { stop, clicks, orders, threads }
    }

    /// Waits until so many clicks and orders were answered.
    pub fn wait_for(&self, clicks: u64, orders: u64) {
        let deadline = Instant::now() + std::time::Duration::from_secs(120);
        while self.clicks.load(Relaxed) < clicks || self.orders.load(Relaxed) < orders {
            assert!(
                Instant::now() < deadline,
                "only {} clicks and {} orders",
                self.clicks.load(Relaxed),
                self.orders.load(Relaxed)
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Everybody goes home; what they were answered.
    pub fn go_home(self) -> Answers {
        self.stop.store(true, Relaxed);
        let mut all = Answers::default();
        for thread in self.threads {
            let answers = thread.join().expect("a visitor does not panic");
            all.clicks.extend(answers.clicks);
            all.orders.extend(answers.orders);
            all.sent.extend(answers.sent);
        }
        all
    }
}

fn click(edge: SocketAddr, number: u32, stop: &AtomicBool, count: &AtomicU64, latest: &Mutex<String>) -> Answers {
    let mut answers = Answers::default();
    let mut client = Client::new(edge);
    let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 visitor/{number}");
    while !stop.load(Relaxed) {
        let headers = [("User-Agent", agent.as_str())];
        let Ok(response) = client.try_request("GET", "/phone?sub1=crowd", &headers, b"") else {
            break;
        };
        assert_eq!(response.status, 302, "{response:?}");
        let id = response.click_id();
        latest.lock().expect("no panic inside").clone_from(&id);
        answers.clicks.insert(id, Instant::now());
        count.fetch_add(1, Relaxed);
    }
    answers
}

fn order(
    api: SocketAddr,
    round: u32,
    number: u32,
    stop: &AtomicBool,
    count: &AtomicU64,
    latest: &Mutex<String>,
) -> Answers {
    let mut answers = Answers::default();
    let mut client = Client::new(api);
    for serial in 0.. {
        let click_id = latest.lock().expect("no panic inside").clone();
        if stop.load(Relaxed) {
            break;
        }
        if click_id.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        let order_id = format!("{round}-{number}-{serial}");
        let body = json!({"order_id": order_id, "type": "sale", "click_id": click_id, "amount": 1_000 + serial});
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = body.to_string();
        answers.sent.push(body.clone());
        let Ok(response) = client.try_request("POST", "/v1/conversions", &headers, body.as_bytes()) else { break };
        if response.status == 503 {
            continue;
        }
        assert_eq!(response.status, 202, "{}", response.text());
        let conversion_id = response.json()["conversion_id"].as_str().expect("an ID").to_owned();
        answers.orders.insert(order_id, conversion_id);
        count.fetch_add(1, Relaxed);
    }
    answers
}

/// Everything that was answered over the rounds of a test.
#[derive(Default)]
pub struct Ledger {
    pub clicks: HashSet<String>,
    pub orders: HashMap<String, String>,
    pub sent: Vec<String>,
}

impl Ledger {
    pub fn add(&mut self, answers: Answers) {
        self.clicks.extend(answers.clicks.into_keys());
        self.orders.extend(answers.orders);
        self.sent.extend(answers.sent);
    }
}
