use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::message::{Message, VERSION};
use super::*;

fn sockets(count: usize) -> Vec<Named> {
    let socket = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut sockets: Vec<Named> = (0..count).map(|_| Named { door: DoorName::Edge, socket: socket() }).collect();
    sockets.push(Named { door: DoorName::Admin, socket: socket() });
    sockets
}

fn offer(of: &[Named]) -> Arc<Offer> {
    Offer::of(of.iter().map(|named| (named.door, named.socket.as_fd()))).unwrap()
}

/// An old process; what is returned hears when it drains.
fn old(path: &Path, offer: &Arc<Offer>) -> Receiver<()> {
    let (drain, drained) = channel();
    let offered = Offered::at(path, "serve", offer.clone()).unwrap();
    std::thread::spawn(move || offered.serve(move || drain.send(()).unwrap()));
    drained
}

fn running(path: &Path) -> (Predecessor, Vec<Named>) {
    match ask(path, "serve").unwrap() {
        Found::Running(predecessor, sockets) => (predecessor, sockets),
        Found::Nobody => panic!("nobody"),
    }
}

#[test]
fn p10_all_sockets_come_with_their_doors_and_what_waits_in_their_queues() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let ours = sockets(150);
    let waiting = TcpStream::connect(ours[7].socket.local_addr().unwrap()).unwrap();
    let offer = offer(&ours);
    let drained = old(&path, &offer);
    let (predecessor, theirs) = running(&path);
    assert_eq!(predecessor.pid(), Some(std::process::id() as i32));
    let all = |sockets: &[Named]| -> Vec<_> {
        sockets.iter().map(|named| (named.door, named.socket.local_addr().unwrap())).collect()
    };
    assert_eq!(all(&theirs), all(&ours));
    assert!(drained.try_recv().is_err(), "it was not told yet");
    drop(ours);
    offer.close();
    let (_, from) = theirs[7].socket.accept().unwrap();
    assert_eq!(from, waiting.local_addr().unwrap());
    predecessor.drain().unwrap();
    drained.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn p10_whoever_is_gone_before_it_is_ready_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let ours = sockets(3);
    let offer = offer(&ours);
    let drained = old(&path, &offer);
    drop(wire::connect(&path, Duration::from_secs(5)).unwrap());
    drop(running(&path));
    let said = wire::connect(&path, Duration::from_secs(5)).unwrap().unwrap();
    said.send(&Message::Ready, &[]).unwrap();
    assert_eq!(said.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(drained.try_recv().is_err());
    // And the next one gets them all.
    let (predecessor, theirs) = running(&path);
    assert_eq!(theirs.len(), 4);
    predecessor.drain().unwrap();
    drained.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn p10_another_role_or_version_and_a_process_that_stops_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let ours = sockets(1);
    let offer = offer(&ours);
    let drained = old(&path, &offer);
    let refused = |asked: Result<Found, AskError>| match asked {
        Err(AskError::Refused(why)) => why,
        _ => panic!("not refused"),
    };
    assert_eq!(refused(ask(&path, "edge")), "serve runs here, not edge");
    let link = wire::connect(&path, Duration::from_secs(5)).unwrap().unwrap();
    link.send(&Message::Hello { version: VERSION + 1, role: "serve".into() }, &[]).unwrap();
    assert!(matches!(link.receive().unwrap().0, Message::Refused { why } if why.starts_with("version 1 ")));
    offer.close();
    assert_eq!(refused(ask(&path, "serve")), "it is stopping already");
    assert!(drained.try_recv().is_err());
}

#[test]
fn p10_nobody_there_is_no_error_and_what_is_left_of_a_dead_process_is_nobody() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    assert!(matches!(ask(&path, "serve"), Ok(Found::Nobody)));
    drop(wire::listen(&path).unwrap());
    assert!(path.exists() && matches!(ask(&path, "serve"), Ok(Found::Nobody)));
    // A later process has the name.
    let drained = old(&path, &offer(&sockets(1)));
    running(&path).0.drain().unwrap();
    drained.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn p10_who_keeps_nothing_on_its_disk_can_be_taken_over_from_too() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(&home.path().join("data/of/a/console"), "console");
    let offered = Offered::at(&path, "console", Arc::default()).unwrap();
    assert!(path.exists());
    drop(offered);
}

