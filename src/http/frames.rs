//! Heads of HTTP/2 frames in a stream of bytes, however it is cut (RFC 9113 4.1).
//!
//! Pure.

/// What a client says before its first frame (RFC 9113 3.4).
pub const PREFACE_BYTES: u32 = 24;
const HEAD_BYTES: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the payload.
    pub length: u32,
    pub kind: u8,
    flags: u8,
    pub stream: u32,
}

impl Frame {
    fn of(head: &[u8; HEAD_BYTES]) -> Frame {
        let [a, b, c, kind, flags, w, x, y, z] = *head;
        let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
        Frame { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// Of DATA and HEADERS: its side says no more in this stream.
    pub fn ends_stream(self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// Of HEADERS and CONTINUATION: no CONTINUATION follows.
    pub fn ends_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

/// GOAWAY with ENHANCE_YOUR_CALM: streams up to `last` may have been answered (RFC 9113 6.8, 7).
pub fn calm_down(last: u32) -> [u8; HEAD_BYTES + 8] {
    let mut frame = [0; HEAD_BYTES + 8];
    (frame[2], frame[3]) = (8, GOAWAY);
    frame[9..13].copy_from_slice(&last.to_be_bytes());
    frame[16] = 0xb;
    frame
}

/// Where one direction of a connection stands.
pub struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of `head` that came.
    have: usize,
    /// Bytes of the payload, or of the preface, that are still to come.
    left: u32,
    kind: u8,
}

impl Frames {
    /// `left` bytes come before the first frame.
    pub fn after(left: u32) -> Frames {
        Frames { head: [0; HEAD_BYTES], have: 0, left, kind: HEADERS }
    }

    /// Goes through `bytes` and tells each frame as soon as its head is whole. Ends where `each` fails.
    pub fn read<E>(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let now = bytes.len().min(self.left as usize);
                self.left -= now as u32;
                bytes = &bytes[now..];
                continue;
            }
            let now = bytes.len().min(HEAD_BYTES - self.have);
            self.head[self.have..self.have + now].copy_from_slice(&bytes[..now]);
            self.have += now;
            bytes = &bytes[now..];
            if self.have == HEAD_BYTES {
                let frame = Frame::of(&self.head);
                (self.have, self.left, self.kind) = (0, frame.length, frame.kind);
                each(frame)?;
            }
        }
        Ok(())
    }

    /// Whether a frame has begun and is not whole.
    pub fn is_within(&self) -> bool {
        self.have > 0 || self.left > 0
    }

    /// The same for all frames but DATA, which may come as slowly as a body may.
    pub fn is_within_control(&self) -> bool {
        self.have > 0 || (self.left > 0 && self.kind != DATA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 3, 1, 5, 0x80, 0, 0, 1, 7, 7, 7]);
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 1, 0]);
        bytes.extend([0, 1, 0, 9, 0, 0, 0, 0, 3]);
        bytes.resize(bytes.len() + 255, 9);
        for step in [1, 2, 5, 9, 10, 1_000] {
            let (mut frames, mut found) = (Frames::after(PREFACE_BYTES), Vec::new());
            for chunk in bytes.chunks(step) {
                let all: Result<(), ()> = frames.read(chunk, |frame| {
                    found.push((frame.length, frame.kind, frame.stream, frame.ends_stream(), frame.ends_headers()));
                    Ok(())
                });
                all.unwrap();
            }
            assert_eq!(found, [(3, 1, 1, true, true), (0, 0, 256, true, false), (256, 9, 3, false, false)]);
            assert!(frames.is_within() && frames.is_within_control());
            frames.read(&[9], |_| Err(())).unwrap();
            assert!(!frames.is_within());
        }
        assert_eq!(calm_down(5), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 11]);
    }
}
