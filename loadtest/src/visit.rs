//! A connection of the crowd: takes one arrival after the other, asks, and tells the lane what came back.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::click::{Answer, Click};
use crate::http1;
use crate::http2::{self, Shared};
use crate::lane::{Lane, StageRun};
use crate::wire::Wire;

/// A connection that was idle for longer may be closed by now.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// After a connection could not be made in a closed loop, which would else do nothing but try.
const PAUSE: Duration = Duration::from_millis(5);

/// HTTP/1.1. Keeps its connection, or makes one for each click.
pub async fn http1(lane: Rc<Lane>, stage: Rc<StageRun>, number: usize) {
    let (plan, timeout) = (&lane.plan, Duration::from_millis(lane.plan.load.timeout_ms));
    let (target, closes) = (&plan.edges[number % plan.edges.len()], plan.load.new_connections);
    let mut from = number as u32;
    let mut wire = if closes { None } else { connect(&lane, number, from, timeout).await };
    let (mut request, mut bytes, mut used) = (Vec::with_capacity(2_048), Vec::with_capacity(4_096), Instant::now());
    while let Some(planned) = stage.arrival().await {
        let now = Instant::now();
        let click = lane.next_click(now);
        if now - used > MAX_IDLE {
            wire = None;
        }
        request.clear();
        click.write_http1(&plan.market, &plan.agents, target.host.as_bytes(), closes, &mut request);
        let sent = Cell::new(false);
        let asked = tokio::time::timeout(timeout, async {
            let open = match &mut wire {
                Some(open) => open,
                none => none.insert(plan.connector.http1(target, from).await?),
            };
            sent.set(true);
            http1::ask(open, &request, &mut bytes).await
        });
        match asked.await {
            Ok(Ok(heard)) => {
                used = lane.answered(&stage, &click, planned, &heard.answer);
                if closes {
                    wait_for_end(wire.take(), &mut bytes).await;
                    from = from.wrapping_add(1);
                } else if heard.answer.closes {
                    wire = None;
                }
            }
            asked => {
                wire = None;
                let is_told = asked.is_ok_and(|heard| was_told(heard.err()));
                used = failed(&lane, &stage, &click, sent.get(), is_told).await;
            }
        }
    }
}

/// Tells the lane; returns when it happened.
async fn failed(lane: &Lane, stage: &StageRun, click: &Click, was_sent: bool, is_told: bool) -> Instant {
    let at = lane.failed(stage, click, was_sent, is_told);
    if stage.is_closed_loop() && !was_sent {
        tokio::time::sleep(PAUSE).await;
    }
    at
}

/// Whether the client came to know at once that there was no room: its connection was refused, or reset.
fn was_told(error: Option<io::Error>) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    error.is_some_and(|error| matches!(error.kind(), ConnectionRefused | ConnectionReset))
}

async fn connect(lane: &Lane, number: usize, from: u32, timeout: Duration) -> Option<Wire> {
    let target = &lane.plan.edges[number % lane.plan.edges.len()];
    tokio::time::timeout(timeout, lane.plan.connector.http1(target, from)).await.ok()?.ok()
}

/// The server closes first, and keeps what a closed connection leaves behind: our ports do not run out. Not for ever.
async fn wait_for_end(wire: Option<Wire>, bytes: &mut Vec<u8>) {
    if let Some(mut wire) = wire {
        let _ = tokio::time::timeout(Duration::from_secs(1), wire.read(bytes)).await;
    }
}

/// One stream of a connection of HTTP/2, which it shares with others, or makes for each click.
pub async fn http2(lane: Rc<Lane>, stage: Rc<StageRun>, shared: Rc<Shared>, number: usize) {
    let (plan, timeout) = (&lane.plan, Duration::from_millis(lane.plan.load.timeout_ms));
    let (target, closes) = (&plan.edges[number % plan.edges.len()], plan.load.new_connections);
    let mut bytes = Vec::with_capacity(2_048);
    if !closes {
        let _ = tokio::time::timeout(timeout, shared.ready(&plan.connector, target)).await;
    }
    while let Some(planned) = stage.arrival().await {
        let click = lane.next_click(Instant::now());
        let sent = Cell::new(false);
        let asked = tokio::time::timeout(timeout, async {
            let request = http2::request(&click, &plan.market, &plan.agents, target, &mut bytes)?;
            let requests = shared.ready(&plan.connector, target).await?;
            let answer: Result<Answer, h2::Error> = http2::ask(requests, request, || sent.set(true)).await;
            answer.map_err(std::io::Error::other)
        });
        match asked.await {
            Ok(Ok(answer)) => {
                lane.answered(&stage, &click, planned, &answer);
                if closes {
                    shared.forget().await;
                }
            }
            asked => {
                shared.forget().await;
                let is_told = asked.is_ok_and(|heard| was_told(heard.err()));
                failed(&lane, &stage, &click, sent.get(), is_told).await;
            }
        }
    }
}
