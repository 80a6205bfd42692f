//! Every bound of a door, and what happens there (contract E33-E35).

use std::time::Duration;

use super::addresses::PerAddress;

/// Request line without its line end; one byte more: 414 and close.
pub const REQUEST_LINE_BYTES: usize = 8_192;
/// Name, value and 4 of every header field together; more: 431 and close.
pub const FIELDS_BYTES: usize = 16_384;
/// Header fields; one more: 431 and close.
pub const FIELDS: usize = 64;
/// White space around values is not counted in `FIELDS_BYTES`; with it a head may be this much longer.
const PADDING_BYTES: usize = 1_024;
/// Empty lines before a request line, RFC 9112 2.2; more: 400 and close.
pub const LEADING_BYTES: usize = 64;
/// An unfinished head longer than this is refused without waiting for its end.
pub const HEAD_BYTES: usize = LEADING_BYTES + REQUEST_LINE_BYTES + 2 + FIELDS_BYTES + PADDING_BYTES;

/// The body that a door without bodies reads and forgets; a longer one closes the connection after the answer.
pub const FORGOTTEN_BODY_BYTES: u64 = 8_192;
/// What is still read from a client that we have said goodbye to, so that it reads our answer instead of a reset.
pub const FAREWELL_BYTES: usize = 262_144;

/// TLS handshakes of one listener at a time. One more, and the one that has been at it for longest is closed and counted:
/// it is the one that is least likely to come to an end. A core agrees upon fewer than this in a quarter of a second.
pub const HANDSHAKES: usize = 1_024;
/// Of these, those that have sent something and wait for the processor; while so many do, nobody else begins. A tenth of a
/// second's work of a core.
pub const HANDSHAKES_WAITING: usize = 400;

/// HTTP/2: streams of one connection at a time; one more is refused (REFUSED_STREAM), and the client may try it again.
pub const STREAMS: u32 = 100;
/// Bytes of `:path`; one more: 414.
pub const PATH_BYTES: usize = 8_000;
/// A list of fields as RFC 9113 6.5.2 counts it; more: 431.
pub const LIST_BYTES: usize = 16_384;
/// A list so long is not kept while it is read; h2 answers 431 itself, and no service hears of it: `Streams` counts that.
pub const UNREADABLE_LIST_BYTES: u32 = 32_768;
/// Payload of one frame; more is an error of the connection.
pub const FRAME_BYTES: u32 = 16_384;
/// What a client may send of one body, and of all, before somebody has read it: that much memory it can take.
pub const FORGOTTEN_WINDOW_BYTES: u32 = 16_384;
pub const PASSED_WINDOW_BYTES: u32 = 65_536;
pub const CONNECTION_WINDOW_BYTES: u32 = 65_536;
/// Of the answer of one stream, waiting for the client's window.
pub const SEND_BYTES: usize = 16_384;
/// Streams that were opened and reset before we came to hear them; one more ends the connection (CVE-2023-44487).
pub const RESETS_BEFORE_HEARD: usize = 20;
/// Streams that we have reset because they were in error; one more ends the connection.
pub const OWN_RESETS: usize = 64;

/// The bounds that an operator sets, and the times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the door; one more is answered 503.
    pub connections: usize,
    /// `None`: no address is counted.
    pub per_address: Option<PerAddress>,
    /// Connections beyond those that are heard for a moment, to be answered 503 in their turn.
    pub surplus: usize,
    /// Connections beyond even those: answered 503 without being heard, and kept open until they may have read it. One
    /// more, and the one that has been leaving for longest is closed.
    pub leaving: usize,
    /// From the accept to the end of the TLS handshake; then the connection closes. Half a second, between two sweeps of a
    /// TLS listener, is not counted: it closes after 4.5 to 5 s.
    pub handshake: Duration,
    /// From the first byte of a head to its end; then the connection closes silently.
    pub head: Duration,
    /// Between two requests, or before the first; then the connection closes.
    pub idle: Duration,
    /// From the end of a head to the end of its body.
    pub body: Duration,
    /// Without the client taking a byte of its answer.
    pub write: Duration,
    /// From our goodbye to the client's.
    pub farewell: Duration,
}

impl Limits {
    pub fn new(connections: usize) -> Limits {
        let surplus = (connections / 8).clamp(256, 1_024);
        Limits {
            connections,
            per_address: None,
            surplus,
            leaving: surplus / 4,
            handshake: Duration::from_millis(4_750),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(60),
            write: Duration::from_secs(10),
            farewell: Duration::from_secs(2),
        }
    }

    /// As many of `connections` as fit into `descriptors`, with some more that are only told that there is no room.
    pub fn within(connections: usize, descriptors: usize) -> Limits {
        let least_rest = (descriptors / 32).max(8).min(descriptors / 8);
        let connections = connections.min(descriptors - least_rest);
        let usual = Limits::new(connections);
        let rest = descriptors - connections;
        let leaving = usual.leaving.min(rest / 5);
        Limits { surplus: usual.surplus.min(rest - leaving), leaving, ..usual }
    }

    /// File descriptors that the door takes at most.
    pub fn descriptors(&self) -> usize {
        self.connections + self.surplus + self.leaving
    }
}

/// What a door does with request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// The service never sees one. Up to 8 KiB are read and forgotten, else the connection closes after the answer.
    Forgotten,
    /// The service reads them.
    Passed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e33_a_door_never_takes_more_descriptors_than_it_has() {
        for descriptors in [0, 1, 9, 64, 300, 1_000, 9_856, 11_280, 1_000_000] {
            for connections in [1, 20, 10_000, 1_000_000] {
                let limits = Limits::within(connections, descriptors);
                assert!(limits.descriptors() <= descriptors, "{connections} in {descriptors}: {limits:?}");
                assert!(limits.connections <= connections && (descriptors == 0 || limits.connections > 0));
            }
        }
        assert_eq!(Limits::within(10_000, 20_000).connections, 10_000);
        assert_eq!(Limits::within(10_000, 20_000).surplus, 1_024);
        assert_eq!(Limits::within(10_000, 9_000).connections, 8_719);
    }
}
