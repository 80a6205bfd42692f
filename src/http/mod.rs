//! HTTP as strangers speak it: hyper's connections, and around them what hyper lacks.
//!
//! Between socket and hyper stands a [`guard`] that reads every request head first: it holds the limits (contract E33),
//! refuses malformed HTTP (E36-E38), keeps bodies from a door that wants none (E35), and makes of what it refuses a
//! well-formed request that only says so, so that every answer, refusals too, leaves through hyper in its order and is
//! counted where all answers are. One sweep a second over a door's connections ends the slow and the idle ones: no timer
//! is ever set for a connection.
//!
//! Where proxies connect for others ([`proxied`]) each connection first says for whom.
//!
//! Where a listener speaks TLS a [`handshake`] comes first; the guard then stands between TLS and hyper. There ALPN may
//! agree upon HTTP/2: then [`requests`] makes of each stream what HTTP/1 would have brought, and a [`frame_guard`] holds
//! what h2 does not: the times, and how much may be said that is no request.
//!
//! When more come than can be served a [`rush`] lets no more in than get their turn, and shuts the [`gate`] when too many
//! wait for theirs.
//!
//! Both doors use it: the edge with a service of its own, the API with an axum router (`router`).

mod accept;
mod addresses;
mod connection;
mod forgotten;
mod frame_guard;
mod frames;
mod gate;
mod guard;
mod handshake;
mod head;
mod http2;
#[cfg(test)]
mod http2_tests;
mod limits;
mod listen;
mod places;
#[cfg(any(test, fuzzing))]
pub mod probes;
mod proxied;
pub mod proxy_header;
mod refusal;
mod request_line;
mod requests;
mod reserve;
mod router;
mod rush;
mod serve;
mod streams;
#[cfg(test)]
mod tests;
mod turns;
mod watch;
mod wire;

pub use addresses::{PerAddress, Trusted};
pub use forgotten::forget_body;
pub use limits::{Bodies, Limits};
pub use listen::{is_shut, listen, wait_for_words};
pub use places::{Cause, Door};
pub use proxied::INTRODUCED;
pub use refusal::{RETRY_AFTER_S, Refusal};
pub use router::router_service;
pub use serve::{Listener, OnRuntime, OnThread, Spawn, serve};
