//! `/dev` as a guest finds it: devices of ours, and nothing of the system's behind them.

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use awsm_host::{Errno, FileLimits, Grants, Mount, Output, Stdin, WasiCtx};
use common::*;

/// Types of files.
const CHARACTER_DEVICE: u8 = 2;
const DIRECTORY_TYPE: u8 = 3;

const BOTH: Open = Open { rights: ALL, ..Open::READ };

/// A guest with this directory as its root.
fn in_root(path: &Path, writable: bool) -> Guest {
    let mount = Mount::open("/", path, writable).expect("a directory");
    Guest::new(with_mounts(vec![mount], FileLimits::default()))
}

fn with_devices(mounts: Vec<Mount>, devices: Option<bool>) -> WasiCtx {
    let mut context = WasiCtx::default();
    context.grants = Some(Arc::new(Grants { mounts, devices, ..Grants::default() }));
    context
}

/// `path_filestat_get`: the type.
fn kind(guest: &mut Guest, dir: i64, path: &str) -> Result<u8, u32> {
    let [at, len] = guest.path(path);
    match guest.call("path_filestat_get", &[dir, 0, at, len, OUT.into()]) {
        0 => Ok(guest.get(OUT + 16, 1)[0]),
        errno => Err(errno),
    }
}

#[test]
fn devices_are_read_and_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Writing to them changes nothing of the directory.
    for writable in [true, false] {
        let mut guest = in_root(directory.path(), writable);
        let [null, zero, random, urandom] = ["null", "zero", "random", "urandom"].map(|name| {
            let path = format!("dev/{name}");
            assert_eq!(kind(&mut guest, 3, &path), Ok(CHARACTER_DEVICE), "{path}");
            let fd = guest.open(3, &path, BOTH);
            guest.expect("fd_fdstat_get", &[fd, OUT.into()], ());
            assert_eq!(guest.get(OUT, 1), [CHARACTER_DEVICE]);
            assert_eq!(guest.stat(fd), (CHARACTER_DEVICE, 0));
            assert_eq!(guest.write(fd, &[1; 30_000]), Ok(30_000));
            fd
        });
        assert_eq!(guest.read(null, 100), Ok(vec![]));
        guest.put(BUFFER, &[7; 100]);
        assert_eq!(guest.read(zero, 60_000), Ok(vec![0; 60_000]));
        let (first, second) = (guest.read(random, 60_000), guest.read(urandom, 60_000));
        let (first, second) = (first.expect("read"), second.expect("read"));
        assert_eq!((first.len(), second.len()), (60_000, 60_000));
        // None of the pieces in which they are made is left out.
        for bytes in [&first, &second] {
            assert!(bytes.chunks(64).all(|part| part.iter().any(|byte| *byte != 0)));
        }
        assert_ne!(first, second);
        // They have no positions, and can be asked for one.
        let [buffers, count] = guest.buffer(10);
        guest.expect("fd_pread", &[zero, buffers, count, 1 << 40, OUT.into()], ());
        assert_eq!(guest.u32_at(OUT), 10);
        guest.expect("fd_pwrite", &[zero, buffers, count, 5, OUT.into()], ());
        guest.expect("fd_pread", &[zero, buffers, count, -1, OUT.into()], Errno::Inval);
        guest.expect("fd_seek", &[zero, 100, 0, OUT.into()], ());
        assert_eq!(guest.u64_at(OUT), 0);
        guest.expect("fd_tell", &[null, OUT.into()], ());
        guest.expect("fd_sync", &[null], Errno::Inval);
        guest.expect("fd_advise", &[null, 0, 0, 0], ());
        guest.expect("fd_filestat_set_size", &[null, 0], Errno::Spipe);
        // Pointers are checked as everywhere.
        guest.expect("fd_read", &[zero, END - 4, 1, OUT.into()], Errno::Fault);
        guest.expect("fd_write", &[null, END - 4, 1, OUT.into()], Errno::Fault);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
}

#[test]
fn the_streams_have_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut guest = in_root(directory.path(), false);
    guest.context().stdin = Stdin::Bytes("input".into());
    guest.context().stderr = Output::buffer(100);
    let stdin = guest.open(3, "dev/stdin", Open { rights: FD_READ, ..Open::READ });
    assert_eq!(guest.read(stdin, 3), Ok(b"inp".to_vec()));
    assert_eq!(guest.read(0, 10), Ok(b"ut".to_vec()), "it is the same stream");
    assert_eq!(guest.write(stdin, b"x"), Err(Errno::Badf));
    for (name, fd) in [("dev/stdout", 1), ("dev/stderr", 2)] {
        assert_eq!(kind(&mut guest, 3, name), Ok(CHARACTER_DEVICE));
        let how = Open { oflags: CREAT | TRUNC, rights: FD_WRITE, ..Open::READ };
        let opened = guest.open(3, name, how);
        assert_eq!(guest.write(opened, b"one "), Ok(4));
        assert_eq!(guest.write(fd, b"two"), Ok(3));
        assert_eq!(guest.read(opened, 1), Err(Errno::Badf));
        guest.close(opened);
        assert_eq!(guest.write(fd, b"!"), Ok(1), "it stays open");
    }
    let context = guest.context();
    assert_eq!(
        (context.stdout.written(), context.stderr.written()),
        (&b"one two!"[..], &b"one two!"[..])
    );
}

