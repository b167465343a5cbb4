//! Every function with every error code that it gives, provoked. `PREVIEW1.md` is read: a code that
//! it names and nothing here provokes fails the test, and so does a code provoked here that it does
//! not name.
//!
//! Three groups of codes come from a call that would go well ([`good`]) with one argument replaced:
//! a pointer out of memory, a descriptor that is not open or has no rights, a path that leads
//! nowhere. The others are listed one by one. What needs privileges that the test does not have is
//! skipped, and said.

mod common;

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use awsm_host::{Errno, FileLimits, Grants, Mount, Output, Socket, Stdin};
use common::*;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::pty::{self, OpenptFlags};
use rustix::stdio;

/// What the guest finds open: a directory, the same read-only, one on another file system; a
/// connection, a listening socket, connections that were refused and that lead nowhere.
const DIR: i64 = 3;
const READ_ONLY: i64 = 4;
const OTHER: i64 = 5;
const CONNECTION: i64 = 6;
const LISTENER: i64 = 7;
const REFUSED: i64 = 8;
const NOWHERE: i64 = 9;
/// What it opens: a file of ten bytes, and a directory.
const FILE: i64 = 10;
const SUB: i64 = 11;

/// Everything that a case may need, new for each.
struct Scene {
    guest: Guest,
    directory: tempfile::TempDir,
    other: Device,
    peer: Option<TcpStream>,
}

/// A directory; a small file system of its own, if that is wanted and the test may mount one: two
/// pages, six names.
struct Device {
    directory: tempfile::TempDir,
    mounted: bool,
}

impl Device {
    fn new(mounted: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (none, options) = (MountFlags::empty(), c"size=8k,nr_inodes=6");
        let mounted = mounted && mount("tmpfs", directory.path(), "tmpfs", none, options).is_ok();
        Self { directory, mounted }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.mounted {
            let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
        }
    }
}

