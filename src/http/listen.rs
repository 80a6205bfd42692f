//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4_096;

sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, u32);

/// Seconds for which the kernel keeps a connection to itself on which nothing was said; it doubles what it rounds up to.
const SILENT_S: u32 = 1;

/// From now on a connection is accepted when its first bytes are there, or after a second or three without any: a client
/// that speaks at once, as they all do, costs one waiting less, and one that only connects and leaves costs nothing.
pub fn wait_for_words(socket: &TcpListener) -> io::Result<()> {
    setsockopt(socket, DeferAccept, &SILENT_S).map_err(io::Error::from)
}

/// A listener that may share its port with those of other threads (SO_REUSEPORT). What it accepts has TCP_NODELAY from
/// birth: set here once, it costs no system call for a connection.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.port() == 0 {
        // Only a port that was asked for by its number stays with a socket that stops listening for a moment (`gate`).
        let any = TcpListener::from(bind(address)?);
        return listen(any.local_addr()?);
    }
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether it is one of ours that does not listen at this moment (`gate`), and no connection.
pub fn is_shut(listener: &TcpListener) -> bool {
    is_ours(listener) && socket2::SockRef::from(listener).peer_addr().is_err()
}

/// Whether `listen` made it, here or in the process before this one; supervisors share no ports unless they are told to.
pub(super) fn is_ours(listener: &TcpListener) -> bool {
    socket2::SockRef::from(listener).reuse_port().is_ok_and(|shares| shares)
}