#[test]
fn the_directory_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut guest = in_root(directory.path(), true);
    let expected = [
        (".", DIRECTORY_TYPE),
        ("..", DIRECTORY_TYPE),
        ("null", CHARACTER_DEVICE),
        ("zero", CHARACTER_DEVICE),
        ("random", CHARACTER_DEVICE),
        ("urandom", CHARACTER_DEVICE),
        ("stdin", CHARACTER_DEVICE),
        ("stdout", CHARACTER_DEVICE),
        ("stderr", CHARACTER_DEVICE),
    ]
    .map(|(name, kind)| (name.to_owned(), kind));
    for path in ["dev", "./dev/", "dev/.", "dev/../dev"] {
        assert_eq!(kind(&mut guest, 3, path), Ok(DIRECTORY_TYPE), "{path}");
        let dev = guest.open(3, path, Open::DIRECTORY);
        for bytes in [40, 60, 4096] {
            assert_eq!(list(&mut guest, dev, bytes), expected);
        }
        assert_eq!(guest.stat(dev), (DIRECTORY_TYPE, 0));
        assert_eq!(guest.read(dev, 1), Err(Errno::Isdir));
        let null = guest.open(dev, "null", BOTH);
        assert_eq!(guest.read(null, 1), Ok(vec![]));
        assert_eq!(guest.try_open(dev, "../x", Open::READ), Err(Errno::Notcapable));
        guest.expect("fd_prestat_get", &[dev, OUT.into()], Errno::Badf);
        guest.expect("fd_filestat_set_times", &[dev, 0, 0, 5], Errno::Rofs);
        guest.expect("fd_fdstat_set_rights", &[dev, 0, 0], ());
        guest.expect("fd_readdir", &[dev, BUFFER.into(), 99, 0, OUT.into()], Errno::Notcapable);
        assert_eq!(guest.try_open(dev, "null", Open::READ), Err(Errno::Notcapable));
        guest.close(dev);
    }
    // What is asked of it as of any directory, and nothing changes in it.
    let how = |oflags| Open { oflags, ..BOTH };
    let append = Open { flags: 1, ..how(CREAT) };
    for opened in [how(CREAT), how(CREAT | TRUNC), append] {
        let null = guest.open(3, "dev/null", opened);
        assert_eq!(guest.write(null, b"x"), Ok(1));
    }
    for (path, how, errno) in [
        ("dev/null", how(CREAT | EXCL), Errno::Exist),
        ("dev/null", how(DIRECTORY), Errno::Notdir),
        ("dev/null/", BOTH, Errno::Notdir),
        ("dev/null/x", BOTH, Errno::Notdir),
        ("dev/sda", BOTH, Errno::Noent),
        ("dev/sda", how(CREAT), Errno::Rofs),
        ("dev", BOTH, Errno::Isdir),
        ("dev", how(CREAT | EXCL), Errno::Exist),
    ] {
        assert_eq!(guest.try_open(3, path, how), Err(errno), "{path}");
    }
    assert_eq!(kind(&mut guest, 3, "dev/sda"), Err(Errno::Noent as u32));
    guest.open(3, "file", Open::CREATE);
    for path in ["dev", "dev/null", "dev/new"] {
        for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
            guest.at(name, 3, path, Errno::Rofs);
        }
        guest.rename((3, path), (3, "stolen"), Errno::Rofs);
        guest.rename((3, "file"), (3, path), Errno::Rofs);
        guest.link((3, path), (3, "stolen"), Errno::Rofs);
        guest.link((3, "file"), (3, path), Errno::Rofs);
        guest.symlink("file", 3, path, Errno::Rofs);
        let [at, len] = guest.path(path);
        guest.expect("path_filestat_set_times", &[3, 0, at, len, 0, 0, 5], Errno::Rofs);
    }
    let [at, len] = guest.path("dev/null");
    guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 9, OUT.into()], Errno::Inval);
    // The root, opened again, is the root; what lies in it is not.
    let root = guest.open(3, "./.", Open::DIRECTORY);
    assert_eq!(kind(&mut guest, root, "dev/null"), Ok(CHARACTER_DEVICE));
    guest.at("path_create_directory", 3, "sub", ());
    let sub = guest.open(3, "sub", Open::DIRECTORY);
    assert_eq!(kind(&mut guest, sub, "dev/null"), Err(Errno::Noent as u32));
    guest.open(3, "dev/../file", Open::READ);
}