impl Scene {
    fn new(mounted: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, other) = (directory.path(), Device::new(mounted));
        std::fs::create_dir(path.join("locked")).expect("made");
        std::fs::write(path.join("locked/x"), "").expect("made");
        std::fs::set_permissions(
            path.join("locked"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .expect("its own");
        std::os::unix::fs::symlink("loop", path.join("loop")).expect("made");
        std::os::unix::fs::symlink("file", path.join("link")).expect("made");
        let mount = |path: &Path, writable| Mount::open("/", path, writable).expect("there");
        let ours = TcpListener::bind("127.0.0.1:0").expect("a port");
        let theirs = TcpListener::bind("127.0.0.1:0").expect("a port");
        theirs.set_nonblocking(true).expect("settable");
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = |listener: &TcpListener| listener.local_addr().expect("bound");
        let sockets = vec![
            Socket::Tcp(address(&ours)),
            Socket::Listener(Arc::new(OwnedFd::from(theirs))),
            Socket::Tcp(address(&gone)),
            Socket::Unix("/nowhere/at/all".into()),
        ];
        drop(gone);
        let mounts =
            vec![mount(path, true), mount(path, false), mount(other.directory.path(), true)];
        let limits =
            FileLimits { descriptors: 14, file_bytes: 1 << 20, written_bytes: (2 << 20) + 10 };
        let mut context = with_mounts(mounts, limits);
        let mut grants = Grants::clone(context.grants.as_ref().expect("set"));
        grants.sockets = sockets;
        context.grants = Some(Arc::new(grants));
        context.args = Arc::new(["guest"].into_iter().collect());
        context.env = Arc::new(["A=1"].into_iter().collect());
        let mut guest = Guest::new(context);
        assert_eq!(guest.open(DIR, "file", Open::CREATE), FILE);
        guest.at("path_create_directory", DIR, "sub", ());
        assert_eq!(guest.open(DIR, "sub", Open::DIRECTORY), SUB);
        guest.write(FILE, b"0123456789").expect("written");
        let peer = Some(ours.accept().expect("the guest connects").0);
        Self { guest, directory, other, peer }
    }

    /// Calls with these arguments. Paths lie where the harness puts them, one after the other.
    fn call(&mut self, name: &str, args: &[Arg]) -> u32 {
        let mut values = Vec::new();
        let mut first = true;
        for arg in args {
            match *arg {
                Arg::Fd(value) | Arg::Value(value) => values.push(value),
                Arg::Pointer => values.push(OUT.into()),
                Arg::Buffers => values.extend(self.guest.buffer(4)),
                Arg::Text(path) => {
                    let put = if first { Guest::path } else { Guest::second_path };
                    values.extend(put(&mut self.guest, path));
                    first = false;
                }
                Arg::Raw(bytes) => {
                    self.guest.put(64, bytes);
                    values.extend([64, bytes.len() as i64]);
                }
                Arg::Beyond => values.push(END),
                Arg::BeyondBy(len) => values.extend([END, len]),
            }
        }
        self.guest.call(name, &values)
    }

    /// A descriptor loses all its rights.
    fn give_up(&mut self, fd: i64) {
        self.guest.expect("fd_fdstat_set_rights", &[fd, 0, 0], ());
    }

    fn path_call(&mut self, name: &str, fd: i64, path: &'static str) -> u32 {
        self.call(name, &[Arg::Fd(fd), Arg::Text(path)])
    }

    fn two_paths(&mut self, name: &str, from: (i64, &'static str), to: (i64, &'static str)) -> u32 {
        let mut args = vec![Arg::Fd(from.0), Arg::Text(from.1), Arg::Fd(to.0), Arg::Text(to.1)];
        if name == "path_link" {
            args.insert(1, Arg::Value(0));
        }
        self.call(name, &args)
    }

    /// Leaves no room for another byte, and none for another name, on the other file system.
    fn fill(&mut self) -> i64 {
        let file = self.guest.open(OTHER, "full", Open::CREATE);
        while self.guest.write(file, &[1; 4096]).is_ok() {}
        (0..9).any(|number| {
            let name = format!("{}/{number}", self.other.directory.path().display());
            std::fs::write(name, "").is_err()
        });
        file
    }
}

/// An argument, or two that belong together.
#[derive(Clone, Copy)]
enum Arg {
    Fd(i64),
    Value(i64),
    /// To something that the call writes.
    Pointer,
    /// A list of one buffer, and its length.
    Buffers,
    /// A path and its length.
    Text(&'static str),
    /// A path of any bytes.
    Raw(&'static [u8]),
    /// A pointer out of memory, alone and with a length.
    Beyond,
    BeyondBy(i64),
}
use Arg::{Buffers, Fd, Pointer, Text, Value};

/// Arguments with which a function does something, or waits for nothing.
fn good(name: &str) -> Vec<Arg> {
    let all = Value(ALL);
    let zero = Value(0);
    match name {
        "args_get" | "args_sizes_get" | "environ_get" | "environ_sizes_get" => {
            vec![Pointer, Pointer]
        }
        "clock_res_get" => vec![Value(1), Pointer],
        "clock_time_get" => vec![Value(1), zero, Pointer],
        "fd_advise" => vec![Fd(FILE), zero, zero, zero],
        "fd_allocate" => vec![Fd(FILE), zero, Value(10)],
        "fd_close" | "fd_datasync" | "fd_sync" => vec![Fd(FILE)],
        "fd_fdstat_get" | "fd_filestat_get" | "fd_tell" => vec![Fd(FILE), Pointer],
        "fd_prestat_get" => vec![Fd(DIR), Pointer],
        "fd_prestat_dir_name" => vec![Fd(DIR), Pointer, Value(1)],
        "fd_fdstat_set_flags" => vec![Fd(FILE), zero],
        "fd_fdstat_set_rights" => vec![Fd(FILE), zero, zero],
        "fd_filestat_set_size" => vec![Fd(FILE), Value(10)],
        "fd_filestat_set_times" => vec![Fd(FILE), zero, zero, zero],
        "fd_pread" | "fd_pwrite" => vec![Fd(FILE), Buffers, zero, Pointer],
        "fd_read" | "fd_write" => vec![Fd(FILE), Buffers, Pointer],
        "fd_readdir" => vec![Fd(DIR), Pointer, Value(100), zero, Pointer],
        "fd_renumber" => vec![Fd(FILE), Fd(SUB)],
        "fd_seek" => vec![Fd(FILE), zero, zero, Pointer],
        "path_create_directory" => vec![Fd(DIR), Text("new")],
        "path_filestat_get" => vec![Fd(DIR), zero, Text("file"), Pointer],
        "path_filestat_set_times" => vec![Fd(DIR), zero, Text("file"), zero, zero, zero],
        "path_link" => vec![Fd(DIR), zero, Text("file"), Fd(DIR), Text("new")],
        "path_open" => vec![Fd(DIR), zero, Text("file"), zero, all, all, zero, Pointer],
        "path_readlink" => vec![Fd(DIR), Text("link"), Pointer, Value(100), Pointer],
        "path_remove_directory" => vec![Fd(DIR), Text("sub")],
        "path_rename" => vec![Fd(DIR), Text("file"), Fd(DIR), Text("new")],
        "path_symlink" => vec![Text("file"), Fd(DIR), Text("new")],
        "path_unlink_file" => vec![Fd(DIR), Text("file")],
        "poll_oneoff" => vec![Pointer, Pointer, Value(1), Pointer],
        "proc_raise" => vec![zero],
        "random_get" => vec![Pointer, Value(8)],
        "sock_accept" => vec![Fd(LISTENER), zero, Pointer],
        "sock_recv" => vec![Fd(CONNECTION), Buffers, zero, Pointer, Pointer],
        "sock_send" => vec![Fd(CONNECTION), Buffers, zero, Pointer],
        "sock_shutdown" => vec![Fd(CONNECTION), Value(2)],
        _ => Vec::new(),
    }
}

/// The calls that come from [`good`]: the code that each must give, and the arguments.
fn spoilt(name: &str) -> Vec<(&'static str, Vec<Arg>)> {
    let good = good(name);
    let mut cases = Vec::new();
    for (place, arg) in good.iter().enumerate() {
        let mut with = |errno, other: Arg| {
            let mut args = good.clone();
            args[place] = other;
            cases.push((errno, args));
        };
        match arg {
            Pointer => with("EFAULT", Arg::Beyond),
            Buffers => with("EFAULT", Arg::BeyondBy(1)),
            Fd(_) => [77, -1].into_iter().for_each(|fd| with("EBADF", Fd(fd))),
            // What a link contains is not looked up.
            Text(_) if name == "path_symlink" && place == 0 => {
                with("EFAULT", Arg::BeyondBy(1));
                with("EILSEQ", Arg::Raw(b"\xff"));
                with("ENOTCAPABLE", Text("/etc"));
            }
            Text(_) => {
                with("EFAULT", Arg::BeyondBy(1));
                with("EILSEQ", Arg::Raw(b"\xff/x"));
                with("EINVAL", Text("x\0y"));
                with("ENAMETOOLONG", Text(LONG));
                with("ENOENT", Text("none/x"));
                with("ENOENT", Text(""));
                with("ENOTDIR", Text("file/x"));
                with("ELOOP", Text("loop/x"));
                with("EACCES", Text("locked/x"));
                with("ENOTCAPABLE", Text("../x"));
                with("ENOTCAPABLE", Text("sub/../../x"));
                with("ENOTCAPABLE", Text("/etc/x"));
            }
            _ => {}
        }
    }
    cases
}

/// 300 letters: more than a name has.
const LONG: &str = match std::str::from_utf8(&[b'l'; 300]) {
    Ok(text) => text,
    Err(_) => panic!("letters are text"),
};

/// A file descriptor loses all its rights before the call.
fn without_rights(name: &str) -> Vec<i64> {
    let fds =
        good(name).into_iter().filter_map(|arg| if let Fd(fd) = arg { Some(fd) } else { None });
    match name {
        // These need none.
        "fd_close" | "fd_fdstat_get" | "fd_prestat_get" | "fd_prestat_dir_name" | "fd_renumber" => {
            vec![]
        }
        _ => fds.collect(),
    }
}

type Case = (&'static str, &'static str, fn(&mut Scene) -> u32);

/// The error code of an event that `poll_oneoff` gives for a descriptor.
fn event(scene: &mut Scene, kind: u8, fd: i64) -> u32 {
    let mut subscription = [0; 48];
    subscription[8] = kind;
    subscription[16..20].copy_from_slice(&(fd as u32).to_le_bytes());
    scene.guest.put(2048, &subscription);
    scene.guest.expect("poll_oneoff", &[2048, 4096, 1, OUT.into()], ());
    scene.guest.u32_at(4096 + 8) & 0xffff
}

/// One call each, for the codes that are not a group's.
#[rustfmt::skip] // A table.
const CASES: &[Case] = &[
    ("clock_res_get", "EINVAL", |s| s.call("clock_res_get", &[Value(4), Pointer])),
    ("clock_res_get", "ENOTSUP", |s| s.call("clock_res_get", &[Value(2), Pointer])),
    ("clock_time_get", "EINVAL", |s| s.call("clock_time_get", &[Value(-1), Value(0), Pointer])),
    ("clock_time_get", "ENOTSUP", |s| s.call("clock_time_get", &[Value(3), Value(0), Pointer])),
    ("fd_advise", "EINVAL", |s| s.call("fd_advise", &[Fd(FILE), Value(0), Value(0), Value(6)])),
    ("fd_allocate", "EDQUOT", |s| {
        exhaust(s);
        s.call("fd_allocate", &[Fd(FILE), Value(0), Value(1)])
    }),
    ("fd_allocate", "EFBIG", |s| s.call("fd_allocate", &[Fd(FILE), Value(1 << 20), Value(1)])),
    ("fd_allocate", "EINVAL", |s| s.call("fd_allocate", &[Fd(FILE), Value(0), Value(0)])),
    ("fd_allocate", "EISDIR", |s| s.call("fd_allocate", &[Fd(SUB), Value(0), Value(1)])),
    ("fd_allocate", "ENOSPC", |s| { let full = s.fill(); s.call("fd_allocate", &[Fd(full), Value(0), Value(65_536)]) }),
    ("fd_allocate", "ESPIPE", |s| s.call("fd_allocate", &[Fd(1), Value(0), Value(1)])),
    ("fd_fdstat_set_flags", "EINVAL", |s| s.call("fd_fdstat_set_flags", &[Fd(FILE), Value(32)])),
    ("fd_fdstat_set_flags", "ENOTSUP", |s| s.call("fd_fdstat_set_flags", &[Fd(FILE), Value(16)])),
    ("fd_fdstat_set_rights", "ENOTCAPABLE", |s| s.call("fd_fdstat_set_rights", &[Fd(0), Value(-1), Value(0)])),
    ("fd_filestat_set_size", "EFBIG", |s| s.call("fd_filestat_set_size", &[Fd(FILE), Value((1 << 20) + 1)])),
    ("fd_filestat_set_size", "EINVAL", |s| s.call("fd_filestat_set_size", &[Fd(FILE), Value(-1)])),
    ("fd_filestat_set_size", "EISDIR", |s| s.call("fd_filestat_set_size", &[Fd(SUB), Value(1)])),
    ("fd_filestat_set_size", "ESPIPE", |s| s.call("fd_filestat_set_size", &[Fd(CONNECTION), Value(1)])),
    ("fd_filestat_set_times", "EINVAL", |s| s.call("fd_filestat_set_times", &[Fd(FILE), Value(0), Value(0), Value(3)])),
    ("fd_filestat_set_times", "EROFS", |s| s.call("fd_filestat_set_times", &[Fd(READ_ONLY), Value(0), Value(0), Value(5)])),
    ("fd_pread", "EINVAL", |s| s.call("fd_pread", &[Fd(FILE), Buffers, Value(-1), Pointer])),
    ("fd_pread", "EISDIR", |s| s.call("fd_pread", &[Fd(DIR), Buffers, Value(0), Pointer])),
    ("fd_pread", "ESPIPE", |s| s.call("fd_pread", &[Fd(0), Buffers, Value(0), Pointer])),
    ("fd_pwrite", "EDQUOT", |s| {
        exhaust(s);
        s.call("fd_pwrite", &[Fd(FILE), Buffers, Value(0), Pointer])
    }),
    ("fd_pwrite", "EFBIG", |s| s.call("fd_pwrite", &[Fd(FILE), Buffers, Value(1 << 20), Pointer])),
    ("fd_pwrite", "EINVAL", |s| s.call("fd_pwrite", &[Fd(FILE), Buffers, Value(i64::MIN), Pointer])),
    ("fd_pwrite", "EISDIR", |s| s.call("fd_pwrite", &[Fd(DIR), Buffers, Value(0), Pointer])),
    ("fd_pwrite", "ENOSPC", |s| { let full = s.fill(); s.call("fd_pwrite", &[Fd(full), Buffers, Value(65_536), Pointer]) }),
    ("fd_pwrite", "ESPIPE", |s| s.call("fd_pwrite", &[Fd(1), Buffers, Value(0), Pointer])),
    ("fd_read", "EAGAIN", |s| s.call("fd_read", &[Fd(CONNECTION), Buffers, Pointer])),
    ("fd_read", "ECONNREFUSED", |s| s.call("fd_read", &[Fd(REFUSED), Buffers, Pointer])),
    ("fd_read", "ECONNRESET", |s| { reset(s); s.call("fd_read", &[Fd(CONNECTION), Buffers, Pointer]) }),
    ("fd_read", "EINVAL", |s| s.call("fd_read", &[Fd(FILE), Value(512), Value(1025), Pointer])),
    ("fd_read", "EIO", |s| {
        s.guest.context().stdin = Stdin::Inherit;
        let kept = rustix::io::dup(stdio::stdin()).expect("open");
        stdio::dup2_stdin(terminal().0).expect("open");
        let got = s.call("fd_read", &[Fd(0), Buffers, Pointer]);
        stdio::dup2_stdin(kept).expect("as before");
        got
    }),
    ("fd_read", "EISDIR", |s| s.call("fd_read", &[Fd(DIR), Buffers, Pointer])),
    ("fd_read", "ENOENT", |s| s.call("fd_read", &[Fd(NOWHERE), Buffers, Pointer])),
    ("fd_read", "ENOTCONN", |s| s.call("fd_read", &[Fd(LISTENER), Buffers, Pointer])),
    ("fd_readdir", "ENOTDIR", |s| s.call("fd_readdir", &[Fd(FILE), Pointer, Value(100), Value(0), Pointer])),
    ("fd_seek", "EINVAL", |s| s.call("fd_seek", &[Fd(FILE), Value(-1), Value(0), Pointer])),
    ("fd_seek", "EISDIR", |s| s.call("fd_seek", &[Fd(DIR), Value(0), Value(0), Pointer])),
    ("fd_seek", "ESPIPE", |s| s.call("fd_seek", &[Fd(LISTENER), Value(0), Value(0), Pointer])),
    ("fd_tell", "EISDIR", |s| s.call("fd_tell", &[Fd(DIR), Pointer])),
    ("fd_tell", "ESPIPE", |s| s.call("fd_tell", &[Fd(2), Pointer])),
    ("fd_prestat_dir_name", "ENAMETOOLONG", |s| s.call("fd_prestat_dir_name", &[Fd(DIR), Pointer, Value(0)])),
    ("fd_write", "EAGAIN", |s| { while s.guest.write(CONNECTION, &[1; 65_536]).is_ok() {} s.call("fd_write", &[Fd(CONNECTION), Buffers, Pointer]) }),
    ("fd_write", "ECONNREFUSED", |s| s.call("fd_write", &[Fd(REFUSED), Buffers, Pointer])),
    ("fd_write", "ECONNRESET", |s| { reset(s); s.call("fd_write", &[Fd(CONNECTION), Buffers, Pointer]) }),
    ("fd_write", "EDQUOT", |s| {
        exhaust(s);
        s.call("fd_write", &[Fd(FILE), Buffers, Pointer])
    }),
    ("fd_write", "EFBIG", |s| {
        s.guest.expect("fd_seek", &[FILE, 1 << 20, 0, OUT.into()], ());
        s.call("fd_write", &[Fd(FILE), Buffers, Pointer])
    }),
    ("fd_write", "EINVAL", |s| s.call("fd_write", &[Fd(FILE), Value(512), Value(1 << 31), Pointer])),
    ("fd_write", "EIO", |s| {
        s.guest.context().stdout = Output::InheritStdout;
        let kept = rustix::io::dup(stdio::stdout()).expect("open");
        stdio::dup2_stdout(terminal().1).expect("open");
        let got = s.call("fd_write", &[Fd(1), Buffers, Pointer]);
        stdio::dup2_stdout(kept).expect("as before");
        got
    }),
    ("fd_write", "EISDIR", |s| s.call("fd_write", &[Fd(DIR), Buffers, Pointer])),
    ("fd_write", "ENOENT", |s| s.call("fd_write", &[Fd(NOWHERE), Buffers, Pointer])),
    ("fd_write", "ENOSPC", |s| { let full = s.fill(); s.call("fd_write", &[Fd(full), Buffers, Pointer]) }),
    ("fd_write", "EPIPE", |s| { shut(s); s.call("fd_write", &[Fd(CONNECTION), Buffers, Pointer]) }),
    ("path_create_directory", "EEXIST", |s| s.path_call("path_create_directory", DIR, "sub/")),
    ("path_create_directory", "ENOSPC", |s| { s.fill(); s.path_call("path_create_directory", OTHER, "new") }),
    ("path_create_directory", "EROFS", |s| s.path_call("path_create_directory", READ_ONLY, "new")),
    ("path_filestat_set_times", "EROFS", |s| s.call("path_filestat_set_times", &[Fd(READ_ONLY), Value(0), Text("file"), Value(0), Value(0), Value(5)])),
    ("path_link", "EEXIST", |s| s.two_paths("path_link", (DIR, "file"), (DIR, "link"))),
    ("path_link", "ENOSPC", |s| { s.fill(); s.two_paths("path_link", (OTHER, "full"), (OTHER, "new")) }),
    ("path_link", "EPERM", |s| s.two_paths("path_link", (DIR, "sub"), (DIR, "new"))),
    ("path_link", "EROFS", |s| s.two_paths("path_link", (READ_ONLY, "file"), (DIR, "new"))),
    ("path_link", "EXDEV", |s| s.two_paths("path_link", (DIR, "file"), (OTHER, "new"))),
    ("path_open", "EEXIST", |s| open(s, DIR, "file", CREAT | EXCL, ALL)),
    ("path_open", "EISDIR", |s| open(s, DIR, "sub", DIRECTORY, FD_WRITE)),
    ("path_open", "EMFILE", |s| { while open(s, DIR, "file", 0, ALL) == 0 {} open(s, DIR, "file", 0, ALL) }),
    ("path_open", "ENOSPC", |s| { s.fill(); open(s, OTHER, "new", CREAT, ALL) }),
    ("path_open", "EROFS", |s| open(s, READ_ONLY, "file", 0, FD_WRITE)),
    ("path_open", "ETXTBSY", |s| { let _running = Running::new(&s.directory.path().join("program")); open(s, DIR, "program", 0, FD_WRITE) }),
    ("path_remove_directory", "EBUSY", |s| { let _mounted = Mounted::new(s); s.path_call("path_remove_directory", DIR, "sub") }),
    ("path_remove_directory", "ENOTEMPTY", |s| { open(s, SUB, "x", CREAT, ALL); s.path_call("path_remove_directory", DIR, "sub") }),
    ("path_remove_directory", "EROFS", |s| s.path_call("path_remove_directory", READ_ONLY, "sub")),
    ("path_rename", "EBUSY", |s| { let _mounted = Mounted::new(s); s.two_paths("path_rename", (DIR, "sub"), (DIR, "new")) }),
    ("path_rename", "EISDIR", |s| s.two_paths("path_rename", (DIR, "file"), (DIR, "sub"))),
    ("path_rename", "ENOTEMPTY", |s| {
        open(s, SUB, "x", CREAT, ALL);
        s.guest.at("path_create_directory", DIR, "new", ());
        s.two_paths("path_rename", (DIR, "new"), (DIR, "sub"))
    }),
    ("path_rename", "EROFS", |s| s.two_paths("path_rename", (DIR, "file"), (READ_ONLY, "new"))),
    ("path_rename", "EXDEV", |s| s.two_paths("path_rename", (DIR, "file"), (OTHER, "new"))),
    ("path_symlink", "EEXIST", |s| s.call("path_symlink", &[Text("a"), Fd(DIR), Text("sub/")])),
    ("path_symlink", "ENOSPC", |s| { s.fill(); s.call("path_symlink", &[Text("a"), Fd(OTHER), Text("new")]) }),
    ("path_symlink", "EROFS", |s| s.call("path_symlink", &[Text("a"), Fd(READ_ONLY), Text("new")])),
    ("path_unlink_file", "EISDIR", |s| s.path_call("path_unlink_file", DIR, "sub")),
    ("path_unlink_file", "EROFS", |s| s.path_call("path_unlink_file", READ_ONLY, "file")),
    ("poll_oneoff", "EBADF", |s| event(s, 1, 77)),
    ("poll_oneoff", "EBADF", |s| event(s, 2, 0)),
    ("poll_oneoff", "EINVAL", |s| s.guest.call("poll_oneoff", &[2048, 4096, 0, OUT.into()])),
    ("poll_oneoff", "EINVAL", |s| s.guest.call("poll_oneoff", &[2048, 4096, 1 << 20, OUT.into()])),
    ("poll_oneoff", "ENOENT", |s| event(s, 2, NOWHERE)),
    ("poll_oneoff", "ENOTCAPABLE", |s| { s.guest.expect("fd_fdstat_set_rights", &[FILE, FD_READ, 0], ()); event(s, 1, FILE) }),
    ("poll_oneoff", "ENOTSUP", |s| event(s, 0, 2)),
    ("proc_raise", "EINVAL", |s| s.guest.call("proc_raise", &[31])),
    ("proc_raise", "ENOTSUP", |s| s.guest.call("proc_raise", &[18])),
    ("sock_accept", "EAGAIN", |s| { s.guest.expect("fd_fdstat_set_flags", &[LISTENER, 4], ()); s.call("sock_accept", &good("sock_accept")) }),
    ("sock_accept", "EINVAL", |s| s.call("sock_accept", &[Fd(LISTENER), Value(1), Pointer])),
    ("sock_accept", "EMFILE", |s| { while open(s, DIR, "file", 0, ALL) == 0 {} s.call("sock_accept", &good("sock_accept")) }),
    ("sock_accept", "ENOTSOCK", |s| s.call("sock_accept", &[Fd(FILE), Value(0), Pointer])),
    ("sock_recv", "EAGAIN", |s| s.call("sock_recv", &good("sock_recv"))),
    ("sock_recv", "ECONNREFUSED", |s| s.call("sock_recv", &[Fd(REFUSED), Buffers, Value(0), Pointer, Pointer])),
    ("sock_recv", "ECONNRESET", |s| { reset(s); s.call("sock_recv", &good("sock_recv")) }),
    ("sock_recv", "EINVAL", |s| s.call("sock_recv", &[Fd(CONNECTION), Buffers, Value(4), Pointer, Pointer])),
    ("sock_recv", "ENOENT", |s| s.call("sock_recv", &[Fd(NOWHERE), Buffers, Value(0), Pointer, Pointer])),
    ("sock_recv", "ENOTCONN", |s| s.call("sock_recv", &[Fd(LISTENER), Buffers, Value(0), Pointer, Pointer])),
    ("sock_recv", "ENOTSOCK", |s| s.call("sock_recv", &[Fd(FILE), Buffers, Value(0), Pointer, Pointer])),
    ("sock_send", "EAGAIN", |s| { while s.guest.write(CONNECTION, &[1; 65_536]).is_ok() {} s.call("sock_send", &good("sock_send")) }),
    ("sock_send", "ECONNREFUSED", |s| s.call("sock_send", &[Fd(REFUSED), Buffers, Value(0), Pointer])),
    ("sock_send", "ECONNRESET", |s| { reset(s); s.call("sock_send", &good("sock_send")) }),
    ("sock_send", "EINVAL", |s| s.call("sock_send", &[Fd(CONNECTION), Buffers, Value(1), Pointer])),
    ("sock_send", "ENOENT", |s| s.call("sock_send", &[Fd(NOWHERE), Buffers, Value(0), Pointer])),
    ("sock_send", "ENOTCONN", |s| s.call("sock_send", &[Fd(LISTENER), Buffers, Value(0), Pointer])),
    ("sock_send", "ENOTSOCK", |s| s.call("sock_send", &[Fd(FILE), Buffers, Value(0), Pointer])),
    ("sock_send", "EPIPE", |s| { shut(s); s.call("sock_send", &good("sock_send")) }),
    ("sock_shutdown", "EINVAL", |s| s.call("sock_shutdown", &[Fd(CONNECTION), Value(0)])),
    ("sock_shutdown", "ENOENT", |s| s.call("sock_shutdown", &[Fd(NOWHERE), Value(1)])),
    ("sock_shutdown", "ENOTCONN", |s| s.call("sock_shutdown", &[Fd(REFUSED), Value(1)])),
    ("sock_shutdown", "ENOTSOCK", |s| s.call("sock_shutdown", &[Fd(FILE), Value(1)])),
];

fn open(scene: &mut Scene, dir: i64, path: &'static str, oflags: i64, rights: i64) -> u32 {
    let asked = [
        Fd(dir),
        Value(0),
        Text(path),
        Value(oflags),
        Value(rights),
        Value(ALL),
        Value(0),
        Pointer,
    ];
    scene.call("path_open", &asked)
}

/// Both ends of terminals whose other end is gone: reading the first fails, and so does writing the
/// second.
fn terminal() -> (OwnedFd, OwnedFd) {
    let both = || {
        let keyboard = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        pty::unlockpt(&keyboard).expect("its own");
        let name = pty::ptsname(&keyboard, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let program = rustix::fs::open(name, flags, Mode::empty()).expect("opens");
        (keyboard, program)
    };
    (both().0, both().1)
}

/// The other end is closed with something unread, which resets the connection.
fn reset(scene: &mut Scene) {
    scene.guest.write(CONNECTION, b"unread").expect("connected");
    let peer = scene.peer.take().expect("connected");
    peer.peek(&mut [0]).expect("it has come");
    drop(peer);
}

/// Everything that it may write is written.
fn exhaust(scene: &mut Scene) {
    for _ in 0..2 {
        scene.guest.expect("fd_allocate", &[FILE, 0, 1 << 20], ());
    }
}

fn shut(scene: &mut Scene) {
    scene.guest.expect("sock_shutdown", &[CONNECTION, 2], ());
}

/// A file system that is mounted in the guest's directory.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(scene: &Scene) -> Self {
        let place = scene.directory.path().join("sub");
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None).expect("as before");
        Self(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// The code's number in the specification.
fn number(name: &str) -> u32 {
    let errno = match name {
        "EACCES" => Errno::Acces,
        "EAGAIN" => Errno::Again,
        "EBADF" => Errno::Badf,
        "EBUSY" => Errno::Busy,
        "ECONNREFUSED" => Errno::Connrefused,
        "ECONNRESET" => Errno::Connreset,
        "EDQUOT" => Errno::Dquot,
        "EEXIST" => Errno::Exist,
        "EFAULT" => Errno::Fault,
        "EFBIG" => Errno::Fbig,
        "EILSEQ" => Errno::Ilseq,
        "EINVAL" => Errno::Inval,
        "EIO" => Errno::Io,
        "EISDIR" => Errno::Isdir,
        "ELOOP" => Errno::Loop,
        "EMFILE" => Errno::Mfile,
        "ENAMETOOLONG" => Errno::Nametoolong,
        "ENOENT" => Errno::Noent,
        "ENOSPC" => Errno::Nospc,
        "ENOTCAPABLE" => Errno::Notcapable,
        "ENOTCONN" => Errno::Notconn,
        "ENOTDIR" => Errno::Notdir,
        "ENOTEMPTY" => Errno::Notempty,
        "ENOTSOCK" => Errno::Notsock,
        "ENOTSUP" => Errno::Notsup,
        "EPERM" => Errno::Perm,
        "EPIPE" => Errno::Pipe,
        "EROFS" => Errno::Rofs,
        "ESPIPE" => Errno::Spipe,
        "ETXTBSY" => Errno::Txtbsy,
        "EXDEV" => Errno::Xdev,
        unknown => panic!("{unknown}"),
    };
    errno as u32
}

/// A function and a code.
type Pair = (String, String);

/// What the table in PREVIEW1.md says: the third column, its groups' names resolved.
fn documented() -> BTreeSet<Pair> {
    let text = include_str!("../PREVIEW1.md");
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect()
    };
    let is_code = |word: &String| {
        word.len() > 2 && word.starts_with('E') && word.chars().all(|c| c.is_ascii_uppercase())
    };
    let group = |word: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("- *{word}*: ")));
        line.map(words).unwrap_or_default().into_iter().filter(is_code).collect()
    };
    let mut pairs = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').collect();
        let names = cells[1].split('`').filter(|name| name.contains('_'));
        let codes: Vec<_> = words(cells[3])
            .into_iter()
            .flat_map(|word| if is_code(&word) { vec![word] } else { group(&word) })
            .collect();
        for name in names {
            pairs.extend(codes.iter().map(|code| (name.to_owned(), code.clone())));
        }
    }
    pairs
}

