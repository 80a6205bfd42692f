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
use super::house::House;
use super::signals::{Asked, Signals};
use super::threads::Lost;
use super::{Exit, Failure};
use crate::admin::Admin;
use crate::http::{Door, OnRuntime, router_service};
use crate::spool::Unsealed;
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

/// The API on a thread of its own: an order is written where it is accepted, and a disk may hold that up.
pub fn serve_api(
    listener: TcpListener,
    door: Arc<Door>,
    router: axum::Router,
    stop: watch::Receiver<bool>,
    lost: &Lost,
) -> Result<JoinHandle<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let (handed, told) = (door.clone(), stop.clone());
    let service = move |peer| router_service(router.clone(), handed.clone(), peer, api::refused);
    let work = move || {
        if let Err(error) = runtime.block_on(http::serve(listener, door, service, OnRuntime, stop)) {
            tracing::error!(%error, "the API cannot listen");
        }
    };
    lost.spawn("api", move || *told.borrow(), work)
}

/// Serves signals and the clock, until a signal says so or a thread is lost: one that told it by itself, or one of those
/// that stages keep for themselves, which `lost_of_stages` names.
pub async fn until_asked_to_stop(
    base: &Base,
    signals: &mut Signals,
    reloads: &[SyncSender<()>],
    lost: &Lost,
    lost_of_stages: impl Fn() -> Option<String>,
) {
    let mut clock_tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return,
                Asked::Reload => {
                    base.key_reloads.reload(&base.config, &base.keys);
                    for reload in reloads {
                        // One that waits already is enough.
                        let _ = reload.try_send(());
                    }
                }
            },
            _ = clock_tick.tick() => {
                base.clock.discipline();
                lost_of_stages().inspect(|name| lost.tell(name));
                if lost.trouble().is_some() {
                    return;
                }
            }
        }
    }
}

/// Reads the lists of bots and data centres again when asked and when they change, until what is returned is dropped.
pub fn watch_lists(house: &House, lost: &Lost) -> Result<SyncSender<()>, Failure> {
    let (interval, lists) = (watch_interval(house), house.lists.clone());
    let (ask, asked) = sync_channel(1);
    // As with the catalog.
    lost.spawn("lists", || true, move || lists.watch(interval, &asked))?;
    Ok(ask)
}

fn watch_interval(base: &Base) -> Option<Duration> {
    Some(base.config.catalog.watch_interval_ms.0).filter(|ms| *ms > 0).map(Duration::from_millis)
}

/// Reloads the catalog when it is asked to and when its files change, until what is returned is dropped.
pub fn watch_catalog(base: &Base, lost: &Lost) -> Result<SyncSender<()>, Failure> {
    let interval = watch_interval(base);
    let (ask, asked) = sync_channel(1);
    let (current, clock) = (base.catalog.clone(), base.clock.clone());
    // It returns when what is returned here is dropped, and else only by a panic.
    lost.spawn("catalog", || true, move || catalog::watch(&current, interval, &asked, &*clock))?;
    Ok(ask)
}

/// It answers until the process ends: whoever watches a drain wants to see it.
pub fn serve_admin(listener: TcpListener, admin: Arc<Admin>, lost: &Lost) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::internal)?;
    let lost = lost.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, admin.router()).await });
    // The end of the process drops both.
    tokio::spawn(async move {
        let _ = serving.await;
        lost.tell("admin");
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::http::{Bodies, Limits};

    #[test]
    fn p2_an_api_that_cannot_listen_any_more_is_lost() {
        // Nothing can be awaited of a file: as of a listener that broke.
        let listener = TcpListener::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        let (_stop, stopping) = watch::channel(false);
        let (door, lost) = (Door::new(Limits::new(10), Bodies::Passed, |_| true), Lost::default());
        serve_api(listener, door, axum::Router::new(), stopping, &lost).unwrap().join().unwrap();
        assert_eq!(lost.or(Exit::Ok).unwrap_err().message, "the api thread has ended by itself");
    }
}