/// A right that a parent does not hand on, no device has.
#[test]
fn rights_to_devices_are_handed_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut guest = in_root(directory.path(), true);
    guest.expect("fd_fdstat_get", &[3, OUT.into()], ());
    let (base, inheriting) = (guest.u64_at(OUT + 8), guest.u64_at(OUT + 16));
    let without = inheriting.cast_signed() & !FD_WRITE;
    guest.expect("fd_fdstat_set_rights", &[3, base.cast_signed(), without], ());
    for path in ["dev/null", "dev/stdout"] {
        assert_eq!(guest.try_open(3, path, BOTH), Err(Errno::Notcapable), "{path}");
        let read = guest.open(3, path, Open::READ);
        assert_eq!(guest.write(read, b"x"), Err(Errno::Badf));
    }
    let dev = guest.open(3, "dev", Open::DIRECTORY);
    assert_eq!(guest.try_open(dev, "null", BOTH), Err(Errno::Notcapable));
    assert_eq!(guest.context().stdout.written(), b"");
}

/// The host's own devices stay the host's, by whatever path they are looked for.
#[test]
fn nothing_of_the_hosts_is_behind_them() {
    let mut guest = in_root(Path::new("/"), false);
    for name in ["dev/tty", "dev/ptmx", "dev/shm", "dev/fd/0", "dev/mem", "dev/fd"] {
        assert_eq!(guest.try_open(3, name, Open::READ), Err(Errno::Noent), "{name}");
        assert_eq!(kind(&mut guest, 3, name), Err(Errno::Noent as u32), "{name}");
    }
    let null = guest.open(3, "dev/null", BOTH);
    guest.expect("fd_filestat_get", &[null, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT), 0, "of no device of the system's");
    // A way round leads to the host's directory, where nothing of that kind can be opened.
    for path in ["tmp/../dev/null", "tmp/../dev/tty", "tmp/../dev/zero"] {
        assert!(guest.try_open(3, path, Open::READ).is_err(), "{path}");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(directory.path().join("dev")).expect("made");
    std::fs::write(directory.path().join("dev/null"), "the host's").expect("made");
    std::fs::write(directory.path().join("dev/own"), "the host's").expect("made");
    symlink("dev/null", directory.path().join("link")).expect("made");
    let mut guest = in_root(directory.path(), true);
    let null = guest.open(3, "dev/null", BOTH);
    assert_eq!((guest.read(null, 100), guest.write(null, b"x")), (Ok(vec![]), Ok(1)));
    assert_eq!(guest.try_open(3, "dev/own", Open::READ), Err(Errno::Noent));
    let kept = std::fs::read(directory.path().join("dev/null")).expect("there");
    assert_eq!(kept, b"the host's");
}

#[test]
fn who_has_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(directory.path().join("dev")).expect("made");
    std::fs::write(directory.path().join("dev/null"), "own").expect("made");
    let mount =
        |name, path: &str| Mount::open(name, &directory.path().join(path), true).expect("there");
    let name_of = |guest: &mut Guest, fd: i64| {
        if guest.call("fd_prestat_get", &[fd, OUT.into()]) != 0 {
            return None;
        }
        let len = guest.u32_at(OUT + 4);
        guest.expect("fd_prestat_dir_name", &[fd, OUT.into(), len.into()], ());
        Some(String::from_utf8(guest.get(OUT, len)).expect("text"))
    };
    // Not asked for, and no root; refused; a `/dev` of the guest's own.
    let none = [
        with_devices(vec![mount("/data", "")], None),
        with_devices(vec![mount("/", "")], Some(false)),
        with_devices(vec![mount("/", ""), mount("/dev", "dev")], None),
    ];
    for context in none {
        let mut guest = Guest::new(context);
        let file = guest.open(3, "dev/null", Open::READ);
        assert_eq!(guest.read(file, 10), Ok(b"own".to_vec()));
        assert_ne!(name_of(&mut guest, 5).as_deref(), Some("/dev"));
    }
    // Asked for without a root: one more preopened directory, after the others.
    for mounts in [vec![], vec![mount("/data", "")]] {
        let fd = 3 + mounts.len() as i64;
        let mut guest = Guest::new(with_devices(mounts, Some(true)));
        assert_eq!(name_of(&mut guest, fd).as_deref(), Some("/dev"));
        assert_eq!(name_of(&mut guest, fd + 1), None);
        let zero = guest.open(fd, "zero", Open::READ);
        assert_eq!(guest.read(zero, 3), Ok(vec![0; 3]));
        assert_eq!(kind(&mut guest, fd, "."), Ok(DIRECTORY_TYPE));
        assert_eq!(guest.try_open(fd, "..", Open::DIRECTORY), Err(Errno::Notcapable));
        assert_eq!(guest.try_open(fd, "../dev/zero", Open::READ), Err(Errno::Notcapable));
    }
}
