//! A Unix socket that keeps the bounds of messages (SOCK_SEQPACKET), and carries descriptors with them.
//!
//! Every wait has a time, so that a process that hangs holds up nobody.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::message::Message;

/// Descriptors of one message; the kernel takes 253.
pub const MOST_AT_ONCE: usize = 64;
/// Bytes of a message.
const MOST_BYTES: usize = 512;
/// Processes that wait to be heard.
const BACKLOG: i32 = 4;
/// Bytes of a path that an address holds (`sun_path`), without its end.
const MOST_PATH: usize = 107;

pub struct Link(OwnedFd);

/// Made under a name of its own, then renamed: whoever looks finds the old one or this one, and both answer.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let unfinished = path.with_extension(format!("sock.{}", std::process::id()));
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    with_address(&unfinished, |address| Ok(rustix::net::bind(&socket, address)?))?;
    // Before it listens nobody can connect, whatever the mask left open.
    std::fs::set_permissions(&unfinished, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&unfinished, path)?;
    Ok(socket)
}

/// Waits for the next process that asks.
pub fn accept(listener: &OwnedFd) -> io::Result<Link> {
    Ok(Link(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?))
}

/// `None`: nobody listens there.
pub fn connect(path: &Path, at_most: Duration) -> io::Result<Option<Link>> {
    let link = Link(socket()?);
    link.wait_at_most(at_most)?;
    match with_address(path, |address| Ok(rustix::net::connect(&link.0, address)?)) {
        Ok(()) => Ok(Some(link)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(timed_out(error)),
    }
}

impl Link {
    /// How long one message may take from now on.
    pub fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        for way in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&self.0, way, Some(time))?;
        }
        Ok(())
    }

    /// The other side belongs to the user that this process runs as.
    pub fn is_of_our_user(&self) -> io::Result<bool> {
        Ok(socket_peercred(&self.0)?.uid == rustix::process::geteuid())
    }

    /// The process on the other side.
    pub fn peer(&self) -> Option<i32> {
        socket_peercred(&self.0).ok().map(|peer| peer.pid.as_raw_nonzero().get())
    }

    pub fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut text = message.text();
        text.truncate(text.floor_char_boundary(MOST_BYTES));
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("more sockets than a message carries"));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(|error| timed_out(error.into()))?;
        Ok(())
    }

    pub fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut text = [0; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut text)];
        let received = rustix::net::recvmsg(&self.0, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(|error| timed_out(error.into()))?;
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        // Taken first: whatever else is wrong, they are closed.
        let sockets: Vec<OwnedFd> = rights.flatten().collect();
        if received.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "a message is longer than any of ours, or this process has no descriptors left",
            ));
        }
        let text = text.get(..received.bytes).and_then(|text| std::str::from_utf8(text).ok());
        let message = text.and_then(Message::parse);
        Ok((message.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?, sockets))
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The kernel says the same for a wait that was too long as for a socket that does not wait.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A path longer than an address may be is reached by way of its directory's descriptor.
fn with_address<T>(path: &Path, work: impl FnOnce(&SocketAddrUnix) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MOST_PATH {
        return work(&SocketAddrUnix::new(path)?);
    }
    let missing = || io::Error::from(ErrorKind::InvalidInput);
    let (directory, name) = (path.parent().ok_or_else(missing)?, path.file_name().ok_or_else(missing)?);
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory.as_fd());
    work(&SocketAddrUnix::new(PathBuf::from(format!("/proc/self/fd/{number}")).join(name))?)
}
