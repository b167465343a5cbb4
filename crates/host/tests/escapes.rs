//! Attempts to get out of a directory. None does.

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use awsm_host::{Errno, FileLimits, Mount};
use common::*;

/// A directory with a secret beside the one that the guest has.
struct House {
    directory: tempfile::TempDir,
}

const SECRET: &str = "not for guests";

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("secret"), SECRET).expect("made");
        std::fs::create_dir_all(directory.path().join("room/inner")).expect("made");
        std::fs::write(directory.path().join("room/own"), "own").expect("made");
        Self { directory }
    }

    fn room(&self) -> std::path::PathBuf {
        self.directory.path().join("room")
    }

    fn guest(&self) -> Guest {
        Guest::in_directory(&self.room())
    }

    /// The secret is where and what it was.
    fn check(&self) {
        let secret = std::fs::read_to_string(self.directory.path().join("secret"));
        assert_eq!(secret.expect("still there"), SECRET);
        let names = std::fs::read_dir(self.directory.path()).expect("there").count();
        assert_eq!(names, 2, "nothing was put beside it");
    }
}

const FOLLOWING: Open = Open { lookup: FOLLOW, ..Open::READ };

/// Every call that takes a path, with one that leads outside.
fn try_everything(guest: &mut Guest, path: &str, errno: Errno) {
    for how in [
        Open::READ,
        FOLLOWING,
        Open::CREATE,
        Open::DIRECTORY,
        Open { oflags: TRUNC, ..FOLLOWING },
        Open { rights: FD_WRITE, ..FOLLOWING },
    ] {
        assert_eq!(guest.try_open(3, path, how), Err(errno), "{path}");
    }
    for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        guest.at(name, 3, path, errno);
    }
    let [at, len] = guest.path(path);
    for follow in [0, FOLLOW] {
        guest.expect("path_filestat_get", &[3, follow, at, len, OUT.into()], errno);
        guest.expect("path_filestat_set_times", &[3, follow, at, len, 0, 0, 5], errno);
    }
    guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 100, OUT.into()], errno);
    guest.rename((3, path), (3, "stolen"), errno);
    guest.rename((3, "own"), (3, path), errno);
    guest.link((3, path), (3, "stolen"), errno);
    guest.link((3, "own"), (3, path), errno);
    guest.symlink("own", 3, path, errno);
}

#[test]
fn upwards() {
    let house = House::new();
    let mut guest = house.guest();
    for path in [
        "../secret",
        "inner/../../secret",
        "./.././secret",
        "inner/../inner/../../secret",
        "../room/../secret",
    ] {
        try_everything(&mut guest, path, Errno::Notcapable);
    }
    assert_eq!(guest.try_open(3, "..", Open::DIRECTORY), Err(Errno::Notcapable));
    // Nor from a directory within, although the room is the guest's.
    let inner = guest.open(3, "inner", Open::DIRECTORY);
    assert_eq!(guest.try_open(inner, "../own", Open::READ), Err(Errno::Notcapable));
    assert!(guest.try_open(3, "inner/../own", Open::READ).is_ok());
    house.check();
}

#[test]
fn absolute_paths() {
    let house = House::new();
    let mut guest = house.guest();
    let secret = house.directory.path().join("secret").display().to_string();
    let own = house.room().join("own").display().to_string();
    for path in [&secret, &own, "/", "/proc/self/environ", "//etc/passwd"] {
        assert_eq!(guest.try_open(3, path, Open::READ), Err(Errno::Notcapable), "{path}");
    }
    try_everything(&mut guest, &secret, Errno::Notcapable);
    house.check();
}

