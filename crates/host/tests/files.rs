//! Files and directories, as a guest sees them.

mod common;

use awsm_host::{Errno, FileLimits, Helpers, Mount};
use common::*;

fn scratch() -> (tempfile::TempDir, Guest) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let guest = Guest::in_directory(directory.path());
    (directory, guest)
}

#[test]
fn a_file_is_written_and_read() {
    let (directory, mut guest) = scratch();
    let file = guest.open(3, "file", Open::CREATE);
    assert_eq!(guest.write(file, b"hello world"), Ok(11));
    guest.expect("fd_tell", &[file, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT), 11);
    guest.expect("fd_seek", &[file, -5, 2, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT), 6);
    assert_eq!(guest.read(file, 100), Ok(b"world".to_vec()));
    assert_eq!(guest.read(file, 100), Ok(vec![]));
    guest.expect("fd_seek", &[file, 1000, 1, OUT.into()], ());
    guest.expect("fd_seek", &[file, -2000, 1, OUT.into()], Errno::Inval);
    guest.expect("fd_seek", &[file, -1, 0, OUT.into()], Errno::Inval);
    guest.expect("fd_seek", &[file, 0, 3, OUT.into()], Errno::Inval);
    guest.expect("fd_seek", &[file, 0, 0, END - 7], Errno::Fault);
    assert_eq!(guest.stat(file), (4, 11));
    guest.close(file);
    guest.expect("fd_tell", &[file, OUT.into()], Errno::Badf);
    assert_eq!(std::fs::read(directory.path().join("file")).expect("there"), b"hello world");
}

#[test]
fn reading_and_writing_at_offsets() {
    let (_directory, mut guest) = scratch();
    let file = guest.open(3, "file", Open::CREATE);
    guest.put(BUFFER, b"abcdef");
    let [list, count] = guest.buffer(6);
    guest.expect("fd_pwrite", &[file, list, count, 10, OUT.into()], ());
    assert_eq!(guest.stat(file), (4, 16));
    guest.expect("fd_pread", &[file, list, count, 12, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT), guest.get(BUFFER, 6)), (4, b"cdefef".to_vec()));
    guest.expect("fd_tell", &[file, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT), 0);
    guest.expect("fd_pread", &[file, list, count, -1, OUT.into()], Errno::Inval);
    guest.expect("fd_pwrite", &[file, list, count, i64::MIN, OUT.into()], Errno::Inval);
    guest.expect("fd_pread", &[0, list, count, 0, OUT.into()], Errno::Spipe);
    guest.expect("fd_pwrite", &[1, list, count, 0, OUT.into()], Errno::Spipe);
    guest.expect("fd_pread", &[9, list, count, 0, OUT.into()], Errno::Badf);
    guest.expect("fd_pread", &[3, list, count, 0, OUT.into()], Errno::Isdir);
    guest.expect("fd_pwrite", &[3, list, count, 0, OUT.into()], Errno::Isdir);
    guest.expect("fd_pread", &[file, END, 1, 0, OUT.into()], Errno::Fault);
    guest.expect("fd_pread", &[file, list, 1 << 31, 0, OUT.into()], Errno::Inval);
}

/// The rights of a descriptor, and those of what is opened through it.
fn rights(guest: &mut Guest, fd: i64) -> (i64, i64) {
    guest.expect("fd_fdstat_get", &[fd, OUT.into()], ());
    (guest.u64_at(OUT + 8).cast_signed(), guest.u64_at(OUT + 16).cast_signed())
}

/// Only reading and writing must be asked for: a file has all other rights that can be used.
#[test]
fn files_have_all_rights_but_to_read_and_write() {
    const WRITING: i64 = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;
    let (_directory, mut guest) = scratch();
    guest.open(3, "file", Open::CREATE);
    let all = rights(&mut guest, 3).1 & FILE;
    for asked in [0, FD_READ, FD_READ | FD_ALLOCATE | FD_FILESTAT_SET_SIZE] {
        let read = guest.open(3, "file", Open { rights: asked, ..Open::READ });
        assert_eq!(rights(&mut guest, read).0, all & !WRITING & !(FD_READ & !asked), "{asked:x}");
        assert_eq!(guest.write(read, b"x"), Err(Errno::Badf));
        guest.expect("fd_seek", &[read, 0, 0, OUT.into()], ());
        guest.expect("fd_sync", &[read], ());
        guest.expect("fd_filestat_get", &[read, OUT.into()], ());
        guest.expect("fd_filestat_set_times", &[read, 0, 0, 5], ());
        guest.expect("fd_filestat_set_size", &[read, 0], Errno::Notcapable);
        guest.expect("fd_allocate", &[read, 0, 1], Errno::Notcapable);
    }
    let write = guest.open(3, "file", Open { rights: FD_WRITE, ..Open::READ });
    assert_eq!(rights(&mut guest, write).0, all & !FD_READ);
    assert_eq!(guest.read(write, 1), Err(Errno::Badf));
    assert_eq!(guest.write(write, b"x"), Ok(1));
    guest.expect("fd_filestat_set_size", &[write, 0], ());
    // What is given up does not come back.
    let times = rights(&mut guest, write).0 & !(1 << 23);
    guest.expect("fd_fdstat_set_rights", &[write, times, 0], ());
    guest.expect("fd_filestat_set_times", &[write, 0, 0, 5], Errno::Notcapable);
    guest.expect("fd_fdstat_set_rights", &[write, 0, 0], ());
    assert_eq!(guest.write(write, b"x"), Err(Errno::Badf));
    guest.expect("fd_fdstat_set_rights", &[write, FD_WRITE, 0], Errno::Notcapable);
    guest.expect("fd_fdstat_set_rights", &[write, 0, 1], Errno::Notcapable);
    guest.expect("fd_fdstat_set_rights", &[77, 0, 0], Errno::Badf);
}

