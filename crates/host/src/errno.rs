//! Error codes, and what the system's errors are to a guest.
//! Source: WASI preview 1 (`wasi_snapshot_preview1.witx`), type `errno`.

use std::io::ErrorKind;

use awsm_sandbox::{Leave, OutOfBounds};
use rustix::io::Errno as System;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $code:literal $(from $system:ident)?,)*) => {
        /// Why a call failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Errno {
            $($(#[$doc])* $name = $code,)*
        }

        impl From<System> for Errno {
            fn from(system: System) -> Self {
                match system {
                    $($(System::$system => Self::$name,)?)*
                    _ => Self::Io,
                }
            }
        }
    };
}

errnos! {
    /// Permission denied by the system.
    Acces = 2 from ACCESS,
    /// Address in use.
    Addrinuse = 3 from ADDRINUSE,
    /// Address not available.
    Addrnotavail = 4 from ADDRNOTAVAIL,
    /// Address family not supported.
    Afnosupport = 5 from AFNOSUPPORT,
    /// Nothing now; a nonblocking descriptor does not wait.
    Again = 6 from AGAIN,
    /// Connection already in progress.
    Already = 7 from ALREADY,
    /// No such open descriptor, or not open for that.
    Badf = 8 from BADF,
    /// In use.
    Busy = 10 from BUSY,
    /// Connection aborted.
    Connaborted = 13 from CONNABORTED,
    /// Connection refused.
    Connrefused = 14 from CONNREFUSED,
    /// Connection reset by its other end.
    Connreset = 15 from CONNRESET,
    /// Would deadlock.
    Deadlk = 16 from DEADLK,
    /// An address is needed.
    Destaddrreq = 17 from DESTADDRREQ,
    /// More written than the function's quota.
    Dquot = 19 from DQUOT,
    /// Exists already.
    Exist = 20 from EXIST,
    /// A pointer or range outside of the guest's memory.
    Fault = 21 from FAULT,
    /// A file or output beyond its limit.
    Fbig = 22 from FBIG,
    /// Host is unreachable.
    Hostunreach = 23 from HOSTUNREACH,
    /// A path that is not UTF-8.
    Ilseq = 25 from ILSEQ,
    /// In progress.
    Inprogress = 26 from INPROGRESS,
    /// Interrupted.
    Intr = 27 from INTR,
    /// An argument that makes no sense.
    Inval = 28 from INVAL,
    /// The system failed at it.
    Io = 29,
    /// Connected already.
    Isconn = 30 from ISCONN,
    /// A directory.
    Isdir = 31 from ISDIR,
    /// A symbolic link that is not followed, or too many.
    Loop = 32 from LOOP,
    /// More descriptors than the function's limit.
    Mfile = 33 from MFILE,
    /// Too many links.
    Mlink = 34 from MLINK,
    /// Message too long.
    Msgsize = 35 from MSGSIZE,
    /// A name or path too long.
    Nametoolong = 37 from NAMETOOLONG,
    /// Network is down.
    Netdown = 38 from NETDOWN,
    /// Connection reset by the network.
    Netreset = 39 from NETRESET,
    /// Network is unreachable.
    Netunreach = 40 from NETUNREACH,
    /// The system's descriptors are used up.
    Nfile = 41 from NFILE,
    /// No buffer space.
    Nobufs = 42 from NOBUFS,
    /// No such device.
    Nodev = 43 from NODEV,
    /// No such file or directory.
    Noent = 44 from NOENT,
    /// Not executable.
    Noexec = 45 from NOEXEC,
    /// No memory.
    Nomem = 48 from NOMEM,
    /// Protocol not available.
    Noprotoopt = 50 from NOPROTOOPT,
    /// No space left on the device.
    Nospc = 51 from NOSPC,
    /// Not provided here.
    Nosys = 52 from NOSYS,
    /// Not connected.
    Notconn = 53 from NOTCONN,
    /// Not a directory.
    Notdir = 54 from NOTDIR,
    /// Directory not empty.
    Notempty = 55 from NOTEMPTY,
    /// Not a socket.
    Notsock = 57 from NOTSOCK,
    /// Not for this kind of thing.
    Notsup = 58 from NOTSUP,
    /// Not a terminal.
    Notty = 59 from NOTTY,
    /// No such device or address.
    Nxio = 60 from NXIO,
    /// A value too large.
    Overflow = 61 from OVERFLOW,
    /// Operation not permitted.
    Perm = 63 from PERM,
    /// The reader of the stream is gone.
    Pipe = 64 from PIPE,
    /// Protocol error.
    Proto = 65 from PROTO,
    /// Protocol not supported.
    Protonosupport = 66 from PROTONOSUPPORT,
    /// Wrong protocol.
    Prototype = 67 from PROTOTYPE,
    /// A result too large.
    Range = 68 from RANGE,
    /// A read-only mount.
    Rofs = 69 from ROFS,
    /// The stream has no position.
    Spipe = 70 from SPIPE,
    /// No such process.
    Srch = 71 from SRCH,
    /// Stale file handle.
    Stale = 72 from STALE,
    /// Timed out.
    Timedout = 73 from TIMEDOUT,
    /// A program that is running.
    Txtbsy = 74 from TXTBSY,
    /// On another file system.
    Xdev = 75 from XDEV,
    /// Outside of what the descriptor permits: its rights, its directory.
    Notcapable = 76,
}

impl From<OutOfBounds> for Errno {
    fn from(_: OutOfBounds) -> Self {
        Self::Fault
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        if let Some(system) = System::from_io_error(&error) {
            return system.into();
        }
        match error.kind() {
            ErrorKind::NotFound => Self::Noent,
            // Not the system's word: cap-std's, for a path that leads outside.
            ErrorKind::PermissionDenied => Self::Notcapable,
            ErrorKind::AlreadyExists => Self::Exist,
            ErrorKind::InvalidInput => Self::Inval,
            ErrorKind::WouldBlock => Self::Again,
            ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Io,
        }
    }
}

/// Why a call does not go well.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The guest gets this code.
    Errno(Errno),
    /// The guest leaves.
    Leave(Leave),
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<OutOfBounds> for Fail {
    fn from(error: OutOfBounds) -> Self {
        Self::Errno(error.into())
    }
}

impl From<rustix::io::Errno> for Fail {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Errno(error.into())
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(error.into())
    }
}

impl From<Leave> for Fail {
    fn from(leave: Leave) -> Self {
        Self::Leave(leave)
    }
}
