//! Where a function may connect to, and where it listens: as configuration and command line write
//! it, and as sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
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

    /// Could something listen here? Whoever does now is not asked to go.
    ///
    /// # Errors
    /// If not.
    fn could_listen(&self) -> io::Result<()> {
        match self {
            Self::Tcp(address) => resolve(address).map(drop),
            Self::Unix(path) => match is_left(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                    fs::read_dir(dir.unwrap_or(Path::new("."))).map(drop)
                }
                found => found.map(drop),
            },
        }
    }

    /// A socket that listens here, and its file if it has one. A file that a process has left
    /// behind, so that nobody listens there, is replaced.
    ///
    /// # Errors
    /// If the system refuses, as when the address is taken.
    pub fn listener(&self) -> io::Result<(Socket, Option<SocketFile>)> {
        let (listener, file) = match self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(resolve(address)?)?;
                listener.set_nonblocking(true)?;
                (OwnedFd::from(listener), None)
            }
            Self::Unix(path) => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left(path)? => {
                        fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                listener.set_nonblocking(true)?;
                (OwnedFd::from(listener), Some(SocketFile::of(path)?))
            }
        };
        Ok((Socket::Listener(Arc::new(listener)), file))
    }
}

/// What becomes of endpoints at which a function listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listeners {
    /// They are opened.
    Open,
    /// It is looked at whether they could be; another process may have them meanwhile.
    Try,
}

/// The file of a Unix socket that this process has made. It is removed when this is dropped, unless
/// another is there by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), id: id_of(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            // What stays is replaced by the next one that listens here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    let about = fs::symlink_metadata(path)?;
    Ok((about.dev(), about.ino()))
}

/// Is this a socket's file at which nobody listens? What is found there otherwise is an error.
///
/// A datagram socket asks: it is refused where there is nobody, and leaves no connection where
/// somebody is.
fn is_left(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something else than a socket is there: remove it, or name another path",
        ));
    }
    let asked = UnixDatagram::unbound()?.connect(path);
    Ok(asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
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
/// before. What comes back keeps the files of the sockets.
///
/// # Errors
/// Which cannot be reached, and why: one line for each.
pub fn grant(
    grants: &mut Grants,
    variables: &mut StringList,
    connect: &[(String, Endpoint)],
    (listen, listeners): (&[(String, Endpoint)], Listeners),
) -> Result<Vec<SocketFile>, Vec<String>> {
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    let connections =
        connect.iter().map(|(name, to)| (name, to, to.connection().map(|socket| (socket, None))));
    let opened = listen.iter().filter(|_| listeners == Listeners::Open);
    let opened = opened.map(|(name, at)| (name, at, at.listener()));
    for (name, endpoint, socket) in connections.chain(opened) {
        let descriptor = 3 + grants.preopened() + grants.sockets.len();
        variables.push_variable(&format!("AWSM_FD_{name}"), descriptor.to_string());
        match socket {
            Ok((socket, file)) => {
                grants.sockets.push(socket);
                files.extend(file);
            }
            Err(error) => mistakes.push(format!("`{name}`: {endpoint}: {error}")),
        }
    }
    for (name, endpoint) in listen.iter().filter(|_| listeners == Listeners::Try) {
        if let Err(error) = endpoint.could_listen() {
            mistakes.push(format!("`{name}`: {endpoint}: {error}"));
        }
    }
    if mistakes.is_empty() { Ok(files) } else { Err(mistakes) }
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

    #[test]
    fn the_file_of_a_socket_is_its_owners() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("socket");
        let endpoint = Endpoint::Unix(path.clone());
        // Left behind, as by a process that was killed.
        drop(UnixListener::bind(&path).expect("bound"));
        let (socket, file) = endpoint.listener().expect("it is replaced");
        let taken = endpoint.listener().expect_err("somebody listens");
        assert!(endpoint.could_listen().is_ok());
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        // Who asked has left nothing to accept.
        let Socket::Listener(listener) = &socket else { panic!("it listens") };
        let listener = UnixListener::from(listener.try_clone().expect("a descriptor"));
        let nothing = listener.accept().expect_err("nobody has connected");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(file);
        assert!(!path.exists());
        // What another has put there meanwhile is left alone; so is what is no socket.
        let (_socket, file) = endpoint.listener().expect("free");
        fs::rename(&path, scratch.path().join("aside")).expect("moved");
        fs::write(&path, "a file").expect("written");
        for tried in [endpoint.listener().map(drop), endpoint.could_listen()] {
            let other = tried.expect_err("a file").to_string();
            assert!(other.contains("something else than a socket"), "{other}");
        }
        drop(file);
        assert_eq!(fs::read(&path).expect("there"), b"a file");
    }
}
