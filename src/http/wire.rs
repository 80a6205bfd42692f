//! What carries the bytes of a connection: the socket itself, or TLS over it.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::tls::HTTP2;

pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// What is written is the kernel's at once, and the close is as good a goodbye as any. Known when it is compiled: the
    /// plain way costs nothing for the other one.
    const IS_SOCKET: bool;
}

impl Wire for TcpStream {
    const IS_SOCKET: bool = true;
}

/// TLS that is agreed upon. However it ends, the client hears that this was all (close_notify), or nobody cut it off.
pub struct Tls(pub TlsStream<TcpStream>);

impl Tls {
    /// Whether ALPN agreed upon HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(HTTP2)
    }
}

impl Wire for Tls {
    const IS_SOCKET: bool = false;
}

impl AsyncRead for Tls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let (socket, session) = self.0.get_mut();
        // Nothing where it was said already.
        session.send_close_notify();
        while session.wants_write() {
            // Who takes nothing now hears nothing.
            if !matches!(session.write_tls(&mut Now(socket)), Ok(1..)) {
                break;
            }
        }
    }
}

/// Writes what the socket takes without waiting.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