/// A file that may be read and not written is read by who asks for no writing, whatever else is
/// asked for, and so are directories and programs that run.
#[test]
fn nothing_is_opened_for_writing_unasked() {
    let (directory, mut guest) = scratch();
    let path = directory.path().join("file");
    std::fs::write(&path, "text").expect("made");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400))
        .expect("its own");
    let rights = ALL & !FD_WRITE;
    let how = Open { rights, ..Open::READ };
    unprivileged(|| {
        let file = guest.open(3, "file", how);
        assert_eq!(guest.read(file, 10), Ok(b"text".to_vec()));
        guest.expect("fd_filestat_set_size", &[file, 0], Errno::Notcapable);
        let write = Open { rights: FD_WRITE, ..Open::READ };
        assert_eq!(guest.try_open(3, "file", write), Err(Errno::Acces));
    });
    guest.open(3, ".", how);
    guest.open(3, ".", Open { oflags: DIRECTORY, ..how });
    let _running = Running::new(&directory.path().join("program"));
    guest.open(3, "program", how);
}

/// A directory has every right that its parent hands on, whatever was asked for.
#[test]
fn directories_have_the_rights_that_are_handed_on() {
    let (_directory, mut guest) = scratch();
    guest.at("path_create_directory", 3, "sub", ());
    let whole = rights(&mut guest, 3);
    let none = Open { oflags: DIRECTORY, rights: 0, ..Open::READ };
    let sub = guest.open_inheriting(3, "sub", none, 0);
    assert_eq!(rights(&mut guest, sub), whole);
    guest.expect("fd_filestat_get", &[sub, OUT.into()], ());
    guest.at("path_create_directory", sub, "new", ());
    let file = guest.open(sub, "file", Open { oflags: CREAT | TRUNC, ..Open::CREATE });
    assert_eq!(guest.write(file, b"text"), Ok(4));
    let deep = guest.open_inheriting(sub, "new", none, 0);
    guest.open(deep, "file", Open::CREATE);
    guest.expect("fd_readdir", &[deep, BUFFER.into(), 100, 0, OUT.into()], ());
    // What a parent does not hand on, nothing below it has, however it is asked for.
    for lost in (0..30).map(|bit| 1 << bit).filter(|bit| whole.1 & bit != 0) {
        let narrow = guest.open(3, "sub", none);
        let handed_on = whole.1 & !lost;
        guest.expect("fd_fdstat_set_rights", &[narrow, whole.0, handed_on], ());
        let below = guest.open(narrow, "new", Open { rights: ALL & !ASKED, ..none });
        assert_eq!(rights(&mut guest, below), (whole.0 & handed_on, handed_on), "{lost:x}");
        let everything = Open { rights: ALL & !(ASKED & lost), ..Open::READ };
        let file = guest.open(narrow, "file", everything);
        assert_eq!(rights(&mut guest, file), (whole.1 & FILE & handed_on & writing(lost), 0));
        [narrow, below, file].into_iter().for_each(|fd| guest.close(fd));
    }
}

/// What a file may that was opened without this right.
fn writing(lost: i64) -> i64 {
    if lost == FD_WRITE { !(FD_ALLOCATE | FD_FILESTAT_SET_SIZE) } else { ALL }
}

/// Each right of a directory, and a call that needs it.
#[test]
fn directories_do_what_they_have_the_right_to() {
    let (_directory, mut guest) = scratch();
    guest.open(3, "file", Open::CREATE);
    guest.at("path_create_directory", 3, "sub", ());
    let none = guest.open(3, "sub", Open { oflags: DIRECTORY, rights: 0, ..Open::READ });
    guest.expect("fd_fdstat_set_rights", &[none, 0, 0], ());
    assert_eq!(guest.try_open(none, "x", Open::CREATE), Err(Errno::Notcapable));
    for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        guest.at(name, none, "x", Errno::Notcapable);
    }
    guest.rename((none, "x"), (3, "y"), Errno::Notcapable);
    guest.rename((3, "file"), (none, "y"), Errno::Notcapable);
    guest.link((none, "x"), (3, "y"), Errno::Notcapable);
    guest.link((3, "file"), (none, "y"), Errno::Notcapable);
    guest.symlink("x", none, "y", Errno::Notcapable);
    let [at, len] = guest.path("x");
    guest.expect("path_filestat_get", &[none, 0, at, len, OUT.into()], Errno::Notcapable);
    let times = [none, 0, at, len, 0, 0, 0];
    guest.expect("path_filestat_set_times", &times, Errno::Notcapable);
    let readlink = [none, at, len, BUFFER.into(), 10, OUT.into()];
    guest.expect("path_readlink", &readlink, Errno::Notcapable);
    guest.expect("fd_readdir", &[none, BUFFER.into(), 100, 0, OUT.into()], Errno::Notcapable);
    // Cutting a file off needs a right of the directory's, and nothing of the file's.
    let truncate = Open { oflags: TRUNC, rights: 0, ..Open::READ };
    assert!(guest.try_open(3, "file", truncate).is_ok());
    let (base, inheriting) = rights(&mut guest, 3);
    assert_eq!(base & FD_FILESTAT_SET_SIZE, 0, "directories have no size to set");
    guest.expect("fd_fdstat_set_rights", &[3, base & !(1 << 19), inheriting], ());
    assert_eq!(guest.try_open(3, "file", truncate), Err(Errno::Notcapable));
}

