//! HTTP/1.1 by hand: one request written, one answer read, nothing allocated on the way.

use std::io;

use crate::click::Answer;
use crate::wire::Wire;

/// Of heads and bodies together; more is no answer of this server.
const MAX_ANSWER: usize = 1 << 20;

const MAX_FIELDS: usize = 32;

/// `bytes` holds the answer afterwards, and its head has this length.
pub struct Heard {
    pub answer: Answer,
    pub head_length: usize,
}

/// Asks, and reads the whole answer. After an error the connection is of no use any more.
pub async fn ask(wire: &mut Wire, request: &[u8], bytes: &mut Vec<u8>) -> io::Result<Heard> {
    // Whoever is turned away may be told so before all was said.
    let written = wire.write(request).await;
    bytes.clear();
    loop {
        if wire.read(bytes).await? == 0 {
            written?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((heard, body_length)) = head(bytes)? {
            while bytes.len() < heard.head_length + body_length {
                if wire.read(bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(heard);
        }
        if bytes.len() > MAX_ANSWER {
            return Err(io::Error::other("an answer without an end"));
        }
    }
}

/// The head once it is whole, and the length of the body.
fn head(bytes: &[u8]) -> io::Result<Option<(Heard, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_length) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let mut answer = Answer { status: response.code.unwrap_or(0), ..Answer::default() };
    let mut body_length = None;
    for field in response.headers.iter() {
        answer.hear(field.name, field.value);
        if field.name.eq_ignore_ascii_case("content-length") {
            body_length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse::<usize>().ok());
        } else if field.name.eq_ignore_ascii_case("connection") {
            answer.closes |= field.value.eq_ignore_ascii_case(b"close");
        }
    }
    // Whoever asks for no more than this program does is always told a length.
    let body_length = body_length.filter(|length| *length <= MAX_ANSWER);
    let body_length = body_length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok(Some((Heard { answer, head_length }, body_length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let id = "E".repeat(48);
        let text = format!(
            "HTTP/1.1 302 Found\r\nlocation: https://shop.example/p?click_id={id}\r\nset-cookie: aff_vid={}; Path=/\r\n\
             content-length: 3\r\nConnection: close\r\n\r\nabc",
            "c".repeat(22)
        );
        assert!((0..text.len() - 3).all(|end| head(&text.as_bytes()[..end]).unwrap().is_none()));
        let (heard, body_length) = head(text.as_bytes()).unwrap().unwrap();
        assert_eq!((heard.answer.status, heard.answer.closes, body_length), (302, true, 3));
        assert_eq!(&text[heard.head_length..], "abc");
        assert!(heard.answer.click_id.is_some() && heard.answer.cookie.is_some());
    }

    #[test]
    fn garbage_and_endless_bodies_are_errors() {
        for text in
            ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"]
        {
            assert!(head(text.as_bytes()).is_err(), "{text}");
        }
    }
}
