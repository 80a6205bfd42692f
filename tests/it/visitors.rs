//! Visitors and merchants who come at their own pace, whether the one before was answered or not, and who write down every
//! answer and every failure: for ends and beginnings of processes that nobody should notice.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::http2::{connect, request, send};
use crate::rig::server::TOKEN;
use crate::rig::tls::{Abilities, TlsClient, able};
use crate::rig::{Client, Response, Server};

/// Of each thread.
const EVERY: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Answers {
    pub clicks: HashSet<String>,
    pub orders: u64,
    /// Requests over a connection of an earlier one that was closed before an answer began, and that were sent again over a
    /// new one, as every client does with a GET: a server may close an idle connection at any time (RFC 9112, 9.3.1).
    pub again: u64,
    pub failures: Vec<String>,
}

pub struct Visitors {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Answers>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A connection for each click.
    Plain,
    KeepAlive,
    Tls,
    TlsKeepAlive,
    /// HTTP/2, one connection for as long as it lasts.
    Http2,
    /// An order, on a connection of its own.
    Order,
}

impl Visitors {
    /// To a server with TLS.
    pub fn come(server: &Server) -> Visitors {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (edge, tls, api) = (server.edge, server.edge_tls.expect("TLS"), server.api);
        let kinds = [
            (Kind::Plain, edge, 4),
            (Kind::KeepAlive, edge, 4),
            (Kind::Tls, tls, 2),
            (Kind::TlsKeepAlive, tls, 2),
            (Kind::Http2, tls, 2),
            (Kind::Order, api, 1),
        ];
        let all = kinds.into_iter().flat_map(|(kind, address, count)| (0..count).map(move |_| (kind, address)));
        let visit = |(number, (kind, address))| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || Visitor::new(kind, address, number).visit(&stop, &answered))
        };
        let threads = all.enumerate().map(visit).collect();
        Visitors { stop, answered, threads }
    }

    /// Waits until so many more were answered.
    pub fn wait_for(&self, more: u64) {
        let until = self.answered.load(SeqCst) + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.answered.load(SeqCst) < until && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn go_home(self) -> Answers {
        self.stop.store(true, SeqCst);
        let mut all = Answers::default();
        for thread in self.threads {
            let one = thread.join().expect("a visitor does not panic");
            all.clicks.extend(one.clicks);
            all.orders += one.orders;
            all.again += one.again;
            all.failures.extend(one.failures);
        }
        all
    }
}

struct Visitor {
    kind: Kind,
    address: SocketAddr,
    number: usize,
    serial: u64,
    plain: Client,
    tls: Option<TlsClient>,
    http2: Option<Http2>,
    able: Abilities,
    answers: Answers,
}

impl Visitor {
    fn new(kind: Kind, address: SocketAddr, number: usize) -> Visitor {
        let (plain, able) = (Client::new(address), able());
        Visitor { kind, address, number, serial: 0, plain, tls: None, http2: None, able, answers: Answers::default() }
    }

    fn visit(mut self, stop: &AtomicBool, answered: &AtomicU64) -> Answers {
        let mut due = Instant::now();
        while !stop.load(SeqCst) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += EVERY;
            self.serial += 1;
            if matches!(self.kind, Kind::Plain | Kind::Tls | Kind::Order) {
                self.plain = Client::new(self.address);
                self.tls = None;
            }
            let came_again = self.plain.is_connected() || self.tls.is_some() || self.http2.is_some();
            let mut answer = self.ask();
            if came_again && answer.is_err() {
                self.answers.again += 1;
                answer = self.ask();
            }
            match answer {
                Ok(response) if response.status == 302 => _ = self.answers.clicks.insert(response.click_id()),
                Ok(response) if response.status == 202 => self.answers.orders += 1,
                other => self.answers.failures.push(format!("{:?} {}: {other:?}", self.kind, self.serial)),
            }
            answered.fetch_add(1, SeqCst);
        }
        self.answers
    }

    fn ask(&mut self) -> std::io::Result<Response> {
        match self.kind {
            Kind::Plain | Kind::KeepAlive => self.plain.try_request("GET", "/phone?sub1=upgrade", &[], b""),
            Kind::Order => {
                let order = format!("{}-{}", self.number, self.serial);
                let body = json!({"order_id": order, "type": "sale", "amount": self.serial}).to_string();
                let authorization = format!("Bearer {TOKEN}");
                let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
                self.plain.try_request("POST", "/v1/conversions", &headers, body.as_bytes())
            }
            Kind::Tls | Kind::TlsKeepAlive => {
                let mut client = match self.tls.take() {
                    Some(client) => client,
                    None => TlsClient::connect(self.address, "afflux.test", &self.able)?,
                };
                let response = client.get("/phone?sub1=upgrade")?;
                if response.header("connection") != Some("close") {
                    self.tls = Some(client);
                }
                Ok(response)
            }
            Kind::Http2 => {
                let mut client = match self.http2.take() {
                    Some(client) => client,
                    None => Http2::connect(self.address),
                };
                let response = client.get("/phone?sub1=upgrade")?;
                self.http2 = Some(client);
                Ok(response)
            }
        }
    }
}

/// A connection of HTTP/2 that somebody looks at while a request is under way.
struct Http2 {
    runtime: tokio::runtime::Runtime,
    requests: h2::client::SendRequest<bytes::Bytes>,
}

impl Http2 {
    fn connect(address: SocketAddr) -> Http2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let requests = runtime.block_on(connect(address));
        Http2 { runtime, requests }
    }

    fn get(&mut self, target: &str) -> std::io::Result<Response> {
        let answer = self.runtime.block_on(send(&self.requests, request("GET", target), b""));
        let (head, body) = answer.map_err(std::io::Error::other)?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Ok(Response { status: head.status().as_u16(), headers, body })
    }
}
