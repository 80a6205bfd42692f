//! One request head, read strictly: where it ends, what body follows, and what hyper shall see of it.
//!
//! Pure. Everything that two readers of HTTP/1 could read in two ways is refused (RFC 9112; contract E33, E36-E38).

use memchr::memchr;

use super::limits::{FIELDS, FIELDS_BYTES, HEAD_BYTES, LEADING_BYTES, REQUEST_LINE_BYTES};
use super::refusal::Refusal;
use super::request_line::{self, is_token};

/// A complete head that is in order.
#[derive(Debug)]
pub struct Head {
    /// Bytes up to and with the empty line.
    pub length: usize,
    pub body: Body,
    /// A field `Expect`: the client may wait with the body.
    pub expects: bool,
    /// The request line as hyper must see it, when it is not the one that was sent.
    new_line: Option<Vec<u8>>,
    line_end: usize,
    /// Where field `i` starts, and at `count` where the empty line does.
    starts: [u16; FIELDS + 1],
    count: usize,
    /// Bit `i`: the service reads field `i`.
    kept: u64,
    /// Bit `i`: field `i` tells how the body or the connection goes on.
    framing: u64,
    upgrades: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Tells which fields the service reads; the name as sent. The others never reach hyper, which is half of what a head
/// costs.
pub type Keeps = fn(&[u8]) -> bool;

impl Head {
    /// Reads the head at the start of `bytes`, which must have one's end in it (`find_end`).
    pub fn read(bytes: &[u8], keeps: Keeps) -> Result<Head, Refusal> {
        let (line_start, line_end) = line_of_request(bytes)?;
        let new_line = request_line::check(trim_line_end(&bytes[line_start..line_end]))?;
        let mut head = Head {
            length: 0,
            body: Body::None,
            expects: false,
            new_line,
            line_end,
            starts: [0; FIELDS + 1],
            count: 0,
            kept: 0,
            framing: 0,
            upgrades: false,
        };
        head.read_fields(bytes, keeps)?;
        let old = trim_line_end(&bytes[line_start..line_end]).ends_with(b"HTTP/1.0");
        if old && head.body == Body::Chunked {
            return Err(Refusal::Malformed);
        }
        Ok(head)
    }

    fn read_fields(&mut self, bytes: &[u8], keeps: Keeps) -> Result<(), Refusal> {
        let (mut at, mut size, mut hosts, mut length) = (self.line_end, 0, 0, None);
        loop {
            let end = at + 1 + memchr(b'\n', &bytes[at..]).ok_or(Refusal::Malformed)?;
            let line = trim_line_end(&bytes[at..end]);
            self.starts[self.count] = u16::try_from(at).map_err(|_| Refusal::FieldsTooLarge)?;
            at = end;
            if line.is_empty() {
                break;
            }
            let (name, value) = field(line)?;
            size += name.len() + value.len() + 4;
            if self.count == FIELDS || size > FIELDS_BYTES {
                return Err(Refusal::FieldsTooLarge);
            }
            let bit = 1 << self.count;
            self.kept |= if keeps(name) { bit } else { 0 };
            self.count += 1;
            let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
            match name.len() {
                4 if is(b"host") => hosts += 1,
                6 if is(b"expect") => (self.expects, self.framing) = (true, self.framing | bit),
                7 if is(b"upgrade") => (self.upgrades, self.framing) = (true, self.framing | bit),
                10 if is(b"connection") => self.framing |= bit,
                14 if is(b"content-length") => {
                    // Two of them are refused, equal or not.
                    if length.replace(content_length(value)?).is_some() {
                        return Err(Refusal::Malformed);
                    }
                    self.framing |= bit;
                }
                17 if is(b"transfer-encoding") => {
                    if self.body == Body::Chunked {
                        return Err(Refusal::Malformed);
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::UnknownCoding);
                    }
                    self.body = Body::Chunked;
                    self.framing |= bit;
                }
                _ => {}
            }
        }
        self.length = at;
        let needs_host = !trim_line_end(&bytes[..self.line_end]).ends_with(b"HTTP/1.0");
        match (self.body, length) {
            (Body::Chunked, Some(_)) => return Err(Refusal::Malformed),
            (Body::None, Some(length)) if length > 0 => self.body = Body::Length(length),
            _ => {}
        }
        if hosts > 1 || (needs_host && hosts == 0) { Err(Refusal::Malformed) } else { Ok(()) }
    }

