//! What TLS counts: handshakes by what came of them, reloads, and until when each certificate is good.

use std::io::{self, ErrorKind};

use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::server::Server;
use crate::metrics::{Counter, Page, Sample};

/// Of one door; several threads count, and a handshake costs so much that this is nothing.
#[derive(Default)]
pub struct Metrics {
    /// By version (1.2, 1.3), then new and resumed.
    succeeded: [[Counter; 2]; 2],
    failed: [Counter; FAILURES.len()],
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// What came is no TLS: plain HTTP, a scanner.
    Malformed,
    /// No version, suite, curve or protocol that both sides have.
    Incompatible,
    /// The client refused us: it does not trust the certificate, or it is for another name.
    Refused,
    /// The client went away.
    Closed,
    TimedOut,
    /// One too many was under way, and this one for longest.
    CrowdedOut,
    /// Turned away before it began.
    NoRoom,
    Other,
}

const FAILURES: [(Failed, &str); 8] = [
    (Failed::Malformed, "malformed"),
    (Failed::Incompatible, "incompatible"),
    (Failed::Refused, "refused"),
    (Failed::Closed, "closed"),
    (Failed::TimedOut, "timed_out"),
    (Failed::CrowdedOut, "crowded_out"),
    (Failed::NoRoom, "no_room"),
    (Failed::Other, "other"),
];
const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const RESUMED: [&str; 2] = ["false", "true"];

impl Failed {
    pub fn of(error: &io::Error) -> Failed {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match of_tls {
            Some(rustls::Error::AlertReceived(_)) => Failed::Refused,
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => Failed::Incompatible,
            Some(
                rustls::Error::InvalidMessage(_)
                | rustls::Error::PeerMisbehaved(_)
                | rustls::Error::DecryptError
                | rustls::Error::PeerSentOversizedRecord
                | rustls::Error::InappropriateMessage { .. }
                | rustls::Error::InappropriateHandshakeMessage { .. },
            ) => Failed::Malformed,
            Some(_) => Failed::Other,
            None => match error.kind() {
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::NotConnected => Failed::Closed,
                _ => Failed::Other,
            },
        }
    }
}

impl Metrics {
    pub fn succeeded(&self, agreed: &CommonState) {
        let version = usize::from(agreed.protocol_version() == Some(ProtocolVersion::TLSv1_3));
        let resumed = usize::from(agreed.handshake_kind() == Some(HandshakeKind::Resumed));
        self.succeeded[version][resumed].add_shared(1);
    }

    pub fn failed(&self, how: Failed) {
        self.failed[how as usize].add_shared(1);
    }
}

/// Of all doors that speak TLS, by their names.
pub fn write(doors: &[(&str, &Server)], page: &mut Page) {
    write_handshakes(doors, page);
    write_certificates(doors, page);
}

fn write_handshakes(doors: &[(&str, &Server)], page: &mut Page) {
    let mut labels = Vec::new();
    for (door, server) in doors {
        for (version, counted) in VERSIONS.iter().zip(&server.metrics.succeeded) {
            for (resumed, counter) in RESUMED.iter().zip(counted) {
                labels.push(([("door", *door), ("version", *version), ("resumed", *resumed)], counter.value()));
            }
        }
    }
    page.counter("afflux_tls_handshakes_total", "Handshakes that succeeded.", &samples(&labels));
    let mut labels = Vec::new();
    for (door, server) in doors {
        for ((_, kind), counter) in FAILURES.iter().zip(&server.metrics.failed) {
            labels.push(([("door", *door), ("kind", *kind)], counter.value()));
        }
    }
    page.counter("afflux_tls_handshake_failures_total", "Handshakes that failed, by why.", &samples(&labels));
}

fn write_certificates(doors: &[(&str, &Server)], page: &mut Page) {
    let (mut results, mut taken, mut expiries) = (Vec::new(), Vec::new(), Vec::new());
    for (door, server) in doors {
        let current = &server.current;
        results.push(([("door", *door), ("result", "success")], current.succeeded.value()));
        results.push(([("door", *door), ("result", "failure")], current.failed.value()));
        taken.push(([("door", *door)], u8::from(current.last_reload_successful())));
        for (name, certificate) in current.certificates().served() {
            expiries.push((*door, name, certificate.algorithm.to_string(), certificate.not_after.0 / 1_000));
        }
    }
    page.counter("afflux_tls_reloads_total", "Reloads of certificates by result.", &samples(&results));
    let help = "1 when the last reload of the certificates was taken.";
    page.gauge("afflux_tls_last_reload_successful", help, &samples(&taken));
    let labels: Vec<_> = expiries
        .iter()
        .map(|(door, name, algorithm, at)| ([("door", *door), ("name", name), ("algorithm", algorithm)], *at))
        .collect();
    let help = "Until when each certificate is good.";
    page.gauge("afflux_tls_certificate_expires_timestamp_seconds", help, &samples(&labels));
}

fn samples<'a, V: Copy, const N: usize>(labels: &'a [([(&'a str, &'a str); N], V)]) -> Vec<Sample<'a, V>> {
    labels.iter().map(|(labels, value)| (&labels[..], *value)).collect()
}