#[test]
fn directories_are_not_files() {
    let (_directory, mut guest) = scratch();
    assert_eq!(guest.read(3, 1), Err(Errno::Isdir));
    assert_eq!(guest.write(3, b"x"), Err(Errno::Isdir));
    guest.expect("fd_seek", &[3, 0, 1, OUT.into()], Errno::Isdir);
    guest.expect("fd_tell", &[3, OUT.into()], Errno::Isdir);
    guest.expect("fd_allocate", &[3, 0, 1], Errno::Isdir);
    guest.expect("fd_filestat_set_size", &[3, 0], Errno::Isdir);
    guest.expect("fd_sync", &[3], ());
    guest.expect("fd_datasync", &[3], ());
    guest.expect("fd_advise", &[3, 0, 0, 0], ());
    let file = guest.open(3, "file", Open::CREATE);
    assert_eq!(guest.try_open(file, "x", Open::READ), Err(Errno::Notdir));
    guest.expect("fd_readdir", &[file, BUFFER.into(), 100, 0, OUT.into()], Errno::Notdir);
    guest.at("path_create_directory", file, "x", Errno::Notdir);
    let both = Open { oflags: DIRECTORY, rights: FD_READ | FD_WRITE, ..Open::READ };
    assert_eq!(guest.try_open(3, ".", both), Err(Errno::Isdir));
    assert_eq!(guest.try_open(3, "file", Open::DIRECTORY), Err(Errno::Notdir));
    let wrong = Open { oflags: CREAT | DIRECTORY, ..Open::READ };
    assert_eq!(guest.try_open(3, "x", wrong), Err(Errno::Inval));
}

#[test]
fn opening() {
    let (_directory, mut guest) = scratch();
    let exclusive = Open { oflags: CREAT | EXCL, ..Open::CREATE };
    let file = guest.open(3, "file", exclusive);
    assert_eq!(guest.write(file, b"0123456789"), Ok(10));
    assert_eq!(guest.try_open(3, "file", exclusive), Err(Errno::Exist));
    assert_eq!(guest.try_open(3, "none", Open::READ), Err(Errno::Noent));
    assert_eq!(guest.try_open(3, "", Open::READ), Err(Errno::Noent));
    assert_eq!(guest.try_open(3, "file/", Open::READ), Err(Errno::Notdir));
    assert_eq!(guest.try_open(3, "file\0", Open::READ), Err(Errno::Inval));
    assert_eq!(guest.try_open(3, &"x".repeat(300), Open::READ), Err(Errno::Nametoolong));
    assert_eq!(guest.try_open(3, &"x/".repeat(2100), Open::READ), Err(Errno::Nametoolong));
    assert_eq!(guest.try_open(77, "file", Open::READ), Err(Errno::Badf));
    assert_eq!(guest.try_open(1, "file", Open::READ), Err(Errno::Notdir));
    assert_eq!(guest.try_open(3, "file", Open { oflags: 16, ..Open::READ }), Err(Errno::Inval));
    assert_eq!(guest.try_open(3, "file", Open { flags: 32, ..Open::READ }), Err(Errno::Inval));
    assert_eq!(guest.try_open(3, "file", Open { lookup: 2, ..Open::READ }), Err(Errno::Inval));
    guest.put(64, b"\xff\xfe");
    let args = [3, 0, 64, 2, 0, 0, 0, 0, OUT.into()];
    guest.expect("path_open", &args, Errno::Ilseq);
    guest.at("path_create_directory", 3, "a", ());
    guest.at("path_create_directory", 3, "a/b", ());
    guest.open(3, "a/.//b/../b/../../a///./b/", Open::DIRECTORY);
    let truncated = guest.open(3, "file", Open { oflags: TRUNC, ..Open::CREATE });
    assert_eq!(guest.stat(truncated), (4, 0));
}

#[test]
fn flags_of_files() {
    let (_directory, mut guest) = scratch();
    let file = guest.open(3, "file", Open { flags: 1, ..Open::CREATE });
    assert_eq!(guest.write(file, b"first"), Ok(5));
    guest.expect("fd_seek", &[file, 0, 0, OUT.into()], ());
    assert_eq!(guest.write(file, b"second"), Ok(6));
    assert_eq!(guest.stat(file), (4, 11));
    guest.expect("fd_fdstat_get", &[file, OUT.into()], ());
    assert_eq!(guest.get(OUT, 4), [4, 0, 1, 0]);
    guest.expect("fd_fdstat_set_flags", &[file, 4], ());
    guest.expect("fd_fdstat_get", &[file, OUT.into()], ());
    assert_eq!(guest.get(OUT, 4), [4, 0, 4, 0]);
    guest.expect("fd_seek", &[file, 0, 0, OUT.into()], ());
    assert_eq!(guest.write(file, b"FIRST"), Ok(5));
    assert_eq!(guest.stat(file), (4, 11));
    guest.expect("fd_fdstat_set_flags", &[file, 16], Errno::Notsup);
    guest.expect("fd_fdstat_set_flags", &[file, 32], Errno::Inval);
    guest.expect("fd_fdstat_set_flags", &[77, 0], Errno::Badf);
    guest.expect("fd_fdstat_set_flags", &[3, 1], Errno::Notsup);
    let synced = guest.open(3, "synced", Open { flags: 16, ..Open::CREATE });
    assert_eq!(guest.write(synced, b"x"), Ok(1));
    guest.expect("fd_fdstat_get", &[synced, OUT.into()], ());
    assert_eq!(guest.get(OUT + 2, 2), [16, 0]);
}

