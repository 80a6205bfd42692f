//! A plain HTTP/1.1 client over one connection that is kept alive. It knows what tests need and hides nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// The value of a query parameter of `Location`.
    pub fn location_parameter(&self, name: &str) -> Option<String> {
        let query = self.header("location")?.split('#').next()?.split_once('?')?.1;
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        pair.map(str::to_owned)
    }

    pub fn click_id(&self) -> String {
        self.location_parameter("click_id").unwrap_or_else(|| panic!("no click ID: {self:?}"))
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client { address, connection: None }
    }

    /// The next request goes over a connection that one went over before.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.try_request("GET", target, headers, b"").expect("an answer")
    }

    pub fn post_json(&mut self, target: &str, token: &str, body: &serde_json::Value) -> Response {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        self.try_request("POST", target, &headers, body.to_string().as_bytes()).expect("an answer")
    }

    /// One request, one answer; an error means that no complete answer came.
    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: afflux.test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let result = self.exchange(head.as_bytes(), body, method == "HEAD");
        if !matches!(&result, Ok(response) if response.header("connection") != Some("close")) {
            self.connection = None;
        }
        result
    }

    fn exchange(&mut self, head: &[u8], body: &[u8], bodiless: bool) -> std::io::Result<Response> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().expect("just made");
        connection.get_mut().write_all(&[head, body].concat())?;
        read_response(connection, bodiless)
    }
}

/// Sends raw bytes on a new connection and reads until the other side closes or is silent for a second.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    // The other side may close before it has read everything; what it said before is what counts.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn read_response(from: &mut impl BufRead, bodiless: bool) -> std::io::Result<Response> {
    let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(ended());
    }
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(ended)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(ended());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut response = Response { status, headers, body: Vec::new() };
    let length: usize = response.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if response.header("transfer-encoding").is_some() {
        read_chunks(from, &mut response.body)?;
    } else if !bodiless {
        response.body.resize(length, 0);
        from.read_exact(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        from.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(());
        }
    }
}