#[test]
fn links_out() {
    let house = House::new();
    let secret = house.directory.path().join("secret");
    symlink(&secret, house.room().join("absolute")).expect("made");
    symlink("../secret", house.room().join("relative")).expect("made");
    symlink("inner/../../secret", house.room().join("winding")).expect("made");
    symlink("..", house.room().join("up")).expect("made");
    symlink("/", house.room().join("root")).expect("made");
    symlink("relative", house.room().join("twice")).expect("made");
    let mut guest = house.guest();
    for path in ["absolute", "relative", "winding", "twice"] {
        for how in [
            FOLLOWING,
            Open { lookup: FOLLOW, ..Open::CREATE },
            Open { oflags: TRUNC, ..FOLLOWING },
        ] {
            assert_eq!(guest.try_open(3, path, how), Err(Errno::Notcapable), "{path}");
        }
        assert_eq!(guest.try_open(3, path, Open::READ), Err(Errno::Loop), "{path}");
        let [at, len] = guest.path(path);
        guest.expect("path_filestat_get", &[3, FOLLOW, at, len, OUT.into()], Errno::Notcapable);
        let times = [3, FOLLOW, at, len, 0, 0, 5];
        guest.expect("path_filestat_set_times", &times, Errno::Notcapable);
    }
    for path in ["up/secret", "up/room/own", "root/etc/passwd"] {
        try_everything(&mut guest, path, Errno::Notcapable);
    }
    // A hard link to a link that leads out is still that link.
    guest.link((3, "relative"), (3, "linked"), ());
    assert_eq!(guest.try_open(3, "linked", FOLLOWING), Err(Errno::Notcapable));
    // A guest may make links that lead out; they lead it nowhere.
    guest.symlink("../secret", 3, "made", ());
    // What a look-up goes through is bounded: 40 links, each of so many parts.
    guest.symlink(&"./".repeat(64), 3, "long", Errno::Nametoolong);
    guest.symlink(&"./".repeat(63), 3, "shorter", ());
    assert_eq!(guest.try_open(3, "made", FOLLOWING), Err(Errno::Notcapable));
    guest.symlink(&secret.display().to_string(), 3, "made absolute", Errno::Notcapable);
    house.check();
}

#[test]
fn directories_that_move() {
    let house = House::new();
    let mut guest = house.guest();
    // A directory that is open, moved outside by somebody else: what is above it there stays
    // closed.
    let inner = guest.open(3, "inner", Open::DIRECTORY);
    std::fs::rename(house.room().join("inner"), house.directory.path().join("moved"))
        .expect("moved");
    assert_eq!(guest.try_open(inner, "../secret", Open::READ), Err(Errno::Notcapable));
    assert_eq!(guest.try_open(inner, "..", Open::DIRECTORY), Err(Errno::Notcapable));
    std::fs::rename(house.directory.path().join("moved"), house.room().join("inner"))
        .expect("back");
    house.check();
}

/// While another thread exchanges a directory for a link that leads out, again and again, the guest
/// finds its own file, or nothing; never the one outside.
#[test]
fn racing_renames() {
    let house = House::new();
    let room = house.room();
    std::fs::create_dir(room.join("door")).expect("made");
    std::fs::write(room.join("door/secret"), "own").expect("made");
    std::fs::create_dir(house.directory.path().join("room/inner/deep")).expect("made");
    symlink("..", room.join("out")).expect("made");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(&room, &stop));
        let mut guest = house.guest();
        let (mut own, mut refused) = (0, 0);
        let began = std::time::Instant::now();
        let mut rounds = 0;
        while rounds < 3000 || own == 0 && began.elapsed().as_secs() < 20 {
            rounds += 1;
            match guest.try_open(3, "door/secret", FOLLOWING) {
                Ok(file) => {
                    assert_eq!(guest.read(file, 100), Ok(b"own".to_vec()));
                    guest.close(file);
                    own += 1;
                }
                Err(Errno::Notcapable | Errno::Noent | Errno::Again | Errno::Loop) => refused += 1,
                Err(errno) => panic!("{errno:?}"),
            }
            guest.try_open(3, "door/planted", Open::CREATE).map(|file| guest.close(file)).ok();
            let [at, len] = guest.path("door/secret");
            if guest.call("path_filestat_get", &[3, 0, at, len, OUT.into()]) == 0 {
                assert_eq!(guest.u64_at(OUT + 32), 3, "the guest's own file's size");
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("{own} times its own, {refused} times nothing");
        assert!(own > 0);
    });
    house.check();
}

fn exchange(room: &Path, stop: &AtomicBool) {
    let directory = rustix::fs::open(
        room,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .expect("opens");
    while !stop.load(Ordering::Relaxed) {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&directory, "door", &directory, "out", flags).expect("exchanged");
    }
}

