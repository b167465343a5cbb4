//! Rights: what may be done with a descriptor.
//! Source: WASI preview 1, type `rights`.

/// A set of rights, one bit each.
pub(crate) type Rights = u64;

macro_rules! rights {
    ($($name:ident = $bit:literal;)*) => {
        $(pub(crate) const $name: Rights = 1 << $bit;)*
    };
}
rights! {
    FD_DATASYNC = 0;
    FD_READ = 1;
    FD_SEEK = 2;
    FD_FDSTAT_SET_FLAGS = 3;
    FD_SYNC = 4;
    FD_TELL = 5;
    FD_WRITE = 6;
    FD_ADVISE = 7;
    FD_ALLOCATE = 8;
    PATH_CREATE_DIRECTORY = 9;
    PATH_CREATE_FILE = 10;
    PATH_LINK_SOURCE = 11;
    PATH_LINK_TARGET = 12;
    PATH_OPEN = 13;
    FD_READDIR = 14;
    PATH_READLINK = 15;
    PATH_RENAME_SOURCE = 16;
    PATH_RENAME_TARGET = 17;
    PATH_FILESTAT_GET = 18;
    PATH_FILESTAT_SET_SIZE = 19;
    PATH_FILESTAT_SET_TIMES = 20;
    FD_FILESTAT_GET = 21;
    FD_FILESTAT_SET_SIZE = 22;
    FD_FILESTAT_SET_TIMES = 23;
    PATH_SYMLINK = 24;
    PATH_REMOVE_DIRECTORY = 25;
    PATH_UNLINK_FILE = 26;
    POLL_FD_READWRITE = 27;
    SOCK_SHUTDOWN = 28;
    SOCK_ACCEPT = 29;
}

/// All that can be done with a file.
pub(crate) const FILE: Rights = FD_DATASYNC
    | FD_READ
    | FD_SEEK
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_TELL
    | FD_WRITE
    | FD_ADVISE
    | FD_ALLOCATE
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_SIZE
    | FD_FILESTAT_SET_TIMES
    | POLL_FD_READWRITE;

/// All that can be done with a directory.
pub(crate) const DIRECTORY: Rights = FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_DATASYNC
    | FD_ADVISE
    | PATH_CREATE_DIRECTORY
    | PATH_CREATE_FILE
    | PATH_LINK_SOURCE
    | PATH_LINK_TARGET
    | PATH_OPEN
    | FD_READDIR
    | PATH_READLINK
    | PATH_RENAME_SOURCE
    | PATH_RENAME_TARGET
    | PATH_FILESTAT_GET
    | PATH_FILESTAT_SET_SIZE
    | PATH_FILESTAT_SET_TIMES
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_TIMES
    | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY
    | PATH_UNLINK_FILE
    | POLL_FD_READWRITE;

/// What a directory hands on to what is opened in it.
pub(crate) const INHERITING: Rights = DIRECTORY | FILE;

/// All that can be done with a device. Where it stands means nothing, and can be asked.
pub(crate) const DEVICE: Rights =
    INPUT | OUTPUT | FD_SEEK | FD_TELL | FD_ADVISE | FD_SYNC | FD_DATASYNC;

/// All that can be done with a stream that is read, or written.
pub(crate) const INPUT: Rights =
    FD_READ | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;
pub(crate) const OUTPUT: Rights =
    FD_WRITE | FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;

/// All that can be done with a connection, and with a socket that listens.
pub(crate) const CONNECTION: Rights = INPUT | OUTPUT | SOCK_SHUTDOWN;
pub(crate) const LISTENER: Rights = INPUT | SOCK_ACCEPT;
