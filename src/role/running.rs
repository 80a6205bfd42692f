//! What every role that runs does alike: the start in phases, the API's thread, the admin listener, signals and the clock,
//! the watch over files, and the drain with a deadline.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::base::Base;
use super::certificates::TlsOfDoors;
use super::signals::{Asked, Signals};
use super::threads::{Guard, Lost};
use super::{Exit, Failure};
use crate::admin::Admin;
use crate::edge::CurrentLists;
use crate::http::{Door, Listener, OnRuntime, router_service};
use crate::spool::Unsealed;
use crate::tls::Server;
use crate::{api, catalog, files, http, tls};

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

/// Why a role ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a signal.
    Asked,
    /// Another process has its ports and answers there.
    HandedOver,
    /// A thread is gone.
    Lost,
}

impl End {
    fn because(self) -> &'static str {
        match self {
            End::Asked => "it was asked to",
            End::HandedOver => "another process took over",
            End::Lost => "a thread is lost",
        }
    }
}

/// Waits until `close` has returned, until the deadline or until a second signal: then the process ends here (contract
/// P7). Threads may hang where they are: nothing answered is lost by leaving them there.
pub async fn drain<T: Send + 'static>(
    base: &Base,
    signals: &mut Signals,
    admin: &Admin,
    end: End,
    close: impl FnOnce() -> T + Send + 'static,
) -> T {
    tracing::info!(because = end.because(), "draining");
    signals.supervisor.stopping();
    let delay = match end {
        // Its port has another process already, which is ready.
        End::HandedOver => {
            admin.hand_over();
            Duration::ZERO
        }
        End::Asked | End::Lost => {
            admin.draining.store(true, Relaxed);
            Duration::from_millis(base.config.shutdown.readiness_delay_ms.0)
        }
    };
    let deadline = deadline(base);
    let closed = async {
        // Load balancers need time to see that this process is not ready; until then its doors are open.
        tokio::time::sleep(delay).await;
        tokio::task::spawn_blocking(close).await.ok()
    };
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
pub fn api_listeners(plain: Vec<TcpListener>, tls: Vec<TcpListener>, server: Option<&Arc<Server>>) -> Vec<Listener> {
    let tls = tls.into_iter().filter_map(|socket| Some(Listener::tls(socket, server?.clone())));
    plain.into_iter().map(Listener::plain).chain(tls).collect()
}

/// The API on a thread of its own: an order is written where it is accepted, and a disk may hold that up.
pub fn serve_api(
    listeners: Vec<Listener>,
    door: Arc<Door>,
    router: axum::Router,
    stop: watch::Receiver<bool>,
    lost: &Lost,
) -> Result<JoinHandle<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let told = stop.clone();
    let guard = lost.guards("api", &stop);
    let serve = move |listener| {
        let (router, handed) = (router.clone(), door.clone());
        let service = move |peer| router_service(router.clone(), handed.clone(), peer, api::refused);
        heard(http::serve(listener, door.clone(), service, OnRuntime, stop.clone()), guard())
    };
    let work = move || {
        runtime.block_on(async {
            let served: Vec<_> = listeners.into_iter().map(|listener| tokio::spawn(serve(listener))).collect();
            for served in served {
                // A panic there was told by its guard.
                let _ = served.await;
            }
        });
    };
    lost.spawn("api", move || *told.borrow(), work)
}

/// One listener of a thread. That it ends by itself is told at once, though others of the thread go on.
pub async fn heard(served: impl Future<Output = io::Result<()>>, guard: Guard) {
    if let Err(error) = served.await {
        tracing::error!(thread = guard.name(), %error, "cannot listen");
    }
}

/// Serves signals and the clock, until a signal says so, `successor` answers in our place, or a thread is lost: one that told
/// it by itself, or one of those that stages keep for themselves, which `lost_of_stages` names.
pub async fn until_asked_to_stop(
    base: &Base,
    signals: &mut Signals,
    reloads: Reloads,
    lost: &Lost,
    lost_of_stages: impl Fn() -> Option<String>,
    successor: impl Future<Output = ()>,
) -> End {
    let mut successor = pin!(successor);
    let mut clock_tick = tokio::time::interval(signals.supervisor.pulse().map_or(LOOK, |pulse| pulse.min(LOOK)));
    let mut reloaded = None;
    signals.supervisor.ready();
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return End::Asked,
                Asked::Reload => {
                    signals.supervisor.reloading();
                    base.key_reloads.reload(&base.config, &base.keys);
                    reloaded = Some(reloads.ask());
                }
            },
            () = all_done(&mut reloaded) => {
                reloaded = None;
                signals.supervisor.ready();
            }
            () = &mut successor => return End::HandedOver,
            _ = clock_tick.tick() => {
                base.clock.discipline();
                lost_of_stages().inspect(|name| lost.tell(name));
                if lost.trouble().is_some() {
                    return End::Lost;
                }
                signals.supervisor.well();
            }
        }
    }
}

/// Whom to ask for a reload. Who is asked gets a share in the wait for all of them, and drops it when it is done.
pub struct Reloads(Vec<SyncSender<Share>>);

