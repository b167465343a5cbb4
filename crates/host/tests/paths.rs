//! Paths at their ends: slashes after the last name, links that lead nowhere, names that are taken.
//! What each gives is what Linux gives.

mod common;

use awsm_host::Errno;
use common::*;

fn scratch() -> (tempfile::TempDir, Guest) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let guest = Guest::in_directory(directory.path());
    (directory, guest)
}

const FOLLOWING: Open = Open { lookup: FOLLOW, ..Open::READ };

/// `path_filestat_get`, following a link or not, and the type that it finds.
#[track_caller]
fn stat(guest: &mut Guest, path: &str, follow: i64) -> Result<u8, u32> {
    let [at, len] = guest.path(path);
    match guest.call("path_filestat_get", &[3, follow, at, len, OUT.into()]) {
        0 => Ok(guest.get(OUT + 16, 1)[0]),
        errno => Err(errno),
    }
}

const NOENT: Result<u8, u32> = Err(Errno::Noent as u32);
const NOTDIR: Result<u8, u32> = Err(Errno::Notdir as u32);

#[test]
fn a_slash_after_a_files_name() {
    let (_directory, mut guest) = scratch();
    guest.open(3, "file", Open::CREATE);
    for path in ["file/", "file///"] {
        assert_eq!(guest.try_open(3, path, Open::READ), Err(Errno::Notdir));
        assert_eq!(guest.try_open(3, path, FOLLOWING), Err(Errno::Notdir));
        assert_eq!(guest.try_open(3, path, Open::CREATE), Err(Errno::Isdir));
        assert_eq!(stat(&mut guest, path, 0), NOTDIR);
        assert_eq!(stat(&mut guest, path, FOLLOW), NOTDIR);
        let [at, len] = guest.path(path);
        guest.expect("path_filestat_set_times", &[3, 0, at, len, 0, 0, 5], Errno::Notdir);
        guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 9, OUT.into()], Errno::Notdir);
        guest.at("path_unlink_file", 3, path, Errno::Notdir);
        guest.at("path_remove_directory", 3, path, Errno::Notdir);
        guest.at("path_create_directory", 3, path, Errno::Exist);
        guest.symlink("x", 3, path, Errno::Notdir);
        guest.link((3, path), (3, "other"), Errno::Notdir);
        guest.link((3, "file"), (3, path), Errno::Notdir);
        guest.rename((3, path), (3, "other"), Errno::Notdir);
        guest.rename((3, "file"), (3, path), Errno::Notdir);
    }
    guest.rename((3, "file"), (3, "none/"), Errno::Notdir);
    guest.link((3, "file"), (3, "none/"), Errno::Noent);
    guest.symlink("x", 3, "none/", Errno::Noent);
    for oflags in [CREAT, CREAT | TRUNC, CREAT | EXCL] {
        let how = Open { oflags, ..Open::CREATE };
        assert_eq!(guest.try_open(3, "none/", how), Err(Errno::Isdir));
    }
    assert_eq!(stat(&mut guest, "file", 0), Ok(4), "still there");
}

#[test]
fn a_slash_after_a_directorys_name() {
    let (_directory, mut guest) = scratch();
    guest.at("path_create_directory", 3, "dir/", ());
    for path in ["dir/", "dir//", "dir/."] {
        assert!(guest.try_open(3, path, Open::DIRECTORY).is_ok());
        assert_eq!(stat(&mut guest, path, 0), Ok(3));
        guest.at("path_create_directory", 3, path, Errno::Exist);
        guest.at("path_unlink_file", 3, path, Errno::Isdir);
        guest.symlink("x", 3, path, Errno::Exist);
    }
    for path in [".", "dir/."] {
        guest.at("path_remove_directory", 3, path, Errno::Inval);
    }
    guest.at("path_remove_directory", 3, "/", Errno::Notcapable);
    guest.at("path_remove_directory", 3, "..", Errno::Notcapable);
    for (from, to) in [("dir/", "a"), ("a", "b/"), ("b/", "c/"), ("c", "dir")] {
        guest.rename((3, from), (3, to), ());
    }
    let refused = |guest: &mut Guest, oflags, rights| {
        guest.try_open(3, "dir", Open { oflags, rights, ..Open::READ }).err()
    };
    assert_eq!(refused(&mut guest, TRUNC, 0), Some(Errno::Isdir));
    assert_eq!(refused(&mut guest, CREAT, 0), Some(Errno::Isdir));
    assert_eq!(refused(&mut guest, CREAT | EXCL, 0), Some(Errno::Exist));
    assert_eq!(refused(&mut guest, 0, FD_WRITE), Some(Errno::Isdir));
    guest.at("path_remove_directory", 3, "dir//", ());
}

#[test]
fn links_that_lead_nowhere() {
    let (_directory, mut guest) = scratch();
    guest.open(3, "file", Open::CREATE);
    guest.symlink("", 3, "empty", Errno::Noent);
    guest.symlink("target", 3, "link", ());
    assert_eq!(guest.try_open(3, "link", Open::DIRECTORY), Err(Errno::Notdir));
    assert_eq!(guest.try_open(3, "link", Open::READ), Err(Errno::Loop));
    assert_eq!(guest.try_open(3, "link", FOLLOWING), Err(Errno::Noent));
    assert_eq!(guest.try_open(3, "link", Open::CREATE), Err(Errno::Loop));
    let exclusive = Open { oflags: CREAT | EXCL, lookup: FOLLOW, ..Open::CREATE };
    assert_eq!(guest.try_open(3, "link", exclusive), Err(Errno::Exist));
    assert_eq!(guest.try_open(3, "link/", Open::READ), Err(Errno::Noent));
    assert_eq!(stat(&mut guest, "link", 0), Ok(7));
    assert_eq!(stat(&mut guest, "link", FOLLOW), NOENT);
    assert_eq!(stat(&mut guest, "link/", 0), NOENT);
    guest.at("path_create_directory", 3, "link", Errno::Exist);
    guest.at("path_create_directory", 3, "link/", Errno::Exist);
    guest.at("path_remove_directory", 3, "link", Errno::Notdir);
    guest.at("path_remove_directory", 3, "link/", Errno::Notdir);
    let [at, len] = guest.path("link");
    guest.expect("path_readlink", &[3, at, len, BUFFER.into(), 0, OUT.into()], ());
    assert_eq!(guest.u32_at(OUT), 0);
    // A name that is taken is taken, whatever has it.
    guest.link((3, "link"), (3, "second"), ());
    for name in ["link", "second", "file"] {
        guest.link((3, "file"), (3, name), Errno::Exist);
        guest.symlink("x", 3, name, Errno::Exist);
    }
    guest.symlink("loop", 3, "loop", ());
    guest.link((3, "loop"), (3, "another loop"), ());
    // Through the link, what it leads to is made.
    guest.open(3, "link", Open { lookup: FOLLOW, ..Open::CREATE });
    assert_eq!(stat(&mut guest, "target", 0), Ok(4));
    guest.at("path_unlink_file", 3, "target", ());
    guest.at("path_create_directory", 3, "target", ());
    assert!(guest.try_open(3, "link/", Open::DIRECTORY).is_ok());
    assert_eq!((stat(&mut guest, "link", 0), stat(&mut guest, "link/", 0)), (Ok(7), Ok(3)));
    guest.at("path_remove_directory", 3, "link/", Errno::Notdir);
    guest.at("path_unlink_file", 3, "link", ());
    assert_eq!(stat(&mut guest, "target", 0), Ok(3), "only the link is gone");
}
