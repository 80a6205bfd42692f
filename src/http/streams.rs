//! The streams of one HTTP/2 connection as its frames tell, and how much the client may say that is no request.
//!
//! Pure. Times are ticks, tenths of a second.

use super::frames::{CONTINUATION, DATA, Frame, HEADERS, RST_STREAM};

/// Frames that a client may send at once without asking or telling anything by them: resets, pings, settings, window
/// updates, continuations, small parts of bodies, whatever is unknown. One more, and the connection ends (RFC 9113 10.5).
const SPARE: u32 = 200;
/// So many more each tick, and with each answer: browsers say a frame or two about each request.
const SPARE_EACH_TICK: u32 = 2;
const SPARE_EACH_ANSWER: u32 = 1;
/// And with each frame of DATA that we send: it is taken with an update of two windows.
const SPARE_EACH_DATA: u32 = 2;
/// DATA of fewer bytes is one of these frames, unless it ends a body.
const SMALL_BYTES: u32 = 256;
/// Streams that may be open here: those that are served, and those of which h2 has not yet said that they are too many.
/// One more, and the connection ends.
const MOST_OPEN: usize = 1_024;
/// No answer of a service is shorter as a list of fields: status, date and a length of two bytes, a number and its own
/// length, which is never put into HPACK's table. h2's own answer to a list that is too large is a status alone.
const SHORTEST_ANSWER_BYTES: u32 = 6;

/// The client says too much that is no request.
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

struct Stream {
    id: u32,
    /// Its body has not ended.
    has_body: bool,
    /// Its answer has begun and not ended.
    is_answered: bool,
}

pub struct Streams {
    /// In the order of their numbers.
    open: Vec<Stream>,
    newest: u32,
    /// A CONTINUATION must follow.
    in_headers: bool,
    spare: u32,
    spare_at: u32,
    pub tally: Tally,
}

/// What happened since it was last looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub opened: u64,
    /// By the client.
    pub resets: u64,
    pub body_ended: bool,
    /// A part of an answer was sent.
    pub answered: bool,
    /// Answered by h2 itself, as there was too much to read: 431.
    pub too_large: u64,
}

impl Streams {
    pub fn new(now: u32) -> Streams {
        let (open, tally) = (Vec::new(), Tally::default());
        Streams { open, newest: 0, in_headers: false, spare: SPARE, spare_at: now, tally }
    }

    /// A frame from the client.
    pub fn came(&mut self, frame: Frame, now: u32) -> Result<(), Flood> {
        self.gain(now.saturating_sub(self.spare_at).saturating_mul(SPARE_EACH_TICK));
        self.spare_at = now;
        match frame.kind {
            HEADERS => {
                self.in_headers = !frame.ends_headers();
                if frame.stream > self.newest {
                    return self.opens(frame);
                }
                self.body_ends(frame);
                self.spend()
            }
            DATA if self.body_ends(frame) || (frame.length >= SMALL_BYTES && !frame.ends_stream()) => Ok(()),
            CONTINUATION => {
                self.in_headers = !frame.ends_headers();
                self.spend()
            }
            RST_STREAM => {
                self.tally.resets += 1;
                self.close(frame.stream);
                self.spend()
            }
            _ => self.spend(),
        }
    }

    /// A frame from us.
    pub fn went(&mut self, frame: Frame) {
        match frame.kind {
            HEADERS | DATA => {
                self.tally.answered = true;
                if frame.kind == DATA && frame.length > 0 {
                    self.gain(SPARE_EACH_DATA);
                }
                if frame.ends_stream() {
                    self.gain(SPARE_EACH_ANSWER);
                    let is_status_alone = frame.kind == HEADERS && frame.length < SHORTEST_ANSWER_BYTES;
                    self.tally.too_large += u64::from(is_status_alone);
                    self.close(frame.stream);
                } else if let Some(stream) = self.stream(frame.stream) {
                    stream.is_answered = true;
                }
            }
            RST_STREAM => self.close(frame.stream),
            _ => {}
        }
    }