    /// Whether hyper may see the head as it is but for fields that nobody reads.
    pub fn is_plain(&self) -> bool {
        self.new_line.is_none() && !self.upgrades
    }

    /// Takes the fields that nobody reads out of `head`, in place, and returns its new length.
    pub fn compact(&self, head: &mut [u8]) -> usize {
        let (mut from, mut to) = (usize::from(self.starts[0]), usize::from(self.starts[0]));
        for index in 0..=self.count {
            let end = if index == self.count { self.length } else { usize::from(self.starts[index + 1]) };
            if index == self.count || self.shows(index) {
                if from != to {
                    head.copy_within(from..end, to);
                }
                to += end - from;
            }
            from = end;
        }
        to
    }

    /// The head written anew: what keeps hyper from understanding it is put right, and if `last` the connection closes
    /// after the answer and hyper hears of no body.
    pub fn rewrite(&self, head: &[u8], last: bool, hides_body: bool, out: &mut Vec<u8>) {
        match &self.new_line {
            Some(line) => out.extend_from_slice(line),
            None => out.extend_from_slice(&head[..self.line_end]),
        }
        for index in 0..self.count {
            let line = &head[usize::from(self.starts[index])..usize::from(self.starts[index + 1])];
            let name_length = memchr(b':', line).unwrap_or(0);
            let is = |wanted: &[u8]| line[..name_length].eq_ignore_ascii_case(wanted);
            let dropped = self.framing & (1 << index) != 0
                && (is(b"upgrade")
                    || is(b"connection") && last
                    || hides_body && (is(b"content-length") || is(b"transfer-encoding") || is(b"expect")));
            if self.shows(index) && !dropped {
                out.extend_from_slice(line);
            }
        }
        out.extend_from_slice(if last { b"connection: close\r\n\r\n" } else { b"\r\n" });
    }

    fn shows(&self, index: usize) -> bool {
        (self.kept | self.framing) & (1 << index) != 0
    }
}

/// The end of the head that starts at 0, if it is there, looking only from `from` on (where an earlier look ended).
/// Refuses a head that has no end and is too long already, or begins like none: garbage may never have an end.
pub fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    // Empty lines before the request line end nothing.
    let first = leading(bytes)?;
    let mut at = from.max(first).saturating_sub(2).max(first);
    while let Some(found) = memchr(b'\n', &bytes[at..]) {
        at += found + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Ok(Some(at + 1)),
            [b'\r', b'\n', ..] => return Ok(Some(at + 2)),
            _ => {}
        }
    }
    match memchr(b'\n', &bytes[first..]) {
        None if !request_line::may_become_one(&bytes[first..]) => return Err(Refusal::Malformed),
        None if bytes.len() > first + REQUEST_LINE_BYTES + 1 => return Err(Refusal::LineTooLong),
        Some(end) if from <= first + end => {
            let (start, end) = line_of_request(bytes)?;
            request_line::check(trim_line_end(&bytes[start..end]))?;
        }
        _ => {}
    }
    if bytes.len() > HEAD_BYTES { Err(Refusal::FieldsTooLarge) } else { Ok(None) }
}

/// How many bytes of empty lines stand before the request line.
fn leading(bytes: &[u8]) -> Result<usize, Refusal> {
    let length = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if length > LEADING_BYTES { Err(Refusal::Malformed) } else { Ok(length) }
}

/// Start of the request line, and start of the line after it.
fn line_of_request(bytes: &[u8]) -> Result<(usize, usize), Refusal> {
    let start = leading(bytes)?;
    let end = start + 1 + memchr(b'\n', &bytes[start..]).ok_or(Refusal::Malformed)?;
    if trim_line_end(&bytes[start..end]).len() > REQUEST_LINE_BYTES {
        return Err(Refusal::LineTooLong);
    }
    Ok((start, end))
}