type Share = mpsc::Sender<()>;

impl Reloads {
    fn ask(&self) -> mpsc::Receiver<()> {
        let (share, reloaded) = mpsc::channel(1);
        for reload in &self.0 {
            // One that waits already is enough.
            let _ = reload.try_send(share.clone());
        }
        reloaded
    }
}

/// Waits for the end of a reload; for ever where none goes on.
async fn all_done(reloaded: &mut Option<mpsc::Receiver<()>>) {
    match reloaded {
        // Nobody sends anything: it ends when all shares are dropped.
        Some(reloaded) => while reloaded.recv().await.is_some() {},
        None => std::future::pending().await,
    }
}

/// Reads catalog, certificates and lists again when asked and when their files change, each on a thread of its own, until
/// what is returned is dropped.
pub fn watch_files(
    base: &Base,
    tls: &TlsOfDoors,
    lists: Option<&Arc<CurrentLists>>,
    lost: &Lost,
) -> Result<Reloads, Failure> {
    let interval = Some(base.config.catalog.watch_interval_ms.0).filter(|ms| *ms > 0).map(Duration::from_millis);
    let mut reloads = Vec::new();
    let mut watch = |name, work: Box<dyn FnOnce(Receiver<Share>) + Send>| {
        let (ask, asked) = sync_channel(1);
        reloads.push(ask);
        // It returns when what is returned here is dropped, and else only by a panic.
        lost.spawn(name, || true, move || work(asked)).map(drop)
    };
    let (catalog, clock) = (base.catalog.clone(), base.clock.clone());
    watch("catalog", Box::new(move |asked| catalog::watch(&catalog, interval, &asked, &*clock)))?;
    let (servers, clock) = (tls.servers(), base.clock.clone());
    if !servers.is_empty() {
        watch("certificates", Box::new(move |asked| tls::watch(&servers, interval, &asked, &*clock)))?;
    }
    if let Some(lists) = lists.cloned() {
        watch("lists", Box::new(move |asked| files::watch(&[&*lists], interval, &asked)))?;
    }
    Ok(Reloads(reloads))
}

/// It answers until the process ends, as whoever watches a drain wants to see it, or until another one answers there.
pub fn serve_admin(listeners: Vec<TcpListener>, admin: &Arc<Admin>, lost: &Lost) -> Result<(), Failure> {
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::internal)?;
        let (lost, admin) = (lost.clone(), admin.clone());
        let router = admin.clone().router();
        let handed_over = admin.clone();
        let handed_over = async move { handed_over.is_handed_over().await };
        let serving =
            tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(handed_over).await });
        // The end of the process drops both.
        tokio::spawn(async move {
            let _ = serving.await;
            if !admin.was_handed_over() {
                lost.tell("admin");
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::http::{Bodies, Limits};

    /// Nothing can be awaited of a file: as of a listener that broke.
    fn broken() -> Listener {
        Listener::plain(TcpListener::from(OwnedFd::from(tempfile::tempfile().unwrap())))
    }

    fn serve(listeners: Vec<Listener>, stopping: &watch::Receiver<bool>, lost: &Lost) -> JoinHandle<()> {
        let door = Door::new(Limits::new(10), Bodies::Passed, |_| true);
        serve_api(listeners, door, axum::Router::new(), stopping.clone(), lost).unwrap()
    }

    #[test]
    fn p2_an_api_that_cannot_listen_any_more_is_lost() {
        let (_stop, stopping) = watch::channel(false);
        let lost = Lost::default();
        serve(vec![broken()], &stopping, &lost).join().unwrap();
        assert_eq!(lost.or(Exit::Ok).unwrap_err().message, "the api thread has ended by itself");
    }

    #[test]
    fn p2_an_api_of_which_one_listener_is_lost_is_lost_at_once_and_answers_at_the_other() {
        for at in [0, 1] {
            let (stop, stopping) = watch::channel(false);
            let lost = Lost::default();
            let socket = http::listen(([127, 0, 0, 1], 0).into()).unwrap();
            let address = socket.local_addr().unwrap();
            let mut listeners = vec![Listener::plain(socket)];
            listeners.insert(at, broken());
            let api = serve(listeners, &stopping, &lost);
            while lost.trouble().is_none() {
                std::thread::yield_now();
            }
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            stop.send(true).unwrap();
            api.join().unwrap();
            assert_eq!(lost.or(Exit::Ok).unwrap_err().message, "the api thread has ended by itself");
        }
    }

    #[test]
    fn p2_an_api_that_is_told_to_stop_is_not_lost() {
        let (stop, stopping) = watch::channel(false);
        let lost = Lost::default();
        let plain = || Listener::plain(http::listen(([127, 0, 0, 1], 0).into()).unwrap());
        let api = serve(vec![plain(), plain()], &stopping, &lost);
        stop.send(true).unwrap();
        api.join().unwrap();
        assert_eq!(lost.or(Exit::Ok).unwrap(), Exit::Ok);
    }
}
