//! Listening sockets that were bound for us, so that a restart closes no port.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_socket_reuseport, set_tcp_nodelay, socket_acceptconn};

use crate::handover::{DoorName, Named};

/// More are a mistake: 256 workers of two doors, and some.
const MOST: usize = 1_024;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    #[error("LISTEN_FDS: {0:?} is no number from 0 to {MOST}")]
    Count(String),
    #[error("LISTEN_FDNAMES: {names} names for {sockets} sockets; one each is allowed (FileDescriptorName=)")]
    Names { names: usize, sockets: usize },
    #[error("LISTEN_FDNAMES: {0:?} is no door; edge, edge-tls, api, api-tls and admin are allowed")]
    Name(String),
    #[error("LISTEN_FDS: descriptor {number}: {why}; a TCP socket that listens is allowed")]
    Socket { number: usize, why: String },
}

/// The sockets of the environment, when they are meant for this process. To be called before there are threads, as it takes
/// its variables out of the environment.
pub fn activated() -> Result<Vec<Named>, ActivationError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let doors = doors(std::process::id(), variable)?;
    if doors.is_empty() {
        return Ok(Vec::new());
    }
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::with_capacity(doors.len());
    for (index, door) in doors.into_iter().enumerate() {
        // They begin at 3 (SD_LISTEN_FDS_START).
        let wrong = |why: String| ActivationError::Socket { number: index + 3, why };
        let socket = given.take_tcp_listener(index).map_err(|error| wrong(error.to_string()))?;
        let socket = socket.ok_or_else(|| wrong("it is not there".to_owned()))?;
        let listens = socket_acceptconn(socket.as_fd()).map_err(|error| wrong(error.to_string()))?;
        if !listens {
            return Err(wrong("it does not listen".to_owned()));
        }
        // As those that we bind ourselves; but by SO_REUSEPORT we know ours, that may be shut in a rush (`http::gate`). The
        // port stays shared without it.
        let prepared = socket
            .set_nonblocking(true)
            .and_then(|()| set_tcp_nodelay(&socket, true).map_err(io::Error::from))
            .and_then(|()| set_socket_reuseport(&socket, false).map_err(io::Error::from));
        prepared.map_err(|error| wrong(error.to_string()))?;
        sockets.push(Named { door, socket });
    }
    Ok(sockets)
}

/// The door of each, in their order. None when they are another process's: variables are inherited, sockets meant for it
/// are not.
fn doors(pid: u32, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<DoorName>, ActivationError> {
    let is_ours = variable("LISTEN_PID").is_some_and(|text| text.parse() == Ok(pid));
    let Some(count) = variable("LISTEN_FDS").filter(|_| is_ours) else { return Ok(Vec::new()) };
    let sockets = count.parse().ok().filter(|count| *count <= MOST).ok_or(ActivationError::Count(count))?;
    if sockets == 0 {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    if names.len() != sockets {
        return Err(ActivationError::Names { names: names.len(), sockets });
    }
    names.into_iter().map(|name| DoorName::parse(name).ok_or_else(|| ActivationError::Name(name.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Vec<DoorName>, ActivationError> {
        doors(42, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn sockets_of_another_process_are_none() {
        for pid in ["41", "", "x", "42x"] {
            assert_eq!(found(&[("LISTEN_PID", pid), ("LISTEN_FDS", "x")]), Ok(vec![]), "{pid}");
        }
        assert_eq!(found(&[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "edge")]), Ok(vec![]));
        assert_eq!(found(&[("LISTEN_PID", "42")]), Ok(vec![]));
        assert_eq!(found(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "0")]), Ok(vec![]));
    }

    #[test]
    fn each_socket_has_the_name_of_a_door() {
        let of = |count, names| found(&[("LISTEN_PID", "42"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]);
        let all = "edge:edge:edge-tls:api:api-tls:admin";
        use DoorName::{Admin, Api, ApiTls, Edge, EdgeTls};
        assert_eq!(of("6", all), Ok(vec![Edge, Edge, EdgeTls, Api, ApiTls, Admin]));
        assert_eq!(of("5", all), Err(ActivationError::Names { names: 6, sockets: 5 }));
        assert_eq!(of("1", "Edge"), Err(ActivationError::Name("Edge".into())));
        assert_eq!(of("1", ""), Err(ActivationError::Name(String::new())));
        for count in ["-1", "x", "1025", ""] {
            assert_eq!(of(count, "edge"), Err(ActivationError::Count(count.into())));
        }
    }
}
