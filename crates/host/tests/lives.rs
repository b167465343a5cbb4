//! What many invocations leave behind, and what their work with files costs.

mod common;

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Instant;

use awsm_host::{FileLimits, Grants, Helpers, Socket, WasiCtx};
use common::*;

/// After many invocations with files, helpers and sockets, this process has as many descriptors,
/// threads and mappings, and about as much memory, as after the first thousand. `AWSM_LIVES` says
/// how many.
#[test]
fn nothing_is_left_behind() {
    let lives = std::env::var("AWSM_LIVES").map_or(3000, |lives| lives.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sockets = tempfile::tempdir().expect("a temporary directory");
    let bind = |name| UnixListener::bind(sockets.path().join(name)).expect("bound");
    let (served, serving) = (bind("served"), bind("serving"));
    serving.set_nonblocking(true).expect("settable");
    let mut grants = Grants::clone(
        in_directory(directory.path(), FileLimits::default()).grants.as_ref().expect("set"),
    );
    grants.sockets = vec![
        Socket::Unix(sockets.path().join("served")),
        Socket::Listener(Arc::new(OwnedFd::from(serving))),
    ];
    let (grants, helpers) = (Arc::new(grants), Helpers::new(2));
    let context = || {
        let mut context = WasiCtx::default();
        context.grants = Some(Arc::clone(&grants));
        context.helpers = Some(Arc::clone(&helpers));
        context
    };
    let mut guest = Guest::new(context());
    let mut live = |number: usize| {
        guest.restart(context());
        // The connection and the listening socket are 4 and 5; what is opened stays open to the
        // end.
        let how = Open { oflags: CREAT | TRUNC, ..Open::CREATE };
        let by_helpers = number.is_multiple_of(8);
        let file = guest.open(3, "file", if by_helpers { how } else { Open::CREATE });
        guest.write(file, b"text").expect("written");
        guest.open(3, ".", Open::DIRECTORY);
        guest.write(4, b"x").expect("connected");
        let (peer, _) = served.accept().expect("the guest has connected");
        let client = UnixStream::connect(sockets.path().join("serving")).expect("it listens");
        guest.expect("sock_accept", &[5, 0, OUT.into()], ());
        if by_helpers {
            guest.expect("fd_readdir", &[3, BUFFER.into(), 100, 0, OUT.into()], ());
            guest.rename((3, "file"), (3, "moved"), ());
            guest.at("path_unlink_file", 3, "moved", ());
        }
        drop((peer, client));
    };
    (0..1000).for_each(&mut live);
    let few = Counted::now();
    (1000..lives).for_each(live);
    let many = Counted::now();
    println!("after 1000: {few:?}; after {lives}: {many:?}");
    assert_eq!(
        (few.descriptors, few.threads, few.mappings),
        (many.descriptors, many.threads, many.mappings)
    );
    assert!(many.resident_kib < few.resident_kib + 4096, "{few:?}, then {many:?}");
}

/// What this process has.
#[derive(Debug)]
struct Counted {
    descriptors: usize,
    threads: usize,
    mappings: usize,
    resident_kib: u64,
}

impl Counted {
    fn now() -> Self {
        let names = |what| std::fs::read_dir(format!("/proc/self/{what}")).expect("there").count();
        let read = |what| std::fs::read_to_string(format!("/proc/self/{what}")).expect("there");
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        Self {
            descriptors: names("fd"),
            threads: names("task"),
            mappings: read("maps").lines().count(),
            resident_kib: line
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .expect("digits"),
        }
    }
}

/// Prints what work with files costs, and what handing it over costs: the figures behind what is
/// done at once and what by helpers.
#[test]
#[ignore = "measures: cargo test --release -p awsm-host --test lives -- --ignored --nocapture"]
fn costs_of_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let limits = FileLimits::NONE;
    let mut guest = Guest::new(in_directory(directory.path(), limits));
    let file = guest.open(3, "file", Open::CREATE);
    guest.expect("fd_filestat_set_size", &[file, 1 << 20], ());
    let tell = [file, OUT.into()];
    let nothing_us = median_us(|| guest.expect("fd_tell", &tell, ()));
    println!("{:<36} {:>8}", "microseconds beyond fd_tell", format!("({nothing_us:.2})"));
    let say = |what: &str, us: f64| println!("{what:<36} {:>8.2}", us - nothing_us);
    for kib in [4, 16, 64, 100] {
        let [list, count] = guest.buffer(kib << 10);
        let write = [file, list, count, 0, OUT.into()];
        say(
            &format!("write {kib} KiB, in memory"),
            median_us(|| guest.expect("fd_pwrite", &write, ())),
        );
        say(
            &format!("read {kib} KiB, in memory"),
            median_us(|| guest.expect("fd_pread", &write, ())),
        );
    }
    let mut number = 0;
    let new = median_us(|| {
        number += 1;
        let fd = guest.open(3, &format!("new{number}"), Open::CREATE);
        guest.close(fd);
    });
    say("make and close a file", new);
    let path = guest.path("file");
    let filestat = [3, 0, path[0], path[1], OUT.into()];
    say("attributes", median_us(|| guest.expect("path_filestat_get", &filestat, ())));
    say(
        "make and remove a directory",
        median_us(|| {
            guest.at("path_create_directory", 3, "sub", ());
            guest.at("path_remove_directory", 3, "sub", ());
        }),
    );
    say(
        "link and remove it",
        median_us(|| {
            guest.link((3, "file"), (3, "link"), ());
            guest.at("path_unlink_file", 3, "link", ());
        }),
    );
    let rename = |guest: &mut Guest| {
        median_us(|| {
            guest.rename((3, "file"), (3, "file2"), ());
            guest.rename((3, "file2"), (3, "file"), ());
        }) / 2.0
    };
    let at_once_us = rename(&mut guest);
    say("rename", at_once_us);
    guest.context().helpers = Some(Helpers::new(1));
    let handed_over_us = rename(&mut guest);
    println!("{:<36} {:>8.2}", "handing over, beyond the work", handed_over_us - at_once_us);
}

/// The median of a thousand.
fn median_us(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..1000)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