#[test]
fn each_code_of_each_function() {
    let mut provoked = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut skipped = BTreeSet::new();
    let mut check = |name: &str, code: &str, got: u32, what: &str| {
        provoked.insert((name.to_owned(), code.to_owned()));
        if got != number(code) {
            wrong.push(format!("{name}: {code} is {}, got {got}: {what}", number(code)));
        }
    };
    for (name, _) in FUNCTIONS {
        for (code, args) in spoilt(name) {
            let mut scene = Scene::new(false);
            let got = match code {
                "EACCES" => unprivileged(|| scene.call(name, &args)),
                _ => scene.call(name, &args),
            };
            check(name, code, got, "spoilt");
        }
        for fd in without_rights(name) {
            let mut scene = Scene::new(false);
            scene.give_up(fd);
            let code = match name {
                "fd_read" | "fd_write" | "fd_pread" | "fd_pwrite" => "EBADF",
                _ => "ENOTCAPABLE",
            };
            let args = match name {
                "fd_fdstat_set_rights" => vec![Fd(fd), Value(1), Value(0)],
                _ => good(name),
            };
            let got = scene.call(name, &args);
            check(name, code, got, "without rights");
        }
    }
    for (name, code, case) in CASES {
        let mounts = ["ENOSPC", "EXDEV", "EBUSY"].contains(code);
        let mut scene = Scene::new(mounts);
        if mounts && !scene.other.mounted {
            println!("skipped, since this process may not mount: {code} of {name}");
            skipped.insert((name.to_string(), code.to_string()));
            continue;
        }
        let got = case(&mut scene);
        check(name, code, got, "its case");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let documented = documented();
    provoked.extend(skipped);
    let unproven: Vec<_> = documented.difference(&provoked).collect();
    assert!(unproven.is_empty(), "documented, and nothing provokes it: {unproven:?}");
    let unsaid: Vec<_> = provoked.difference(&documented).collect();
    assert!(unsaid.is_empty(), "provoked, and not documented: {unsaid:?}");
    println!("{} pairs of function and code", provoked.len());
}
