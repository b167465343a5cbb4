//! Where a function may connect to, and where it listens: as configuration and command line write
//! it, and as sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use awsm_host::{Grants, Socket, StringList};

/// What an endpoint looks like, for messages.
pub const RULE: &str = "an endpoint is HOST:PORT, such as \"127.0.0.1:6379\", or \"unix:/path\"";

/// What a name of an endpoint looks like, for messages.
pub const NAME_RULE: &str = "a name has 1 to 64 letters, digits and `_`, such as \"REDIS\"";

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host, by name or number, and a port.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Endpoint {
    /// Reads `HOST:PORT` or `unix:PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains('\0') {
            return None;
        }
        match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(Self::Unix(path.into())),
            None => {
                let (host, port) = text.rsplit_once(':')?;
                (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| Self::Tcp(text.into()))
            }
        }
    }

    /// What a guest connects to. A host's name is looked up here, once.
    ///
    /// # Errors
    /// If the name means nothing.
    pub fn connection(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => Ok(Socket::Tcp(resolve(address)?)),
            Self::Unix(path) => Ok(Socket::Unix(path.clone())),
        }
    }

    /// A socket that listens here. One that a file of the same name is left of must be removed
    /// first.
    ///
    /// # Errors
    /// If the system refuses, as when the address is taken.
    pub fn listener(&self) -> io::Result<Socket> {
        let listener = match self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(resolve(address)?)?;
                listener.set_nonblocking(true)?;
                OwnedFd::from(listener)
            }
            Self::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                OwnedFd::from(listener)
            }
        };
        Ok(Socket::Listener(Arc::new(listener)))
    }
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let found = address.to_socket_addrs()?.next();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// May this be an endpoint's name? It becomes part of a variable's.
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Grants a guest connections and listening sockets, and puts their descriptors into its variables
/// `AWSM_FD_NAME`. They come after the streams and the directories, so these must be granted
/// before.
///
/// # Errors
/// Which cannot be reached, and why: one line.
pub fn grant(
    grants: &mut Grants,
    variables: &mut StringList,
    connect: &[(String, Endpoint)],
    listen: &[(String, Endpoint)],
) -> Result<(), String> {
    let connections = connect.iter().map(|(name, to)| (name, to, to.connection()));
    let listeners = listen.iter().map(|(name, at)| (name, at, at.listener()));
    for (name, endpoint, socket) in connections.chain(listeners) {
        let descriptor = 3 + grants.preopened() + grants.sockets.len();
        variables.push_variable(&format!("AWSM_FD_{name}"), descriptor.to_string());
        grants.sockets.push(socket.map_err(|error| format!("`{name}`: {endpoint}: {error}"))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_written() {
        for text in ["127.0.0.1:6379", "[::1]:80", "localhost:1", "unix:/run/x.sock", "unix:x"] {
            assert_eq!(Endpoint::parse(text).map(|e| e.to_string()).as_deref(), Some(text));
        }
        for text in ["", ":80", "host", "host:", "host:65536", "host:-1", "unix:", "unix:a\0b"] {
            assert_eq!(Endpoint::parse(text), None, "{text:?}");
        }
        assert!(is_name("REDIS_2") && !is_name("") && !is_name("a-b") && !is_name("a=b"));
    }

    #[test]
    fn what_cannot_be_reached_says_so() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound").to_string();
        let endpoint = Endpoint::parse(&address).expect("an endpoint");
        assert!(endpoint.connection().is_ok() && endpoint.listener().is_err());
        assert!(Endpoint::Unix("/nowhere/at/all".into()).listener().is_err());
    }
}
