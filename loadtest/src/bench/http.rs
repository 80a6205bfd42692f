//! The little of HTTP/1.1 that starting, asking and losing a server takes; the load itself is wrk's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// No answer that we ask for is larger.
const MOST_BYTES: usize = 16 << 20;

pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// A connection that stays open.
pub struct Client {
    stream: TcpStream,
    /// Read and not yet used.
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, buffer: Vec::new() })
    }

    /// `headers` end with `\r\n` each.
    pub fn get(&mut self, target: &str, headers: &str) -> io::Result<Answer> {
        self.stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: go.example\r\n{headers}\r\n").as_bytes())?;
        let head = self.take_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| bad("no status"))?;
        let body = if head.contains("\r\ntransfer-encoding: chunked") {
            self.chunks()?
        } else {
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
            let length = length.map_or(Ok(0), |text| text.trim().parse()).map_err(|_| bad("content-length"))?;
            self.take(length)?
        };
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_until(b"\r\n")?;
            let digits = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| bad("a chunk's size"))?;
            let chunk = self.take(size)?;
            self.take_until(b"\r\n")?;
            if size == 0 {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }

    fn take_until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(place) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return self.take(place + mark.len());
            }
            self.read_more()?;
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.read_more()?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.buffer.len() + count > MOST_BYTES {
            return Err(bad("an answer without end"));
        }
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(())
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

pub fn get(address: SocketAddr, target: &str, headers: &str) -> io::Result<Answer> {
    Client::connect(address)?.get(target, headers)
}

/// So many ports that nobody uses at this moment.
pub fn free_addresses<const COUNT: usize>() -> io::Result<[SocketAddr; COUNT]> {
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); COUNT];
    // All are held until each is known: none is given twice.
    let mut held = Vec::with_capacity(COUNT);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_with_a_length_and_in_chunks_are_read_to_their_end() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answers = [
                "HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nbody",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
                "HTTP/1.1 302 Found\r\n\r\n",
            ];
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut client = Client::connect(address).unwrap();
        let answers: Vec<_> = (0..3).map(|_| client.get("/l1", "").unwrap()).collect();
        let said: Vec<_> = answers.iter().map(|answer| (answer.status, answer.body.as_str())).collect();
        assert_eq!(said, [(302, "body"), (200, "abcd"), (302, "")]);
        assert!(client.get("/l1", "").is_err(), "it hung up");
        server.join().unwrap();
    }
}
