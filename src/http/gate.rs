//! A listening socket that can be shut for a moment: the kernel refuses whoever comes then, at once, and that costs us
//! nothing (contract E34).
//!
//! On Linux `shutdown` of its reading side ends listening and keeps a port that was named in `bind`; `listen` begins again.
//! Other sockets of the port (SO_REUSEPORT) take what comes meanwhile. What waits in its queue is reset: whoever shuts a
//! gate empties that first.
//!
//! Invariant: only sockets that we have bound are shut. A supervisor watches its own when this process is gone, and would
//! give up one that does not listen.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::net::{Shutdown, SocketFlags};
use tokio::net::{TcpListener, TcpStream};

use super::listen::{BACKLOG, is_ours};

pub struct Gate {
    socket: std::net::TcpListener,
    /// The same, as the runtime watches it: it knows a socket by its descriptor, and one that has stopped listening is of no
    /// more use to it. None while the gate is shut.
    watched: Option<TcpListener>,
    may_shut: bool,
}

impl Gate {
    pub fn new(socket: std::net::TcpListener) -> io::Result<Gate> {
        socket.set_nonblocking(true)?;
        let may_shut = is_ours(&socket);
        let mut gate = Gate { socket, watched: None, may_shut };
        gate.open()?;
        Ok(gate)
    }

    pub fn may_shut(&self) -> bool {
        self.may_shut
    }

    /// The next one who comes; a shut gate opens for them.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = ready!(self.open()?.poll_accept(cx));
        if accepted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
            // Another process that has the same socket has shut it.
            self.shut();
        }
        Poll::Ready(accepted)
    }

    /// One who waits already.
    pub fn accept_now(&self) -> io::Result<std::net::TcpStream> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(rustix::net::accept_with(self, flags)?.into())
    }

    /// From here on everybody is refused.
    pub fn shut(&mut self) {
        self.watched = None;
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
    }

    fn open(&mut self) -> io::Result<&TcpListener> {
        match &mut self.watched {
            Some(watched) => Ok(watched),
            none => {
                if self.may_shut {
                    // This process has shut it, or another one.
                    rustix::net::listen(&self.socket, BACKLOG)?;
                }
                Ok(none.insert(TcpListener::from_std(self.socket.try_clone()?)?))
            }
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::ErrorKind;
    use std::net::TcpStream as Client;

    use super::super::listen::listen;
    use super::*;

    fn on_a_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn gate() -> (Gate, SocketAddr) {
        let socket = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        (Gate::new(socket).unwrap(), address)
    }

    #[test]
    fn e34_who_comes_to_a_shut_gate_is_refused_and_the_next_accept_opens_it() {
        on_a_runtime(async {
            let (mut gate, address) = gate();
            assert!(gate.may_shut());
            for _ in 0..3 {
                gate.shut();
                assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
                assert!(
                    poll_fn(|cx| Poll::Ready(gate.poll_accept(cx).is_pending())).await,
                    "nobody waits, and no error"
                );
                let client = Client::connect(address).unwrap();
                let (stream, peer) = poll_fn(|cx| gate.poll_accept(cx)).await.unwrap();
                assert_eq!(peer, client.local_addr().unwrap());
                assert!(stream.nodelay().unwrap(), "inherited as before");
            }
        });
    }

    #[test]
    fn a_gate_that_another_process_has_shut_is_opened_again() {
        on_a_runtime(async {
            let (mut gate, address) = gate();
            let mut of_another = Gate::new(gate.as_fd().try_clone_to_owned().unwrap().into()).unwrap();
            of_another.shut();
            let _ = poll_fn(|cx| gate.poll_accept(cx)).await.unwrap_err();
            assert!(poll_fn(|cx| Poll::Ready(gate.poll_accept(cx).is_pending())).await);
            Client::connect(address).unwrap();
        });
    }

    #[test]
    fn a_socket_of_a_supervisor_is_not_shut() {
        on_a_runtime(async {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(!Gate::new(socket).unwrap().may_shut());
        });
    }
}