#[test]
fn sizes_and_times() {
    let (directory, mut guest) = scratch();
    let file = guest.open(3, "file", Open::CREATE);
    guest.expect("fd_allocate", &[file, 0, 100], ());
    guest.expect("fd_allocate", &[file, 10, 10], ());
    assert_eq!(guest.stat(file), (4, 100));
    guest.expect("fd_allocate", &[file, 90, 20], ());
    assert_eq!(guest.stat(file), (4, 110));
    guest.expect("fd_allocate", &[file, 0, 0], Errno::Inval);
    guest.expect("fd_allocate", &[file, -1, 2], Errno::Fbig);
    guest.expect("fd_allocate", &[1, 0, 1], Errno::Spipe);
    guest.expect("fd_allocate", &[77, 0, 1], Errno::Badf);
    guest.expect("fd_filestat_set_size", &[file, 7], ());
    assert_eq!(guest.stat(file), (4, 7));
    guest.expect("fd_filestat_set_size", &[file, -1], Errno::Inval);
    guest.expect("fd_filestat_set_size", &[77, 0], Errno::Badf);
    guest.expect("fd_advise", &[file, 0, 7, 3], ());
    guest.expect("fd_advise", &[file, 0, 7, 6], Errno::Inval);
    guest.expect("fd_advise", &[file, -1, 7, 0], Errno::Inval);
    guest.expect("fd_sync", &[file], ());
    guest.expect("fd_datasync", &[file], ());
    guest.expect("fd_sync", &[1], Errno::Notcapable);
    guest.expect("fd_sync", &[77], Errno::Badf);
    let times = |guest: &mut Guest, fd: i64| {
        guest.expect("fd_filestat_get", &[fd, OUT.into()], ());
        (guest.u64_at(OUT + 40), guest.u64_at(OUT + 48))
    };
    guest.expect("fd_filestat_set_times", &[file, 5_000_000_007, 9, 1 | 4], ());
    assert_eq!(times(&mut guest, file), (5_000_000_007, 9));
    guest.expect("fd_filestat_set_times", &[file, 0, 0, 8], ());
    let (atime, mtime) = times(&mut guest, file);
    assert!(atime == 5_000_000_007 && mtime > 1_700_000_000_000_000_000, "{atime} {mtime}");
    for wrong in [1 | 2, 4 | 8, 16, -1] {
        guest.expect("fd_filestat_set_times", &[file, 0, 0, wrong], Errno::Inval);
    }
    guest.expect("fd_filestat_set_times", &[77, 0, 0, 0], Errno::Badf);
    let [at, len] = guest.path("file");
    guest.expect("path_filestat_set_times", &[3, 0, at, len, 11, 12, 5], ());
    assert_eq!(times(&mut guest, file), (11, 12));
    guest.expect("path_filestat_set_times", &[3, 0, at, len, 0, 0, 12], Errno::Inval);
    // A link's own times, and those of what it leads to.
    std::os::unix::fs::symlink("file", directory.path().join("link")).expect("made");
    let [at, len] = guest.path("link");
    guest.expect("path_filestat_set_times", &[3, 0, at, len, 21, 22, 5], ());
    assert_eq!(times(&mut guest, file), (11, 12));
    guest.expect("path_filestat_set_times", &[3, FOLLOW, at, len, 31, 32, 5], ());
    assert_eq!(times(&mut guest, file), (31, 32));
    guest.expect("path_filestat_get", &[3, 0, at, len, OUT.into()], ());
    assert_eq!((guest.get(OUT + 16, 1), guest.u64_at(OUT + 48)), (vec![7], 22));
    guest.expect("path_filestat_get", &[3, FOLLOW, at, len, OUT.into()], ());
    assert_eq!((guest.get(OUT + 16, 1), guest.u64_at(OUT + 48)), (vec![4], 32));
    guest.expect("path_filestat_get", &[3, 2, at, len, OUT.into()], Errno::Inval);
    guest.expect("path_filestat_get", &[3, 0, at, len, END - 63], Errno::Fault);
    let [at, len] = guest.path("none");
    guest.expect("path_filestat_get", &[3, 0, at, len, OUT.into()], Errno::Noent);
    guest.expect("path_filestat_set_times", &[3, 0, at, len, 0, 0, 0], Errno::Noent);
}

