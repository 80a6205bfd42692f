//! What every role that runs does alike: the start in phases, the API's thread, the admin listener, signals and the clock,
//! the catalog's watch, and the drain with a deadline.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::base::Base;
use super::certificates::TlsOfDoors;
use super::signals::{Asked, Signals};
use super::threads::Lost;
use super::{Exit, Failure};
use crate::admin::Admin;
use crate::http::{Door, Listener, OnRuntime, router_service};
use crate::spool::Unsealed;
use crate::tls::Server;
use crate::{api, catalog, http};

/// Between looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// Takes the signals over, builds on a thread of its own (configuration, everything that can be wrong, listeners), then runs
/// what was built on this one.
pub fn start<T, R>(
    build: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    run: impl FnOnce(T, Signals) -> R,
) -> Result<Exit, Failure>
where
    T: Send + 'static,
    R: Future<Output = Result<Exit, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let mut signals = runtime.block_on(async { Signals::listen() }).map_err(Failure::internal)?;
    let exit = runtime.block_on(async {
        match signals.during(build).await? {
            Some(built) => run(built, signals).await,
            None => Ok(Exit::Ok),
        }
    });
    // A start that was given up still goes on: it is not waited for.
    runtime.shutdown_background();
    exit
}

/// How long a stop may take.
pub fn deadline(base: &Base) -> Duration {
    Duration::from_secs(base.config.shutdown.deadline_s.0)
}

/// Waits until `close` has returned, until the deadline or until a second signal: then the process ends here (contract
/// P7). Threads may hang where they are: nothing answered is lost by leaving them there.
pub async fn drain<T: Send + 'static>(
    base: &Base,
    signals: &mut Signals,
    admin: &Admin,
    close: impl FnOnce() -> T + Send + 'static,
) -> T {
    tracing::info!("draining");
    admin.draining.store(true, Relaxed);
    let deadline = deadline(base);
    let closed = async { tokio::task::spawn_blocking(close).await.ok() };
    let done = tokio::select! {
        done = closed => done,
        () = tokio::time::sleep(deadline) => None,
        () = signals.stop() => None,
    };
    if let Some(done) = done {
        return done;
    }
    tracing::error!("not drained in time");
    std::process::exit(i32::from(Exit::Internal.code()));
}

/// Clean, unless something of a spool did not reach the disk.
pub fn stopped(unsealed: &[Unsealed]) -> Result<Exit, Failure> {
    for Unsealed { spool, topic, unsynced } in unsealed {
        let topic = topic.name();
        tracing::error!(%spool, topic, unsynced, "not sealed: its disk fails; the next start seals what it finds");
    }
    if unsealed.is_empty() {
        tracing::info!("stopped");
        return Ok(Exit::Ok);
    }
    let (spools, records) = (unsealed.len(), unsealed.iter().map(|spool| spool.unsynced).sum::<u64>());
    Err(Failure::io(format!("stopped, but {records} records of {spools} spools are not known to be on disk")))
}

/// Of the API: plain, and over TLS where it has a certificate.
pub fn api_listeners(plain: TcpListener, tls: Option<TcpListener>, server: Option<&Arc<Server>>) -> Vec<Listener> {
    let tls = tls.zip(server).map(|(socket, server)| Listener::tls(socket, server.clone()));
    std::iter::once(Listener::plain(plain)).chain(tls).collect()
}

/// The API on a thread of its own: an order is written where it is accepted, and a disk may hold that up.
pub fn serve_api(
    listeners: Vec<Listener>,
    door: Arc<Door>,
    router: axum::Router,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let serve = move |listener| {
        let (router, handed) = (router.clone(), door.clone());
        let service = move |peer| router_service(router.clone(), handed.clone(), peer, api::refused);
        http::serve(listener, door.clone(), service, OnRuntime, stop.clone())
    };
    let work = move || {
        runtime.block_on(async {
            let served: Vec<_> = listeners.into_iter().map(|listener| tokio::spawn(serve(listener))).collect();
            for served in served {
                // A panic there was told by the task itself.
                if let Ok(Err(error)) = served.await {
                    tracing::error!(%error, "the API cannot listen");
                }
            }
        });
    };
    std::thread::Builder::new().name("api".into()).spawn(work).map_err(Failure::internal)
}

/// Serves signals and the clock, until a signal says so or a thread is lost.
pub async fn until_asked_to_stop(base: &Base, signals: &mut Signals, reloads: Reloads, lost: &Lost) {
    let mut clock_tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return,
                Asked::Reload => {
                    base.key_reloads.reload(&base.config, &base.keys);
                    for reload in &reloads.0 {
                        // One that waits already is enough.
                        let _ = reload.try_send(());
                    }
                }
            },
            _ = clock_tick.tick() => {
                base.clock.discipline();
                if lost.trouble().is_some() {
                    return;
                }
            }
        }
    }
}

/// Whom to ask for a reload.
pub struct Reloads(Vec<SyncSender<()>>);

/// Reloads catalog and certificates when it is asked to and when their files change, until what is returned is dropped.
pub fn watch_files(base: &Base, tls: &TlsOfDoors) -> Result<Reloads, Failure> {
    Ok(Reloads(vec![watch_catalog(base)?, tls.watch(base)?]))
}

fn watch_catalog(base: &Base) -> Result<SyncSender<()>, Failure> {
    let interval = Some(base.config.catalog.watch_interval_ms.0).filter(|ms| *ms > 0).map(Duration::from_millis);
    let (ask, asked) = sync_channel(1);
    let (current, clock) = (base.catalog.clone(), base.clock.clone());
    let thread = std::thread::Builder::new().name("catalog".into());
    thread.spawn(move || catalog::watch(&current, interval, &asked, &*clock)).map_err(Failure::internal)?;
    Ok(ask)
}

pub fn serve_admin(listener: TcpListener, admin: Arc<Admin>) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::internal)?;
    // It answers until the process ends: whoever watches a drain wants to see it.
    tokio::spawn(async move { axum::serve(listener, admin.router()).await });
    Ok(())
}