    /// The highest number that the client has used.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    pub fn are_none(&self) -> bool {
        self.open.is_empty()
    }

    pub fn in_headers(&self) -> bool {
        self.in_headers
    }

    pub fn any_has_body(&self) -> bool {
        self.open.iter().any(|stream| stream.has_body)
    }

    /// The client has a part of an answer and not yet taken the rest.
    pub fn any_is_answered(&self) -> bool {
        self.open.iter().any(|stream| stream.is_answered)
    }

    fn opens(&mut self, frame: Frame) -> Result<(), Flood> {
        self.newest = frame.stream;
        self.tally.opened += 1;
        if self.open.len() == MOST_OPEN {
            return Err(Flood);
        }
        self.open.push(Stream { id: frame.stream, has_body: !frame.ends_stream(), is_answered: false });
        Ok(())
    }

    /// Whether the frame ends a body that had not ended.
    fn body_ends(&mut self, frame: Frame) -> bool {
        let ended = frame.ends_stream()
            && self.stream(frame.stream).is_some_and(|stream| std::mem::replace(&mut stream.has_body, false));
        self.tally.body_ended |= ended;
        ended
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let index = self.open.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.open.get_mut(index)
    }

    fn close(&mut self, id: u32) {
        if let Ok(index) = self.open.binary_search_by_key(&id, |stream| stream.id) {
            self.open.remove(index);
        }
    }

    fn gain(&mut self, more: u32) {
        self.spare = self.spare.saturating_add(more).min(SPARE);
    }

    fn spend(&mut self) -> Result<(), Flood> {
        self.spare = self.spare.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::Frames;
    use super::*;

    const PING: u8 = 6;

    fn frame(length: u32, kind: u8, flags: u8, stream: u32) -> Frame {
        let [_, a, b, c] = length.to_be_bytes();
        let [w, x, y, z] = stream.to_be_bytes();
        let mut found = None;
        let told: Result<(), ()> = Frames::after(0).read(&[a, b, c, kind, flags, w, x, y, z], |frame| {
            found = Some(frame);
            Ok(())
        });
        told.unwrap();
        found.unwrap()
    }

    fn last_before_flood(streams: &mut Streams, now: u32, frames: impl Fn(u32) -> Frame) -> u32 {
        (0..100_000).find(|number| streams.came(frames(*number), now).is_err()).unwrap()
    }

    #[test]
    fn e33_what_is_no_request_has_a_bound_that_grows_with_time() {
        for kind in [2, RST_STREAM, 4, PING, 8, CONTINUATION, 77] {
            let mut streams = Streams::new(1);
            assert_eq!(last_before_flood(&mut streams, 1, |_| frame(8, kind, 0, 1)), SPARE);
            assert_eq!(last_before_flood(&mut streams, 11, |_| frame(8, kind, 0, 1)), 10 * SPARE_EACH_TICK);
            assert_eq!(last_before_flood(&mut streams, 1_000_000, |_| frame(8, kind, 0, 1)), SPARE);
        }
        let mut streams = Streams::new(1);
        streams.came(frame(9, HEADERS, 4, 1), 1).unwrap();
        assert_eq!(last_before_flood(&mut streams, 1, |_| frame(0, DATA, 0, 1)), SPARE);
        assert_eq!(streams.came(frame(0, DATA, 1, 1), 1), Ok(()), "the end of the body");
        assert_eq!(streams.came(frame(0, DATA, 1, 1), 1), Err(Flood), "and again");
    }

    #[test]
    fn requests_and_answers_are_free_and_reset_ones_are_not() {
        let mut streams = Streams::new(1);
        for id in (1..200_001).step_by(2) {
            streams.came(frame(9, HEADERS, 5, id), 1).unwrap();
            assert!(!streams.are_none());
            streams.came(frame(4, 8, 0, id), 1).unwrap();
            streams.went(frame(9, HEADERS, 5, id));
            assert!(streams.are_none());
        }
        assert_eq!((streams.tally.opened, streams.newest()), (100_000, 199_999));
        let reset = |number: u32| {
            let (kind, flags) = if number.is_multiple_of(2) { (HEADERS, 5) } else { (RST_STREAM, 0) };
            frame(4, kind, flags, 300_001 + number / 2 * 2)
        };
        assert_eq!(last_before_flood(&mut streams, 1, reset), 2 * SPARE + 1);
        assert!(streams.are_none());
        let crowd = |number| frame(9, HEADERS, 5, 500_001 + number * 2);
        assert_eq!(last_before_flood(&mut streams, 1, crowd), MOST_OPEN as u32);
    }

    #[test]
    fn bodies_and_answers_are_known_while_they_last() {
        let mut streams = Streams::new(1);
        streams.came(frame(9, HEADERS, 0, 1), 1).unwrap();
        assert!(streams.in_headers() && streams.any_has_body());
        streams.came(frame(9, CONTINUATION, 4, 1), 1).unwrap();
        assert!(!streams.in_headers());
        streams.came(frame(9, HEADERS, 4, 3), 1).unwrap();
        streams.came(frame(9, DATA, 1, 1), 1).unwrap();
        assert!(streams.any_has_body() && streams.tally.body_ended && !streams.any_is_answered());
        streams.went(frame(9, HEADERS, 4, 1));
        assert!(streams.any_is_answered() && streams.tally.answered);
        streams.went(frame(9, DATA, 1, 1));
        assert!(!streams.any_is_answered() && streams.any_has_body());
        // We answer without the body, and say that we want none of it.
        streams.went(frame(9, HEADERS, 5, 3));
        streams.went(frame(4, RST_STREAM, 0, 3));
        assert!(streams.are_none() && !streams.any_has_body());
    }

    #[test]
    fn e33_an_answer_of_a_status_alone_is_one_that_no_service_made() {
        let mut streams = Streams::new(1);
        for (id, length, flags) in [(1, 1, 5), (3, 5, 5), (5, 6, 5), (7, 1, 4)] {
            streams.came(frame(9, HEADERS, 5, id), 1).unwrap();
            streams.went(frame(length, HEADERS, flags, id));
        }
        streams.went(frame(0, DATA, 1, 7));
        assert_eq!((streams.tally.too_large, streams.are_none()), (2, true));
    }
}