/// A time has no sign: what is before 1970 is 0 wherever times come out, and what is after 2554 the
/// last that there is.
#[test]
fn times_that_do_not_fit() {
    use rustix::fs::{Timespec, Timestamps, futimens};
    let (directory, mut guest) = scratch();
    std::fs::create_dir(directory.path().join("dir")).expect("made");
    std::fs::write(directory.path().join("file"), "").expect("made");
    for (seconds, ns, expected) in [
        (-5, 750_000_000, 0),
        (-1, 999_999_999, 0),
        (-1, 0, 0),
        (0, 0, 0),
        (0, 1, 1),
        (1 << 33, 7, (1 << 33) * 1_000_000_000 + 7),
    ] {
        let time = Timespec { tv_sec: seconds, tv_nsec: ns };
        for name in ["file", "dir"] {
            let times = Timestamps { last_access: time, last_modification: time };
            let file = std::fs::File::open(directory.path().join(name)).expect("there");
            futimens(file, &times).expect("its own");
            let [at, len] = guest.path(name);
            guest.expect("path_filestat_get", &[3, 0, at, len, OUT.into()], ());
            let by_path = (guest.u64_at(OUT + 40), guest.u64_at(OUT + 48));
            let opened = guest.open(3, name, Open::READ);
            guest.expect("fd_filestat_get", &[opened, OUT.into()], ());
            let by_descriptor = (guest.u64_at(OUT + 40), guest.u64_at(OUT + 48));
            guest.close(opened);
            let expected = (expected, expected);
            assert_eq!((by_path, by_descriptor), (expected, expected), "{name} {seconds} {ns}");
        }
    }
}

#[test]
fn directories_are_made_and_removed() {
    let (_directory, mut guest) = scratch();
    guest.at("path_create_directory", 3, "sub", ());
    guest.at("path_create_directory", 3, "sub", Errno::Exist);
    guest.at("path_create_directory", 3, "none/sub", Errno::Noent);
    guest.open(3, "sub/file", Open::CREATE);
    guest.at("path_remove_directory", 3, "sub", Errno::Notempty);
    guest.at("path_remove_directory", 3, "sub/file", Errno::Notdir);
    guest.at("path_unlink_file", 3, "sub/file/", Errno::Notdir);
    guest.at("path_unlink_file", 3, "sub", Errno::Isdir);
    guest.at("path_unlink_file", 3, "sub/", Errno::Isdir);
    guest.at("path_unlink_file", 3, "sub/file", ());
    guest.at("path_unlink_file", 3, "sub/file", Errno::Noent);
    guest.at("path_remove_directory", 3, "sub/", ());
    guest.at("path_remove_directory", 3, "sub", Errno::Noent);
    for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
        guest.at(name, 3, "", Errno::Noent);
        guest.at(name, 77, "x", Errno::Badf);
        guest.expect(name, &[3, END, 1], Errno::Fault);
        guest.expect(name, &[3, -1, -1], Errno::Fault);
    }
}

#[test]
fn renaming() {
    let (_directory, mut guest) = scratch();
    guest.at("path_create_directory", 3, "source", ());
    guest.rename((3, "source/"), (3, "target/"), ());
    guest.rename((3, "source"), (3, "target"), Errno::Noent);
    guest.at("path_create_directory", 3, "source", ());
    guest.rename((3, "source"), (3, "target"), ());
    guest.at("path_create_directory", 3, "source", ());
    guest.open(3, "target/file", Open::CREATE);
    guest.rename((3, "source"), (3, "target"), Errno::Notempty);
    guest.rename((3, "source"), (3, "target/file"), Errno::Notdir);
    guest.rename((3, "target/file"), (3, "source"), Errno::Isdir);
    let target = guest.open(3, "target", Open::DIRECTORY);
    guest.rename((target, "file"), (3, "source/moved"), ());
    guest.open(3, "source/moved", Open::READ);
    guest.rename((3, "source"), (3, "source/inner"), Errno::Inval);
    guest.rename((77, "x"), (3, "y"), Errno::Badf);
    guest.rename((3, "x"), (77, "y"), Errno::Badf);
}

#[test]
fn links() {
    let (_directory, mut guest) = scratch();
    let file = guest.open(3, "file", Open::CREATE);
    guest.write(file, b"same").expect("written");
    guest.link((3, "file"), (3, "link"), ());
    let link = guest.open(3, "link", Open::READ);
    assert_eq!(guest.read(link, 10), Ok(b"same".to_vec()));
    guest.expect("fd_filestat_get", &[link, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT + 24), 2);
    guest.link((3, "file"), (3, "link"), Errno::Exist);
    guest.link((3, "file"), (3, "none/"), Errno::Noent);
    guest.at("path_create_directory", 3, "sub", ());
    guest.link((3, "sub"), (3, "subs"), Errno::Perm);
    let ([at, len], [to, to_len]) = (guest.path("file"), guest.second_path("other"));
    guest.expect("path_link", &[3, FOLLOW, at, len, 3, to, to_len], Errno::Inval);
    // What is removed stays for whoever has it open.
    guest.at("path_unlink_file", 3, "file", ());
    guest.at("path_unlink_file", 3, "link", ());
    guest.expect("fd_seek", &[link, 0, 0, OUT.into()], ());
    assert_eq!(guest.read(link, 10), Ok(b"same".to_vec()));
}

