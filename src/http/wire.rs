//! What carries the bytes of a connection: the socket itself, or TLS over it.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// What is written is the kernel's at once, and the close is as good a goodbye as any. Known when it is compiled: the
    /// plain way costs nothing for the other one.
    const IS_SOCKET: bool;
}

impl Wire for TcpStream {
    const IS_SOCKET: bool = true;
}

impl Wire for TlsStream<TcpStream> {
    const IS_SOCKET: bool = false;
}
