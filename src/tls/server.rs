//! What is agreed upon with a client: versions, cipher suites, protocols, tickets.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

use super::current::Current;
use super::metrics::Metrics;
use super::sources::{Loaded, Sources};

/// ALPN names of the protocols (RFC 7301).
pub const HTTP2: &[u8] = b"h2";
pub const HTTP1: &[u8] = b"http/1.1";
/// Whether `http` serves HTTP/2: only then it is offered.
pub const OFFERS_HTTP2: bool = true;

/// The TLS of one door, for all its listeners and for as long as the process runs.
pub struct Server {
    pub config: Arc<ServerConfig>,
    pub metrics: Metrics,
    pub current: Current,
}

impl Server {
    /// Fails when the system has no randomness.
    pub fn new(sources: Sources, loaded: Loaded) -> Result<Arc<Server>, rustls::Error> {
        let current = Current::new(sources, loaded);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(current.resolver());
        let offered: &[&[u8]] = if OFFERS_HTTP2 { &[HTTP2, HTTP1] } else { &[HTTP1] };
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        // Sessions lie with the client. Its ticket is good at every worker: they share this and its keys, which change
        // every six hours and are forgotten after twelve. One is enough: browsers come back for a second click at most.
        config.ticketer = Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        // No early data: whoever records a click could send it again.
        config.max_early_data_size = 0;
        Ok(Arc::new(Server { config: Arc::new(config), metrics: Metrics::default(), current }))
    }
}