/// Name and trimmed value of a line; folded lines, spaces around the name and controls are malformed.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|byte| !is_token(*byte)).ok_or(Refusal::Malformed)?;
    if colon == 0 || line[colon] != b':' {
        return Err(Refusal::Malformed);
    }
    let value = &line[colon + 1..];
    let controls = value.iter().fold(false, |any, byte| any | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f));
    if controls { Err(Refusal::Malformed) } else { Ok((&line[..colon], value.trim_ascii())) }
}

/// Digits only: no sign, list or white space inside.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or(Refusal::Malformed)
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, Refusal> {
        assert_eq!(find_end(text.as_bytes(), 0), Ok(Some(text.len())), "{text:?}");
        Head::read(text.as_bytes(), |_| true)
    }

    fn rewritten(text: &str, last: bool, hides_body: bool) -> String {
        let mut out = Vec::new();
        read(text).unwrap().rewrite(text.as_bytes(), last, hides_body, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn e36_e38_what_two_readers_could_read_in_two_ways_is_refused() {
        use Refusal::{Malformed, UnknownCoding};
        let line = "GET / HTTP/1.1\r\nHost: x\r\n";
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        let cases = [
            (format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 3, 3\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: +5\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: -5\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 0x5\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 5 5\r\n\r\n"), Malformed),
            (format!("{post}Content-Length:\r\n\r\n"), Malformed),
            (format!("{post}Content-Length: 99999999999999999999\r\n\r\n"), Malformed),
            (format!("{post}Transfer-Encoding: gzip\r\n\r\n"), UnknownCoding),
            (format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"), UnknownCoding),
            (format!("{post}Transfer-Encoding: identity\r\n\r\n"), UnknownCoding),
            (format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), UnknownCoding),
            (format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), Malformed),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), Malformed),
            (format!("{line}A: b\r\n c\r\n\r\n"), Malformed),
            (format!("{line}A: b\r\n\tc\r\n\r\n"), Malformed),
            (format!("{line}A : b\r\n\r\n"), Malformed),
            (format!("{line} A: b\r\n\r\n"), Malformed),
            (format!("{line}: b\r\n\r\n"), Malformed),
            (format!("{line}garbage\r\n\r\n"), Malformed),
            (format!("{line}A: b\0\r\n\r\n"), Malformed),
            (format!("{line}A: b\rc\r\n\r\n"), Malformed),
            (format!("{line}A: b\x7f\r\n\r\n"), Malformed),
            (format!("{line}A\u{e9}: b\r\n\r\n"), Malformed),
            (format!("{line}Host: y\r\n\r\n"), Malformed),
            ("GET / HTTP/1.1\r\n\r\n".into(), Malformed),
            ("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n".into(), Malformed),
            ("PRI * HTTP/2.0\r\n\r\n".into(), Malformed),
            ("GET / HTTP/1.2\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET / http/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET phone HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET :// HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET 1a://h/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET a_b://h/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("POST  HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("G\u{e9}T / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("GET /\r\nHost: x\r\n\r\n".into(), Malformed),
            (" GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Malformed),
            ("\u{16}\u{3}\u{1}garbage\r\n\r\n".into(), Malformed),
        ];
        for (text, refusal) in cases {
            assert_eq!(read(&text).err(), Some(refusal), "{text:?}");
        }
    }

    #[test]
    fn heads_in_order_tell_their_body() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Body::None),
            ("GET / HTTP/1.0\r\n\r\n", Body::None),
            ("\r\n\r\nGET / HTTP/1.1\r\nhost: \u{e9}\r\n\r\n", Body::None),
            ("GET / HTTP/1.1\nHOST: x\n\n", Body::None),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", Body::None),
            ("POST / HTTP/1.1\r\nHost: x\r\ncontent-length:\t007 \r\n\r\n", Body::Length(7)),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n", Body::Chunked),
        ];
        for (text, body) in cases {
            let head = read(text).unwrap();
            assert_eq!((head.length, head.body, head.is_plain()), (text.len(), body, true), "{text:?}");
        }
    }

    #[test]
    fn e2_e3_targets_are_put_right() {
        let cases = [
            ("GET http://h.example/phone?a=b", "GET /phone?a=b"),
            ("GET HTTPS://u@h.example:1", "GET /"),
            ("GET http://h.example?a", "GET /?a"),
            ("GET a1+b-c.d://h.example/p", "GET /p"),
            ("GET /p?a=\"<b>`{c}\\", "GET /p?a=%22%3Cb%3E%60%7Bc%7D%5C"),
            ("CONNECT h.example:443", "OTHER *"),
            ("REFUSED /400", "OTHER /400"),
            ("FOO bar", "FOO *"),
            ("OPTIONS *", "OPTIONS *"),
        ];
        for (line, wanted) in cases {
            let text = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(rewritten(&text, false, true), format!("{wanted} HTTP/1.1\r\nHost: x\r\n\r\n"), "{line}");
        }
    }

    #[test]
    fn a_last_request_says_so_and_hidden_bodies_leave_no_trace() {
        let text = "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nA: b\r\nUpgrade: h2c\r\n\
                    Connection: keep-alive\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(rewritten(text, true, true), "PUT / HTTP/1.1\r\nHost: x\r\nA: b\r\nconnection: close\r\n\r\n");
        assert!(rewritten(text, false, true).ends_with("A: b\r\nConnection: keep-alive\r\n\r\n"));
        assert!(rewritten(text, true, false).ends_with("A: b\r\nContent-Length: 9\r\nconnection: close\r\n\r\n"));
    }

    #[test]
    fn fields_that_nobody_reads_are_taken_out_in_place() {
        let mut text =
            *b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nCookie: a=b\r\nDNT: 1\r\nConnection: close\r\n\r\nGET";
        let head = Head::read(&text, |name| name.eq_ignore_ascii_case(b"cookie")).unwrap();
        let length = head.compact(&mut text[..head.length]);
        assert_eq!(&text[..length], b"GET / HTTP/1.1\r\nCookie: a=b\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn e33_limits_hold_to_the_byte() {
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(length - 14));
        assert!(read(&line(REQUEST_LINE_BYTES)).is_ok());
        assert_eq!(read(&line(REQUEST_LINE_BYTES + 1)).err(), Some(Refusal::LineTooLong));
        // `Host: x` counts 4 + 1 + 4.
        let fields = |length: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(length - 14));
        assert!(read(&fields(FIELDS_BYTES)).is_ok());
        assert_eq!(read(&fields(FIELDS_BYTES + 1)).err(), Some(Refusal::FieldsTooLarge));
        let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        assert!(read(&many(FIELDS)).is_ok());
        assert_eq!(read(&many(FIELDS + 1)).err(), Some(Refusal::FieldsTooLarge));
        assert_eq!(find_end("\r\n".repeat(40).as_bytes(), 0), Err(Refusal::Malformed));
        assert_eq!(find_end("a".repeat(REQUEST_LINE_BYTES + 2).as_bytes(), 0), Err(Refusal::LineTooLong));
        assert_eq!(find_end(format!("{GET}{}", "a".repeat(HEAD_BYTES)).as_bytes(), 0), Err(Refusal::FieldsTooLarge));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n\r", 0), Ok(None));
    }

    const GET: &str = "GET / HTTP/1.1\r\n";

    #[test]
    fn e38_garbage_is_refused_before_it_has_an_end() {
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"PRI * HTTP/2",
            b"\r\n\0",
            b" GET",
            b"GET  ",
            b"GET / FTP",
            b"GET / HTTP/1.1 ",
            b"GET / HTTP/1.2",
            b"GET /\x01",
            b"GET /#",
            b"GET /\r",
            b"GET\n",
            b"GET /\nHost: x\n",
            b"\xffgarbage",
        ] {
            assert_eq!(find_end(garbage, 0), Err(Refusal::Malformed), "{garbage:?}");
        }
        let whole = b"\r\nM-SEARCH http://h/?a=\"b\" HTTP/1.0\r\nHost: x\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(find_end(&whole[..length], 0), Ok(None), "{length}");
        }
    }

    #[test]
    fn an_end_is_found_wherever_the_last_look_ended() {
        for text in ["\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nrest", "GET / HTTP/1.1\nA: b\n\nrest"] {
            let end = text.find("rest").unwrap();
            for from in 0..end {
                assert_eq!(find_end(text.as_bytes(), from), Ok(Some(end)), "{from}");
            }
        }
    }
}