#[test]
fn symbolic_links() {
    let (_directory, mut guest) = scratch();
    guest.symlink("target", 3, "link", ());
    guest.symlink("target", 3, "link", Errno::Exist);
    guest.symlink("target", 3, "other/", Errno::Noent);
    let [at, len] = guest.path("link");
    guest.put(BUFFER, &[0; 10]);
    guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 10, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT), guest.get(BUFFER, 8)), (6, b"target\0\0".to_vec()));
    guest.put(BUFFER, &[0; 10]);
    guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 4, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT), guest.get(BUFFER, 6)), (4, b"targ\0\0".to_vec()));
    guest.expect("path_readlink", &[3, at, len, END - 3, 10, OUT.into()], Errno::Fault);
    assert_eq!(guest.try_open(3, "link", Open::READ), Err(Errno::Loop));
    let follow = Open { lookup: FOLLOW, ..Open::READ };
    assert_eq!(guest.try_open(3, "link", follow), Err(Errno::Noent));
    guest.at("path_create_directory", 3, "target", ());
    assert!(guest.try_open(3, "link", follow).is_ok());
    assert_eq!(guest.try_open(3, "link", Open::DIRECTORY), Err(Errno::Notdir));
    guest.symlink("loop", 3, "loop", ());
    assert_eq!(guest.try_open(3, "loop", follow), Err(Errno::Loop));
    assert_eq!(guest.try_open(3, "loop/x", Open::READ), Err(Errno::Loop));
    let [at, len] = guest.path("target");
    let readlink = [3, at, len, BUFFER.into(), 10, OUT.into()];
    guest.expect("path_readlink", &readlink, Errno::Inval);
    guest.at("path_unlink_file", 3, "link", ());
}

#[test]
fn listing() {
    let (directory, mut guest) = scratch();
    let mut empty = list(&mut guest, 3, 256);
    empty.sort();
    assert_eq!(empty, [(".".to_owned(), 3), ("..".to_owned(), 3)]);
    for number in 0..500 {
        std::fs::write(directory.path().join(format!("file.{number}")), "").expect("made");
    }
    for bytes in [60, 256, 4096, 32_768] {
        let mut names = list(&mut guest, 3, bytes);
        assert_eq!(names.len(), 502, "{bytes}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 502, "{bytes}: none twice");
    }
    // From any cookie, forwards and back.
    let name_at = |guest: &mut Guest, cookie: i64| {
        guest.expect("fd_readdir", &[3, BUFFER.into(), 300, cookie, OUT.into()], ());
        let len = guest.u32_at(BUFFER + 16);
        guest.get(BUFFER + 24, len)
    };
    let (first, later) = (name_at(&mut guest, 3), name_at(&mut guest, 400));
    assert_eq!((name_at(&mut guest, 3), name_at(&mut guest, 400)), (first, later));
    guest.expect("fd_readdir", &[3, BUFFER.into(), 300, 502, OUT.into()], ());
    assert_eq!(guest.u32_at(OUT), 0);
    guest.expect("fd_readdir", &[3, BUFFER.into(), 300, -1, OUT.into()], ());
    assert_eq!(guest.u32_at(OUT), 0);
    guest.expect("fd_readdir", &[3, BUFFER.into(), 0, 0, OUT.into()], ());
    guest.expect("fd_readdir", &[3, END - 10, 11, 0, OUT.into()], Errno::Fault);
    guest.expect("fd_readdir", &[3, BUFFER.into(), 100, 0, END - 3], Errno::Fault);
    guest.expect("fd_readdir", &[0, BUFFER.into(), 100, 0, OUT.into()], Errno::Notdir);
    guest.expect("fd_readdir", &[77, BUFFER.into(), 100, 0, OUT.into()], Errno::Badf);
}

#[test]
fn preopened_directories_have_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mount = |name, writable| Mount::open(name, directory.path(), writable).expect("there");
    let mounts = vec![mount("/data", true), mount("/long/name", false)];
    let mut guest = Guest::new(with_mounts(mounts, FileLimits::default()));
    guest.expect("fd_prestat_get", &[3, OUT.into()], ());
    assert_eq!(guest.u64_at(OUT), 5 << 32);
    guest.expect("fd_prestat_get", &[4, OUT.into()], ());
    guest.expect("fd_prestat_get", &[5, OUT.into()], Errno::Badf);
    guest.expect("fd_prestat_get", &[0, OUT.into()], Errno::Badf);
    guest.expect("fd_prestat_get", &[3, END - 7], Errno::Fault);
    guest.expect("fd_prestat_dir_name", &[3, OUT.into(), 100], ());
    assert_eq!(guest.get(OUT, 5), b"/data");
    guest.expect("fd_prestat_dir_name", &[3, OUT.into(), 4], Errno::Nametoolong);
    guest.expect("fd_prestat_dir_name", &[3, END - 4, 5], Errno::Fault);
    guest.expect("fd_prestat_dir_name", &[9, OUT.into(), 5], Errno::Badf);
    // What is opened in one is not one.
    let inner = guest.open(3, ".", Open::DIRECTORY);
    guest.expect("fd_prestat_get", &[inner, OUT.into()], Errno::Badf);
    guest.close(3);
    guest.expect("fd_prestat_get", &[3, OUT.into()], Errno::Badf);
}

