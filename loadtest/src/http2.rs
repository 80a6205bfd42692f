//! HTTP/2 over the h2 crate: several requests at a time on one connection.

use std::io;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Request, Uri};
use tokio::sync::Mutex;

use crate::agents::Agents;
use crate::click::{Answer, Click};
use crate::market::Market;
use crate::wire::{Connector, Target};

/// One connection, made when it is needed, and anew after anything wrong.
pub struct Shared {
    requests: Mutex<Option<SendRequest<Bytes>>>,
    number: u32,
}

impl Shared {
    pub fn new(number: u32) -> Shared {
        Shared { requests: Mutex::new(None), number }
    }

    /// Who comes first makes it, and the others wait.
    pub async fn ready(&self, connector: &Connector, target: &Target) -> io::Result<SendRequest<Bytes>> {
        let mut held = self.requests.lock().await;
        if let Some(requests) = held.as_ref() {
            return Ok(requests.clone());
        }
        let stream = connector.http2(target, self.number).await?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        // What is wrong with it, its requests are told.
        tokio::task::spawn_local(async move { drop(connection.await) });
        *held = Some(requests.clone());
        Ok(requests)
    }

    pub async fn forget(&self) {
        *self.requests.lock().await = None;
    }
}

pub fn request(
    click: &Click,
    market: &Market,
    agents: &Agents,
    target: &Target,
    bytes: &mut Vec<u8>,
) -> io::Result<Request<()>> {
    bytes.clear();
    bytes.extend_from_slice(b"https://");
    bytes.extend_from_slice(target.host.as_bytes());
    click.write_target(market, bytes);
    let uri = Uri::try_from(bytes.as_slice()).map_err(io::Error::other)?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = click.agent(agents).fields.clone();
    if let Some(cookie) = &click.cookie {
        let value = [b"aff_vid=", &cookie[..]].concat();
        request.headers_mut().insert("cookie", HeaderValue::from_bytes(&value).map_err(io::Error::other)?);
    }
    if click.is_prefetch {
        request.headers_mut().insert("sec-purpose", HeaderValue::from_static("prefetch"));
    }
    Ok(request)
}

/// `sent` is told just before the request leaves.
pub async fn ask(requests: SendRequest<Bytes>, request: Request<()>, sent: impl FnOnce()) -> Result<Answer, h2::Error> {
    let mut requests = requests.ready().await?;
    sent();
    let (coming, _) = requests.send_request(request, true)?;
    let (head, mut body) = coming.await?.into_parts();
    let mut answer = Answer { status: head.status.as_u16(), ..Answer::default() };
    head.headers.iter().for_each(|(name, value)| answer.hear(name.as_str(), value.as_bytes()));
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
    }
    Ok(answer)
}
