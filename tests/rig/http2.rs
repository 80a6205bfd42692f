//! HTTP/2 from both ends of good manners: a client of the h2 crate, and one that writes whatever frames it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio_rustls::TlsConnector;

use super::tls::{TlsClient, able_http2};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Runs something that speaks by the h2 crate.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// A connection that runs until everybody has dropped it.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("afflux.test").expect("a name");
    let stream = TlsConnector::from(able_http2()).connect(name, socket).await.expect("a handshake");
    let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    requests
}

/// The answer to a request with a body, and the answer's body.
pub async fn send(
    requests: &SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<(Response<()>, Vec<u8>), h2::Error> {
    let mut requests = requests.clone().ready().await?;
    let (answer, mut sending) = requests.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let (head, mut coming) = answer.await?.into_parts();
    let mut all = Vec::new();
    while let Some(chunk) = coming.data().await {
        let chunk = chunk?;
        coming.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok((Response::from_parts(head, ()), all))
}

pub fn request(method: &str, target: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://afflux.test{target}")).body(()).expect("a request")
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of a GOAWAY or RST_STREAM.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A connection whose frames are made by hand.
pub struct Raw(StreamOwned<ClientConnection, TcpStream>);

impl Raw {
    /// Has said the preface and `settings`.
    pub fn connect(address: SocketAddr, settings: &[u8]) -> Raw {
        Raw::over(TcpStream::connect(address).expect("a connection"), settings)
    }

    /// The same on a connection that is there.
    pub fn over(socket: TcpStream, settings: &[u8]) -> Raw {
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let client = TlsClient::over(socket, "afflux.test", &able_http2()).expect("a handshake");
        let mut raw = Raw(client.into_stream());
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, settings)[..]].concat();
        raw.write(&preface).expect("a connection");
        raw
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// The next frame; `None` at the end, whichever way it came.
    pub fn read(&mut self) -> Option<Frame> {
        let head = self.read_bytes(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.read_bytes(length as usize)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads past what could not be written any more: what was said to us before is heard all the same.
    fn read_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let (mut all, mut had) = (vec![0; count], 0);
        while had < count {
            match self.0.conn.reader().read(&mut all[had..]) {
                Ok(0) => return None,
                Ok(more) => had += more,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.0.conn.read_tls(&mut self.0.sock).ok()? == 0 {
                        return None;
                    }
                    self.0.conn.process_new_packets().ok()?;
                }
                Err(_) => return None,
            }
        }
        Some(all)
    }

    /// The first of this kind.
    pub fn read_until(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.read()).find(|frame| frame.kind == kind)
    }

    /// Everything until the other side closes, and how long that took.
    pub fn read_to_close(&mut self) -> (Vec<Frame>, Duration) {
        let begun = Instant::now();
        let frames = std::iter::from_fn(|| self.read()).collect();
        (frames, begun.elapsed())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that nobody indexes (RFC 7541 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer of seven bits, or more behind it (RFC 7541 5.1).
            let mut length = text.len();
            if length < 127 {
                block.push(length as u8);
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                block.push(length as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

pub fn get_block(target: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "https"), (":authority", "afflux.test"), (":path", target)])
}

/// A whole request for `target`.
pub fn get(stream: u32, target: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block(target))
}