/// The system's own doors, in a directory that has them.
#[test]
fn devices_and_proc() {
    let mounts =
        ["/proc", "/dev"].map(|path| Mount::open(path, Path::new(path), true).expect("there"));
    let mut guest = Guest::new(with_mounts(mounts.into(), FileLimits::default()));
    for path in ["self/root/etc/passwd", "self/cwd/Cargo.toml", "self/exe", "self/fd/0", "1/root"] {
        let opened = guest.try_open(3, path, FOLLOWING);
        assert!(
            matches!(opened, Err(Errno::Notcapable | Errno::Loop | Errno::Noent | Errno::Acces)),
            "{path}: {opened:?}"
        );
    }
    // The node's own memory, and its secrets: regular files, as far as the system is concerned.
    let own = std::process::id();
    for name in ["mem", "environ", "maps", "task", "fd", "root", "cwd"] {
        for how in [FOLLOWING, Open { rights: FD_READ | FD_WRITE, ..FOLLOWING }] {
            let opened = guest.try_open(3, &format!("{own}/{name}"), how);
            assert!(opened.is_err(), "{name}: {opened:?}");
        }
    }
    assert_eq!(guest.try_open(3, &format!("{own}/mem"), FOLLOWING), Err(Errno::Notcapable));
    for path in ["null", "zero", "tty", "stdin", "fd/0", "ptmx"] {
        let opened = guest.try_open(4, path, FOLLOWING);
        assert!(opened.is_err(), "{path}: {opened:?}");
    }
}

#[test]
fn special_files() {
    let house = House::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, house.room().join("fifo"), fifo, mode, 0).expect("made");
    let _socket =
        std::os::unix::net::UnixListener::bind(house.room().join("socket")).expect("bound");
    let mut guest = house.guest();
    // Neither waits for a writer nor gets one.
    assert_eq!(guest.try_open(3, "fifo", Open::READ), Err(Errno::Notcapable));
    assert_eq!(guest.try_open(3, "socket", Open::READ), Err(Errno::Notcapable));
    let write = Open { rights: FD_WRITE, ..Open::READ };
    for name in ["fifo", "socket"] {
        assert_eq!(guest.try_open(3, name, write), Err(Errno::Notcapable));
    }
}

#[test]
fn renumbering_over_a_directory() {
    let house = House::new();
    let mut guest = house.guest();
    let inner = guest.open(3, "inner", Open::DIRECTORY);
    guest.expect("fd_renumber", &[inner, 3], ());
    assert_eq!(guest.try_open(3, "own", Open::READ), Err(Errno::Noent));
    assert_eq!(guest.try_open(3, "../own", Open::READ), Err(Errno::Notcapable));
    guest.expect("fd_prestat_get", &[3, OUT.into()], Errno::Badf);
    house.check();
}

#[test]
fn descriptors_of_others() {
    let house = House::new();
    let mut first = house.guest();
    let mut second = Guest::new(awsm_host::WasiCtx::default());
    let file = first.open(3, "own", Open::READ);
    for fd in [3, file, 5, 100, i64::from(u32::MAX), i64::from(i32::MAX)] {
        assert_eq!(second.read(fd, 10), Err(Errno::Badf), "{fd}");
        second.expect("fd_close", &[fd], Errno::Badf);
        second.expect("fd_renumber", &[fd, 1], Errno::Badf);
        second.expect("fd_filestat_get", &[fd, OUT.into()], Errno::Badf);
    }
    assert_eq!(first.read(file, 10), Ok(b"own".to_vec()));
}

#[test]
fn rights_do_not_come_back() {
    let house = House::new();
    let mut guest = house.guest();
    guest.expect("fd_fdstat_get", &[3, OUT.into()], ());
    let (base, inheriting) = (guest.u64_at(OUT + 8), guest.u64_at(OUT + 16));
    let without = (inheriting & !(FD_WRITE as u64)).cast_signed();
    guest.expect("fd_fdstat_set_rights", &[3, base.cast_signed(), without], ());
    assert_eq!(
        guest.try_open(3, "own", Open { rights: FD_WRITE, ..Open::READ }),
        Err(Errno::Notcapable)
    );
    // Through a directory opened in it, neither.
    let again = guest.open(3, ".", Open::DIRECTORY);
    let how = Open { rights: FD_WRITE, ..Open::READ };
    assert_eq!(guest.try_open(again, "own", how), Err(Errno::Notcapable));
}