#[test]
fn p10_only_this_user_may_ask() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let _listener = wire::listen(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn p10_a_deep_data_directory_is_no_hindrance() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("d".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    let path = socket_path(&deep, "serve");
    let drained = old(&path, &offer(&sockets(1)));
    running(&path).0.drain().unwrap();
    drained.recv_timeout(Duration::from_secs(10)).unwrap();
}

/// A process that says something else than it should.
fn asked_of(liar: impl FnOnce(wire::Link) + Send + 'static) -> Result<Found, AskError> {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let listener = wire::listen(&path).unwrap();
    let lying = std::thread::spawn(move || {
        let link = wire::accept(&listener).unwrap();
        link.receive().unwrap();
        liar(link);
    });
    let found = ask(&path, "serve");
    lying.join().unwrap();
    found
}

#[test]
fn p10_what_is_no_listener_or_not_what_was_said_is_not_taken() {
    let listener = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let one = Message::Sockets { door: DoorName::Edge, count: 1 };
    let file = tempfile::tempfile().unwrap();
    let message = one.clone();
    let found = asked_of(move |link| link.send(&message, &[file.as_fd()]).unwrap());
    assert!(matches!(found, Err(AskError::Io(_))));
    let message = one.clone();
    let found = asked_of(move |link| {
        let connected = TcpStream::connect(listener().local_addr().unwrap());
        let other = listener();
        let socket = TcpStream::connect(other.local_addr().unwrap()).or(connected).unwrap();
        link.send(&message, &[socket.as_fd()]).unwrap();
    });
    assert!(matches!(found, Err(AskError::Io(_))));
    for (message, sockets) in [(one.clone(), 0), (one.clone(), 2), (Message::All { count: 1 }, 0), (Message::Ready, 0)]
    {
        let found = asked_of(move |link| {
            let sockets: Vec<_> = (0..sockets).map(|_| listener()).collect();
            let all: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            link.send(&message, &all).unwrap();
        });
        assert!(matches!(found, Err(AskError::Unexpected)));
    }
}

#[test]
fn p10_a_listener_that_is_shut_in_a_rush_is_taken_and_a_connection_that_it_accepted_is_not() {
    let one = Message::Sockets { door: DoorName::Edge, count: 1 };
    let listener = || crate::http::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let (shut, open) = (listener(), listener());
    let _client = TcpStream::connect(open.local_addr().unwrap()).unwrap();
    let accepted = loop {
        match open.accept() {
            Ok((accepted, _)) => break accepted,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    let (shuts, takes) = (Arc::new(shut), one.clone());
    let of_old = shuts.clone();
    let found = asked_of(move |link| {
        rustix::net::shutdown(&*of_old, rustix::net::Shutdown::Read).unwrap();
        link.send(&takes, &[of_old.as_fd()]).unwrap();
        link.send(&Message::All { count: 1 }, &[]).unwrap();
    });
    let Ok(Found::Running(_, sockets)) = found else { panic!("not taken") };
    assert_eq!(sockets[0].socket.local_addr().unwrap(), shuts.local_addr().unwrap());
    let found = asked_of(move |link| link.send(&one, &[accepted.as_fd()]).unwrap());
    assert!(matches!(found, Err(AskError::Io(_))));
}

#[test]
fn p10_of_a_process_that_dies_on_the_way_what_it_gave_is_taken() {
    for count in [0, 2] {
        let found = asked_of(move |link| {
            for named in &sockets(count)[..count] {
                link.send(&Message::Sockets { door: named.door, count: 1 }, &[named.socket.as_fd()]).unwrap();
            }
        });
        let Ok(Found::Running(predecessor, sockets)) = found else { panic!("refused") };
        assert_eq!(sockets.len(), count);
        assert!(matches!(predecessor.drain(), Err(AskError::Io(_))));
    }
}

#[test]
fn p10_an_old_process_that_waits_no_longer_is_asked_once_more() {
    let home = tempfile::tempdir().unwrap();
    let path = socket_path(home.path(), "serve");
    let listener = wire::listen(&path).unwrap();
    let old = std::thread::spawn(move || {
        for waits in [false, true] {
            let link = wire::accept(&listener).unwrap();
            assert!(matches!(link.receive().unwrap().0, Message::Hello { .. }));
            link.send(&Message::All { count: 0 }, &[]).unwrap();
            if waits {
                assert_eq!(link.receive().unwrap().0, Message::Ready);
                link.send(&Message::Draining, &[]).unwrap();
            }
        }
    });
    running(&path).0.drain().unwrap();
    old.join().unwrap();
}

#[test]
fn p10_messages_are_read_strictly() {
    let all = [
        Message::Hello { version: 1, role: "serve".into() },
        Message::Sockets { door: DoorName::EdgeTls, count: 64 },
        Message::All { count: 0 },
        Message::Ready,
        Message::Draining,
        Message::Refused { why: "it is late, come again".into() },
    ];
    for message in all {
        assert_eq!(Message::parse(&message.text()), Some(message));
    }
    for wrong in [
        "",
        "ready ",
        " ready",
        "READY",
        "all",
        "all -1",
        "all +1",
        "all 1 2",
        "sockets door 1",
        "sockets edge",
        "afflux takeover",
        "afflux takeover x serve",
        "afflux takeover 1 serve edge",
        "all 99999999999",
    ] {
        assert_eq!(Message::parse(wrong), None, "{wrong:?}");
    }
}