#[test]
fn nothing_changes_in_a_read_only_directory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("file"), "old").expect("made");
    std::fs::create_dir(directory.path().join("sub")).expect("made");
    let mount = |writable| Mount::open("/", directory.path(), writable).expect("there");
    let mounts = vec![mount(false), mount(true)];
    let mut guest = Guest::new(with_mounts(mounts, FileLimits::default()));
    let sub = guest.open(3, "sub", Open::DIRECTORY);
    for dir in [3, sub] {
        assert_eq!(guest.try_open(dir, "new", Open::CREATE), Err(Errno::Rofs));
        for name in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
            guest.at(name, dir, "file", Errno::Rofs);
        }
        guest.symlink("a", dir, "b", Errno::Rofs);
        guest.rename((dir, "file"), (4, "x"), Errno::Rofs);
        guest.rename((4, "file"), (dir, "x"), Errno::Rofs);
        // A second name elsewhere would make it writable.
        guest.link((dir, "file"), (4, "x"), Errno::Rofs);
        guest.link((4, "file"), (dir, "x"), Errno::Rofs);
        guest.expect("fd_filestat_set_times", &[dir, 0, 0, 5], Errno::Rofs);
    }
    let [at, len] = guest.path("file");
    guest.expect("path_filestat_set_times", &[3, 0, at, len, 0, 0, 5], Errno::Rofs);
    for how in [Open { rights: FD_WRITE, ..Open::READ }, Open { oflags: TRUNC, ..Open::READ }] {
        assert_eq!(guest.try_open(3, "file", how), Err(Errno::Rofs));
    }
    let file = guest.open(3, "file", Open { rights: ALL & !FD_WRITE, ..Open::READ });
    assert_eq!(guest.read(file, 10), Ok(b"old".to_vec()));
    guest.expect("fd_filestat_set_size", &[file, 0], Errno::Notcapable);
    guest.expect("fd_allocate", &[file, 0, 10], Errno::Notcapable);
    guest.expect("fd_filestat_set_times", &[file, 0, 0, 5], Errno::Notcapable);
    assert_eq!(guest.write(file, b"new"), Err(Errno::Badf));
    assert_eq!(std::fs::read(directory.path().join("file")).expect("there"), b"old");
}

#[test]
fn descriptors_are_renumbered() {
    let (_directory, mut guest) = scratch();
    let (first, second) = (guest.open(3, "1", Open::CREATE), guest.open(3, "2", Open::CREATE));
    guest.write(first, b"one").expect("written");
    guest.expect("fd_renumber", &[first, second], ());
    guest.expect("fd_renumber", &[second, first], Errno::Badf);
    guest.expect("fd_renumber", &[77, second], Errno::Badf);
    guest.expect("fd_renumber", &[second, 1 << 30], Errno::Badf);
    assert_eq!(guest.stat(second), (4, 3));
    guest.expect("fd_renumber", &[second, second], ());
    // Over a stream: what is printed goes to the file.
    guest.expect("fd_renumber", &[second, 1], ());
    assert_eq!(guest.write(1, b" two"), Ok(4));
    assert_eq!(guest.stat(1), (4, 7));
    assert_eq!(guest.context().stdout.written(), b"");
    // A stream elsewhere stays the stream.
    let third = guest.open(3, "3", Open::CREATE);
    guest.expect("fd_renumber", &[2, third], ());
    guest.expect("fd_fdstat_get", &[2, OUT.into()], Errno::Badf);
    assert_eq!(guest.write(third, b"log"), Ok(3));
}

#[test]
fn files_have_limits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let limits = FileLimits { descriptors: 6, file_bytes: 100, written_bytes: 150 };
    let mut guest = Guest::new(in_directory(directory.path(), limits));
    let file = guest.open(3, "file", Open::CREATE);
    assert_eq!(guest.write(file, &[1; 80]), Ok(80));
    assert_eq!(guest.write(file, &[1; 80]), Ok(20));
    assert_eq!(guest.write(file, &[1; 80]), Err(Errno::Fbig));
    guest.expect("fd_filestat_set_size", &[file, 101], Errno::Fbig);
    guest.expect("fd_allocate", &[file, 100, 1], Errno::Fbig);
    let append = guest.open(3, "file", Open { flags: 1, ..Open::CREATE });
    assert_eq!(guest.write(append, b"x"), Err(Errno::Fbig));
    // At whatever offset: the system appends.
    let [list, count] = guest.buffer(1);
    guest.expect("fd_pwrite", &[append, list, count, 0, OUT.into()], Errno::Fbig);
    assert_eq!(guest.try_open(3, "other", Open::CREATE), Err(Errno::Mfile));
    guest.close(append);
    let other = guest.open(3, "other", Open::CREATE);
    assert_eq!(guest.write(other, &[1; 80]), Ok(50));
    assert_eq!(guest.write(other, &[1; 80]), Err(Errno::Dquot));
    guest.expect("fd_allocate", &[other, 0, 60], Errno::Dquot);
    assert_eq!(guest.write(other, b""), Ok(0));
}

#[test]
fn helpers_do_what_may_take_long() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut context = in_directory(directory.path(), FileLimits::default());
    let helpers = Helpers::new(2);
    context.helpers = Some(std::sync::Arc::clone(&helpers));
    let mut guest = Guest::new(context);
    let waits = |guest: &mut Guest| std::mem::take(&mut guest.waits).len();
    let file = guest.open(3, "file", Open::CREATE);
    assert_eq!(waits(&mut guest), 1, "made by a helper");
    guest.write(file, &[7; 1000]).expect("written");
    guest.open(3, "file", Open::READ);
    guest.stat(file);
    assert_eq!(waits(&mut guest), 0, "done at once");
    guest.expect("fd_sync", &[file], ());
    guest.expect("fd_datasync", &[file], ());
    let large = vec![8; 100_000];
    assert_eq!(guest.write(file, &large), Ok(100_000));
    guest.expect("fd_allocate", &[file, 0, 200_000], ());
    guest.expect("fd_filestat_set_size", &[file, 101_000], ());
    guest.rename((3, "file"), (3, "moved"), ());
    assert_eq!((guest.stat(file), waits(&mut guest)), ((4, 101_000), 6));
    // What was just written is in memory: nobody waits.
    guest.expect("fd_seek", &[file, 1000, 0, OUT.into()], ());
    assert_eq!((guest.read(file, 100_000), waits(&mut guest)), (Ok(large), 0));
    assert_eq!(list(&mut guest, 3, 4096).len(), 3);
    guest.link((3, "moved"), (3, "linked"), ());
    guest.symlink("moved", 3, "symbolic", ());
    guest.at("path_create_directory", 3, "sub", ());
    guest.at("path_create_directory", 3, "sub", Errno::Exist);
    guest.at("path_remove_directory", 3, "sub", ());
    guest.at("path_unlink_file", 3, "moved", ());
    guest.at("path_unlink_file", 3, "moved", Errno::Noent);
    guest.open(3, "cut", Open { oflags: CREAT | TRUNC, ..Open::CREATE });
    assert_eq!(waits(&mut guest), 9);
    assert!(helpers.threads() <= 2);
}

