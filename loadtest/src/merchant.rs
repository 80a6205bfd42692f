//! A merchant's backend: reports orders and refunds on one connection, until each is accepted.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http1;
use crate::lane::Lane;
use crate::orders::{Kind, Post};
use crate::wire::Wire;

/// A connection that was idle for longer may be closed by now.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// Runs as long as its lane.
pub async fn work(lane: Rc<Lane>, number: usize) {
    let (mut wire, mut used) = (None, Instant::now());
    let (mut request, mut bytes) = (Vec::new(), Vec::with_capacity(4_096));
    while let Some(post) = lane.posts.take().await {
        if used.elapsed() > MAX_IDLE {
            wire = None;
        }
        write_request(&lane, &post, number, &mut request);
        let timeout = Duration::from_millis(lane.plan.load.timeout_ms);
        let asked = tokio::time::timeout(timeout, ask(&lane, &mut wire, number, &request, &mut bytes)).await;
        used = Instant::now();
        let Ok(Ok((status, head_length))) = asked else {
            wire = None;
            lane.not_accepted(post, used, false);
            continue;
        };
        let body = &bytes[head_length.min(bytes.len())..];
        match status {
            202 => lane.accepted(&post, body, used),
            429 | 503 => lane.not_accepted(post, used, true),
            _ => lane.refused(
                &post,
                &format!("{status} {}", String::from_utf8_lossy(&body[..body.len().min(200)])),
                used,
            ),
        }
    }
}

fn write_request(lane: &Lane, post: &Post, number: usize, to: &mut Vec<u8>) {
    let (path, body) = (if post.kind == Kind::Report { "conversions" } else { "refunds" }, &post.body);
    let token = lane.token_of(post);
    let host = &lane.plan.intakes[number % lane.plan.intakes.len()].host;
    to.clear();
    to.extend_from_slice(
        format!(
            "POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
}

async fn ask(
    lane: &Lane,
    wire: &mut Option<Wire>,
    number: usize,
    request: &[u8],
    bytes: &mut Vec<u8>,
) -> std::io::Result<(u16, usize)> {
    let target = &lane.plan.intakes[number % lane.plan.intakes.len()];
    let mut open = match wire.take() {
        Some(open) => open,
        None => lane.plan.connector.http1(target, number as u32).await?,
    };
    let heard = http1::ask(&mut open, request, bytes).await?;
    if !heard.answer.closes {
        *wire = Some(open);
    }
    Ok((heard.answer.status, heard.head_length))
}
