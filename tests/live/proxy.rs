//! A TCP proxy that is slow, cuts, or swallows, as a network does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// Each piece waits for the proxy's delay, both ways.
    Delay,
    /// Open connections are reset, new ones too.
    Reset,
    /// Connections open and nothing passes, both ways.
    BlackHole,
    /// What clients send arrives; what servers answer does not: the client cannot know what was done.
    HalfOpen,
}

pub struct Proxy {
    pub address: String,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

/// Sees each piece before it is passed on, and may change it; `true`: it is of an answer.
pub type Watch = dyn Fn(&mut Vec<u8>, bool) + Send + Sync;

struct State {
    fault: AtomicU8,
    delay_ms: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
    target: Mutex<String>,
    watch: Box<Watch>,
    closed: AtomicBool,
}

impl Proxy {
    /// Listens on `address` (port 0: any) and leads to `target`.
    pub fn start(address: &str, target: &str) -> Proxy {
        Proxy::watched(address, target, Box::new(|_, _| {}))
    }

    pub fn watched(address: &str, target: &str, watch: Box<Watch>) -> Proxy {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("proxy on {address}: {error}"));
        let address = listener.local_addr().expect("bound").to_string();
        let target = Mutex::new(target.to_owned());
        let (fault, delay_ms, streams) = (AtomicU8::new(0), AtomicU64::new(0), Mutex::default());
        let state = Arc::new(State { fault, delay_ms, streams, target, watch, closed: AtomicBool::new(false) });
        let shared = state.clone();
        let listening = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(Relaxed) {
                    return;
                }
                if shared.fault() == Fault::Reset {
                    reset(&client);
                } else if let Ok(server) = TcpStream::connect(shared.target()) {
                    shared.join(client, server);
                }
            }
        });
        Proxy { address, state, listening: Some(listening) }
    }

    /// From now on it leads elsewhere; who was connected has to come again.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.state.target.lock().expect("no panic inside"));
        self.set(Fault::None);
    }

    pub fn set(&self, fault: Fault) {
        self.state.fault.store(fault as u8, Relaxed);
        let mut streams = self.state.streams.lock().expect("no panic inside");
        match fault {
            Fault::Reset => streams.drain(..).for_each(|stream| reset(&stream)),
            // After a hole nobody knows how much of a message was lost: the connection cannot go on.
            Fault::None => streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both))),
            _ => {}
        }
    }

    pub fn delay(&self, ms: u64) {
        self.state.delay_ms.store(ms, Relaxed);
        self.set(Fault::Delay);
    }
}

/// The next test may want to listen there.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Relaxed);
        // Wakes who waits for connections.
        let woken = TcpStream::connect(&self.address);
        if let (Ok(_), Some(listening)) = (woken, self.listening.take()) {
            let _ = listening.join();
        }
        if !std::thread::panicking() {
            self.set(Fault::Reset);
        }
    }
}

/// A close with lingering data undelivered is a reset.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}

impl State {
    fn target(&self) -> String {
        self.target.lock().expect("no panic inside").clone()
    }

    fn fault(&self) -> Fault {
        [Fault::None, Fault::Delay, Fault::Reset, Fault::BlackHole, Fault::HalfOpen]
            [usize::from(self.fault.load(Relaxed))]
    }

    fn join(self: &Arc<State>, client: TcpStream, server: TcpStream) {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
        let mut streams = self.streams.lock().expect("no panic inside");
        streams.extend([&client, &server].iter().filter_map(|stream| stream.try_clone().ok()));
        drop(streams);
        for (from, to, is_answer) in [(client, server, false), (from_server, to_client, true)] {
            let state = self.clone();
            std::thread::spawn(move || state.carry(from, to, is_answer));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            match self.fault() {
                Fault::Delay => std::thread::sleep(Duration::from_millis(self.delay_ms.load(Relaxed))),
                Fault::BlackHole => continue,
                Fault::HalfOpen if is_answer => continue,
                _ => {}
            }
            let mut piece = buffer[..count].to_vec();
            (self.watch)(&mut piece, is_answer);
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[test]
fn the_proxy_does_what_it_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut byte = [0];
                while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    let proxy = Proxy::start("127.0.0.1:0", &target);
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut byte = [0];
        stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte)).map_err(|error| error.kind())
    };
    let mut stream = TcpStream::connect(&proxy.address).unwrap();
    assert_eq!(ask(&mut stream), Ok(()));
    proxy.delay(50);
    let asked = std::time::Instant::now();
    assert_eq!(ask(&mut stream), Ok(()));
    assert!(asked.elapsed() >= Duration::from_millis(100));
    for fault in [Fault::BlackHole, Fault::HalfOpen] {
        proxy.set(fault);
        assert_eq!(ask(&mut stream), Err(ErrorKind::WouldBlock), "{fault:?}");
    }
    proxy.set(Fault::Reset);
    assert!(ask(&mut stream).is_err());
    proxy.set(Fault::None);
    assert_eq!(ask(&mut TcpStream::connect(&proxy.address).unwrap()), Ok(()));
}

#[test]
fn a_watched_proxy_changes_what_it_is_told_to_and_leads_elsewhere() {
    let echo = |reply: u8| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut asked = [0; 3];
                let _ = stream.read_exact(&mut asked).and_then(|()| stream.write_all(&[&asked[..], &[reply]].concat()));
            }
        });
        address
    };
    let (first, second) = (echo(b'1'), echo(b'2'));
    let watch = |piece: &mut Vec<u8>, is_answer: bool| {
        if !is_answer {
            replace(piece, b"x", b"y");
        }
    };
    let proxy = Proxy::watched("127.0.0.1:0", &first, Box::new(watch));
    let address = proxy.address.clone();
    let ask = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        let mut answer = [0; 4];
        stream.write_all(b"xax").and_then(|()| stream.read_exact(&mut answer)).unwrap();
        answer
    };
    assert_eq!(&ask(), b"xay1");
    proxy.lead_to(&second);
    assert_eq!(&ask(), b"xay2");
    drop(proxy);
    Proxy::start(&address, &first);
}

/// In place of `from`, wherever it stands as a whole word; as long as it, so that no length in front of it changes.
pub fn replace(piece: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    while at + from.len() <= piece.len() {
        let is_whole = !piece.get(at + from.len()).is_some_and(u8::is_ascii_lowercase);
        if is_whole && piece[at..].starts_with(from) {
            piece[at..at + from.len()].copy_from_slice(to);
        }
        at += 1;
    }
}
