//! Questions to the console and to `/metrics`, one after the other: nothing here has to be fast.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::wire::Target;

/// A report of 100,000 rows takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);

const MAX_ANSWER: u64 = 256 << 20;

/// Status and body.
pub fn get(target: &Target, path: &str, token: Option<&str>) -> anyhow::Result<(u16, Vec<u8>)> {
    ensure!(!target.is_tls, "https://{}: consoles and metrics are asked without TLS", target.host);
    let what = || format!("http://{}{path}", target.host);
    let mut stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(5)).with_context(what)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\n\r\n", target.host)?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).with_context(what)?;
    read(&bytes).with_context(what)
}

pub fn get_json(target: &Target, path: &str, token: &str) -> anyhow::Result<serde_json::Value> {
    let (status, body) = get(target, path, Some(token))?;
    if status != 200 {
        bail!("http://{}{path}: {status} {}", target.host, String::from_utf8_lossy(&body[..body.len().min(500)]));
    }
    Ok(serde_json::from_slice(&body)?)
}

fn read(bytes: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { bail!("the answer ended in its head") };
    let named = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let is_chunked = named("transfer-encoding").is_some_and(|field| field.value.eq_ignore_ascii_case(b"chunked"));
    let length = named("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    let body = if is_chunked { joined(&bytes[head..])? } else { bytes[head..].to_vec() };
    ensure!(length.is_none_or(|length| length == body.len()), "the answer ended in its body");
    Ok((response.code.unwrap_or(0), body))
}

fn joined(mut bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = httparse::parse_chunk_size(bytes).ok().context("a broken chunk")?;
        let httparse::Status::Complete((start, length)) = size else { bail!("the answer ended between chunks") };
        if length == 0 {
            return Ok(body);
        }
        let end = start + length as usize;
        body.extend_from_slice(bytes.get(start..end).context("the answer ended in a chunk")?);
        bytes = bytes.get(end + 2..).context("the answer ended behind a chunk")?;
    }
}

/// Sum of all samples of a metric whose labels contain `label`.
pub fn metric(page: &str, name: &str, label: &str) -> f64 {
    let of_it = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_with_a_length_and_in_chunks_are_read_whole() {
        let plain = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        assert_eq!(plain, (200, b"abc".to_vec()));
        let chunked = b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap(), (404, b"abcde".to_vec()));
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_err());
        assert!(read(&chunked[..60]).is_err());
    }

    #[test]
    fn metrics_are_summed_by_name_and_label() {
        let page = "# HELP a x\na{t=\"clicks\",k=\"1\"} 3\na{t=\"clicks\",k=\"2\"} 4\na{t=\"orders\"} 9\na_total 5\n";
        assert_eq!(metric(page, "a", "t=\"clicks\""), 7.0);
        assert_eq!(metric(page, "a_total", ""), 5.0);
    }
}