#[test]
fn the_predecessor_has_its_own_layouts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut guest = Guest::unstable(in_directory(directory.path(), FileLimits::default()));
    let file = guest.open(3, "file", Open::CREATE);
    guest.write(file, b"hello").expect("written");
    guest.put(OUT, &[0xee; 64]);
    guest.expect("fd_filestat_get", &[file, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT + 20), guest.u64_at(OUT + 24)), (1, 5));
    assert_eq!(guest.get(OUT + 56, 8), [0xee; 8]);
    let [at, len] = guest.path("file");
    guest.expect("path_filestat_get", &[3, 0, at, len, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT + 20), guest.u64_at(OUT + 24)), (1, 5));
    // From the current position, the end, the beginning.
    for (offset, whence, position) in [(-1, 0, 4), (-2, 1, 3), (2, 2, 2)] {
        guest.expect("fd_seek", &[file, offset, whence, OUT.into()], ());
        assert_eq!(guest.u64_at(OUT), position);
    }
    guest.expect("fd_seek", &[file, 0, 3, OUT.into()], Errno::Inval);
    let mut subscription = [0; 56];
    subscription[0] = 9;
    subscription[24] = 1;
    subscription[32..40].copy_from_slice(&1_000_000_u64.to_le_bytes());
    guest.put(2048, &subscription);
    guest.expect("poll_oneoff", &[2048, 4096, 1, OUT.into()], ());
    assert_eq!((guest.u32_at(OUT), guest.u64_at(4096)), (1, 9));
    assert_eq!(guest.waits.len(), 1);
}

/// What a helper was asked is what its answer is for, although the file has changed by then: at the
/// edge of each limit a call is done once, and the next call of another kind has an answer of its
/// own.
#[test]
fn a_helpers_work_is_decided_upon_once() {
    const SYNC: i64 = 16;
    const APPEND: i64 = 1;
    for (file_bytes, flags, first, second) in [
        // What is left for a second write would be done at once...
        (150_000, 0, 100_000, Ok(50_000)),
        (150_000, APPEND, 100_000, Ok(50_000)),
        // ...and here there is none.
        (100_000, 0, 100_000, Err(Errno::Fbig)),
        (100_000, APPEND, 100_000, Err(Errno::Fbig)),
        (10, SYNC, 10, Err(Errno::Fbig)),
        (15, SYNC, 10, Ok(5)),
        (99_999, 0, 99_999, Err(Errno::Fbig)),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let limits = FileLimits { file_bytes, ..FileLimits::default() };
        let mut context = in_directory(directory.path(), limits);
        context.helpers = Some(Helpers::new(1));
        let mut guest = Guest::new(context);
        let file = guest.open(3, "file", Open { flags, ..Open::CREATE });
        let bytes = vec![b'x'; if flags == SYNC { 10 } else { 100_000 }];
        guest.waits.clear();
        assert_eq!(guest.write(file, &bytes), Ok(first), "{file_bytes} {flags}");
        assert_eq!(guest.stat(file), (4, first.into()), "written once");
        assert!(!guest.waits.is_empty(), "by a helper");
        // Everything else that helpers do.
        let other = guest.open(3, "other", Open::CREATE);
        guest.at("path_create_directory", 3, "sub", ());
        guest.rename((3, "other"), (3, "moved"), ());
        guest.link((3, "moved"), (3, "linked"), ());
        guest.symlink("moved", 3, "link", ());
        guest.at("path_unlink_file", 3, "linked", ());
        guest.at("path_remove_directory", 3, "sub", ());
        guest.expect("fd_sync", &[other], ());
        guest.expect("fd_datasync", &[3], ());
        guest.expect("fd_readdir", &[3, BUFFER.into(), 1000, 0, OUT.into()], ());
        assert_eq!(guest.write(file, &bytes), second, "{file_bytes} {flags}");
        guest.expect("fd_filestat_set_size", &[other, 5], ());
        assert_eq!(guest.stat(other), (4, 5));
    }
    // Room counts once, and to its last byte.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let limits = FileLimits { written_bytes: 1000, ..FileLimits::default() };
    let mut context = in_directory(directory.path(), limits);
    context.helpers = Some(Helpers::new(1));
    let mut guest = Guest::new(context);
    let file = guest.open(3, "file", Open::CREATE);
    guest.expect("fd_allocate", &[file, 0, 600], ());
    guest.expect("fd_allocate", &[file, 600, 400], ());
    guest.expect("fd_allocate", &[file, 0, 1], Errno::Dquot);
}
