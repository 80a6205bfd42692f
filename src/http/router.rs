//! An axum router behind a door.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::ServiceExt;

use super::forgotten::Passed;
use super::places::Door;
use super::refusal::Refusal;

/// The service for one connection from `peer`, which handlers find as `ConnectInfo<SocketAddr>`. What the guard refused
/// is answered by `refused`, which also counts it.
pub fn router_service(
    router: Router,
    door: Arc<Door>,
    peer: SocketAddr,
    refused: fn(Refusal) -> Response,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Send {
    service_fn(move |mut request: Request<Incoming>| {
        let refusal = Refusal::of(request.method(), request.uri());
        request.extensions_mut().insert(ConnectInfo(peer));
        let (router, door) = (router.clone(), door.clone());
        async move {
            let answer = match refusal {
                Some(refusal) => refused(refusal),
                None => router.oneshot(Passed::of(request)).await?,
            };
            Ok(door.say_last(answer))
        }
    })
}
