//! Connections and listening sockets that a guest finds open: calls, waiting, readiness.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;

use awsm_host::{Errno, FileLimits, Grants, Output, Socket, WasiCtx};
use awsm_sandbox::Wait;
use common::*;

/// A guest with these sockets, from descriptor 3 on.
fn guest(sockets: Vec<Socket>) -> Guest {
    let mut context = WasiCtx::default();
    let limits = FileLimits { descriptors: 8, ..FileLimits::default() };
    context.grants = Some(Arc::new(Grants { sockets, limits, ..Grants::default() }));
    context.stdout = Output::buffer(1 << 20);
    Guest::new(context)
}

/// A guest connected to a stream of ours, as descriptor 3.
fn connected() -> (TcpStream, Guest) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut guest = guest(vec![Socket::Tcp(listener.local_addr().expect("bound"))]);
    guest.expect("fd_fdstat_get", &[3, OUT.into()], ());
    let (stream, _) = listener.accept().expect("the guest connects");
    (stream, guest)
}

/// So that reading and writing wait.
fn block(guest: &mut Guest, fd: i64) {
    guest.expect("fd_fdstat_set_flags", &[fd, 0], ());
}

/// `poll_oneoff` for a descriptor (1: to read, 2: to write) and a time; the events' types and
/// flags.
fn poll(guest: &mut Guest, fd: u32, kind: u8, timeout_ns: u64) -> Vec<(u8, u16, u64, u16)> {
    let mut subscriptions = [0; 96];
    subscriptions[8] = kind;
    subscriptions[16..20].copy_from_slice(&fd.to_le_bytes());
    subscriptions[48 + 16] = 1;
    subscriptions[48 + 24..48 + 32].copy_from_slice(&timeout_ns.to_le_bytes());
    guest.put(2048, &subscriptions);
    guest.expect("poll_oneoff", &[2048, 4096, 2, OUT.into()], ());
    let count = guest.u32_at(OUT);
    (0..count)
        .map(|index| {
            let event = guest.get(4096 + 32 * index, 32);
            let short = |at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
            let bytes = u64::from_le_bytes(event[16..24].try_into().expect("eight"));
            (event[10], short(8), bytes, short(24))
        })
        .collect()
}

#[test]
fn a_connection_is_nonblocking_until_the_guest_says_otherwise() {
    let (mut stream, mut guest) = connected();
    assert_eq!(guest.get(OUT, 4), [6, 0, 4, 0], "a stream socket, nonblocking");
    assert_eq!(guest.read(3, 10), Err(Errno::Again));
    assert_eq!(guest.write(3, b"ping"), Ok(4));
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("sent");
    assert_eq!(&heard, b"ping");
    assert!(guest.waits.is_empty());
    block(&mut guest, 3);
    let mut answering = stream.try_clone().expect("a descriptor");
    guest.on_wait = Some(Box::new(move || answering.write_all(b"pong").expect("open")));
    assert_eq!(guest.read(3, 10), Ok(b"pong".to_vec()));
    assert!(matches!(guest.waits[..], [Wait::Event { until_ns: None }]), "{:?}", guest.waits);
    drop(stream);
    assert_eq!(guest.read(3, 10), Ok(vec![]), "its end");
}

#[test]
fn what_the_other_end_does_not_take_is_waited_for() {
    let (stream, mut guest) = connected();
    let chunk = vec![7; 60_000];
    let mut sent = 0;
    while let Ok(count) = guest.write(3, &chunk) {
        sent += count as usize;
    }
    assert!(sent > 0);
    assert_eq!(poll(&mut guest, 3, 2, 1_000_000), [(0, 0, 0, 0)], "only the time has come");
    block(&mut guest, 3);
    let mut reading = stream.try_clone().expect("a descriptor");
    guest.on_wait = Some(Box::new(move || {
        reading.read_exact(&mut vec![0; sent]).expect("sent");
    }));
    assert!(guest.write(3, &chunk).is_ok());
    assert!(matches!(guest.waits.last(), Some(Wait::Event { until_ns: None })));
    drop(stream);
}

#[test]
fn readiness() {
    let (mut stream, mut guest) = connected();
    assert_eq!(poll(&mut guest, 3, 1, 2_000_000), [(0, 0, 0, 0)]);
    assert!(matches!(guest.waits[..], [Wait::Event { until_ns: Some(_) }]));
    assert_eq!(poll(&mut guest, 3, 2, u64::MAX), [(2, 0, 65_536, 0)]);
    stream.write_all(b"hello").expect("open");
    assert_eq!(poll(&mut guest, 3, 1, u64::MAX), [(1, 0, 5, 0)]);
    guest.read(3, 10).expect("there");
    guest.on_wait = Some(Box::new(move || drop(stream)));
    let events = poll(&mut guest, 3, 1, u64::MAX);
    assert_eq!((events.len(), events[0].0, events[0].1), (1, 1, 0));
}

/// A tick in the middle of the question is no answer: asked without waiting, nothing is ready.
#[test]
fn a_tick_makes_nothing_ready() {
    let (_stream, mut guest) = connected();
    for _ in 0..3_000 {
        assert_eq!(poll(&mut guest, 3, 1, 0), [(0, 0, 0, 0)]);
    }
}

#[test]
fn receiving_and_sending() {
    let (mut stream, mut guest) = connected();
    stream.write_all(b"abcdef").expect("open");
    block(&mut guest, 3);
    let [list, count] = guest.buffer(4);
    let peek = [3, list, count, 1, OUT.into(), i64::from(OUT) + 8];
    guest.expect("sock_recv", &peek, ());
    guest.expect("sock_recv", &peek, ());
    assert_eq!((guest.u32_at(OUT), guest.get(BUFFER, 4)), (4, b"abcd".to_vec()));
    guest.expect("sock_recv", &[3, list, count, 0, OUT.into(), i64::from(OUT) + 8], ());
    guest.expect("sock_recv", &[3, list, count, 2, OUT.into(), i64::from(OUT) + 8], ());
    assert_eq!((guest.u32_at(OUT), guest.get(BUFFER, 2)), (2, b"ef".to_vec()));
    guest.expect("sock_recv", &[3, list, count, 4, OUT.into(), 0], Errno::Inval);
    guest.expect("sock_recv", &[3, list, count, 0, END, 0], Errno::Fault);
    guest.expect("sock_recv", &[3, list, count, 0, OUT.into(), END - 1], Errno::Fault);
    guest.expect("sock_recv", &[1, list, count, 0, OUT.into(), 0], Errno::Notsock);
    guest.expect("sock_recv", &[77, list, count, 0, OUT.into(), 0], Errno::Badf);
    guest.put(BUFFER, b"sent");
    guest.expect("sock_send", &[3, list, count, 0, OUT.into()], ());
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("sent");
    assert_eq!(&heard, b"sent");
    guest.expect("sock_send", &[3, list, count, 1, OUT.into()], Errno::Inval);
    guest.expect("sock_send", &[0, list, count, 0, OUT.into()], Errno::Notsock);
    guest.expect("sock_send", &[77, list, count, 0, OUT.into()], Errno::Badf);
    guest.expect("sock_send", &[3, END, 1, 0, OUT.into()], Errno::Fault);
    for how in [0, 4, -1] {
        guest.expect("sock_shutdown", &[3, how], Errno::Inval);
    }
    guest.expect("sock_shutdown", &[3, 2], ());
    assert_eq!(stream.read(&mut heard).expect("open"), 0);
    assert_eq!(guest.write(3, b"x"), Err(Errno::Pipe));
    guest.expect("sock_shutdown", &[1, 1], Errno::Notsock);
    guest.expect("sock_shutdown", &[77, 1], Errno::Badf);
    for (name, args) in [
        ("fd_seek", vec![3, 0, 0, OUT.into()]),
        ("fd_tell", vec![3, OUT.into()]),
        ("fd_pread", vec![3, list, count, 0, OUT.into()]),
        ("fd_pwrite", vec![3, list, count, 0, OUT.into()]),
    ] {
        guest.expect(name, &args, Errno::Spipe);
    }
    assert_eq!(guest.stat(3), (6, 0));
    guest.expect("fd_fdstat_set_rights", &[3, 0, 0], ());
    guest.expect("sock_send", &[3, list, count, 0, OUT.into()], Errno::Notcapable);
    guest.expect("sock_recv", &[3, list, count, 0, OUT.into(), 0], Errno::Notcapable);
    guest.expect("sock_shutdown", &[3, 1], Errno::Notcapable);
}

#[test]
fn accepting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("settable");
    let mut guest = guest(vec![Socket::Listener(Arc::new(OwnedFd::from(listener)))]);
    guest.expect("fd_fdstat_set_flags", &[3, 4], ());
    guest.expect("sock_accept", &[3, 0, OUT.into()], Errno::Again);
    block(&mut guest, 3);
    let (sender, receiver) = mpsc::channel();
    guest.on_wait = Some(Box::new(move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"hello").expect("open");
        sender.send(stream).expect("it is awaited");
    }));
    guest.expect("sock_accept", &[3, 4, OUT.into()], ());
    assert!(matches!(guest.waits[..], [Wait::Event { until_ns: None }]));
    let accepted = i64::from(guest.u32_at(OUT));
    let mut stream = receiver.recv().expect("it has connected");
    assert_eq!(poll(&mut guest, accepted as u32, 1, u64::MAX)[0].0, 1);
    assert_eq!(guest.read(accepted, 10), Ok(b"hello".to_vec()));
    assert_eq!(guest.read(accepted, 10), Err(Errno::Again));
    guest.write(accepted, b"bye").expect("open");
    guest.close(accepted);
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("text");
    assert_eq!(heard, "bye");
    guest.expect("sock_accept", &[3, 1, OUT.into()], Errno::Inval);
    guest.expect("sock_accept", &[3, 32, OUT.into()], Errno::Inval);
    guest.expect("sock_accept", &[3, 0, END], Errno::Fault);
    guest.expect("sock_accept", &[1, 0, OUT.into()], Errno::Notsock);
    guest.expect("sock_accept", &[77, 0, OUT.into()], Errno::Badf);
    assert_eq!(guest.read(3, 1), Err(Errno::Notconn));
    let [list, count] = guest.buffer(4);
    guest.expect("sock_recv", &[3, list, count, 0, OUT.into(), 0], Errno::Notconn);
    // No more descriptors than are granted.
    let _clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).expect("listens")).collect();
    for _ in 0..4 {
        guest.expect("sock_accept", &[3, 0, OUT.into()], ());
    }
    guest.expect("sock_accept", &[3, 0, OUT.into()], Errno::Mfile);
}

#[test]
fn a_connection_that_fails_says_so_when_it_is_used() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let mut guest = guest(vec![Socket::Tcp(address), Socket::Unix("/nowhere/at/all".into())]);
    guest.expect("fd_fdstat_set_flags", &[3, 0], ());
    assert_eq!(guest.write(3, b"x"), Err(Errno::Connrefused));
    assert_eq!(guest.read(4, 1), Err(Errno::Noent));
    assert_eq!(poll(&mut guest, 4, 1, u64::MAX), [(1, Errno::Noent as u16, 0, 0)]);
    guest.expect("sock_shutdown", &[4, 1], Errno::Noent);
    guest.close(4);
}

#[test]
fn a_unix_socket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let mut guest = guest(vec![Socket::Unix(path)]);
    assert_eq!(guest.write(3, b"over"), Ok(4));
    let (mut stream, _) = listener.accept().expect("connected");
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("sent");
    assert_eq!(&heard, b"over");
}

#[test]
fn signals_that_a_guest_raises() {
    for (signal, code) in [(6, 134), (15, 143), (11, 139), (2, 130), (30, 159), (23, 152)] {
        let ended = guest(Vec::new()).try_call("proc_raise", &[signal]);
        assert_eq!(ended, Err(awsm_sandbox::Stop::Exited(code)), "{signal}");
    }
    let mut guest = guest(Vec::new());
    for ignored in [0, 16, 17, 22, 27] {
        guest.expect("proc_raise", &[ignored], ());
    }
    for stopping in 18..=21 {
        guest.expect("proc_raise", &[stopping], Errno::Notsup);
    }
    for unknown in [31, 255, -1] {
        guest.expect("proc_raise", &[unknown], Errno::Inval);
    }
}

/// A call that waits, and one that shows afterwards that the guest is as it was.
type Waiting = (&'static str, fn(&mut Guest) -> Vec<i64>);

/// One subscription for a descriptor, as often as the count says.
fn subscribe(guest: &mut Guest, fd: u32, kind: u8, count: u32) -> Vec<i64> {
    for index in 0..count {
        let mut subscription = [0; 48];
        subscription[8] = kind;
        subscription[16..20].copy_from_slice(&fd.to_le_bytes());
        guest.put(2048 + 48 * index, &subscription);
    }
    vec![2048, 4096, count.into(), OUT.into()]
}

/// Every call that waits for a descriptor; 3 is a connection that gives and takes nothing, 4
/// listens.
const WAITING: [Waiting; 8] = [
    ("fd_read", |guest| [vec![3], guest.buffer(9).to_vec(), vec![OUT.into()]].concat()),
    ("fd_write", |guest| [vec![3], guest.buffer(9).to_vec(), vec![OUT.into()]].concat()),
    ("sock_recv", |guest| {
        [vec![3], guest.buffer(9).to_vec(), vec![0, OUT.into(), i64::from(OUT) + 8]].concat()
    }),
    ("sock_send", |guest| [vec![3], guest.buffer(9).to_vec(), vec![0, OUT.into()]].concat()),
    ("sock_accept", |_| vec![4, 0, OUT.into()]),
    ("poll_oneoff", |guest| subscribe(guest, 4, 1, 1)),
    ("poll_oneoff", |guest| subscribe(guest, 3, 2, 20)),
    ("poll_oneoff", |guest| {
        // And an hour.
        subscribe(guest, 3, 1, 1);
        let mut clock = [0; 48];
        clock[16] = 1;
        clock[24..32].copy_from_slice(&3_600_000_000_000_u64.to_le_bytes());
        guest.put(2048 + 48, &clock);
        vec![2048, 4096, 2, OUT.into()]
    }),
];

/// What the system may say when it is asked to watch.
const CANNOT_WAIT: [Errno; 8] = [
    Errno::Inval,
    Errno::Mfile,
    Errno::Nfile,
    Errno::Nomem,
    Errno::Nospc,
    Errno::Perm,
    Errno::Loop,
    Errno::Io,
];

/// Every kind of wait with every kind of failure: it is the call's own error, told once, and
/// nothing of it is left for the next call.
#[test]
fn who_cannot_wait_is_told_so() {
    let connected = TcpListener::bind("127.0.0.1:0").expect("a port");
    let serving = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = serving.local_addr().expect("bound");
    serving.set_nonblocking(true).expect("settable");
    let mut guest = guest(vec![
        Socket::Tcp(connected.local_addr().expect("bound")),
        Socket::Listener(Arc::new(OwnedFd::from(serving))),
    ]);
    while guest.write(3, &[7; 60_000]).is_ok() {}
    let (mut stream, _) = connected.accept().expect("the guest connects");
    block(&mut guest, 3);
    block(&mut guest, 4);
    for (name, args) in WAITING {
        for errno in CANNOT_WAIT {
            let args = args(&mut guest);
            guest.cannot_wait = Some(errno);
            guest.waits.clear();
            guest.expect(name, &args, errno);
            assert_eq!(guest.waits.len(), 1, "{name}: asked once");
            // The same call again waits again; and a failure in between is no answer if there is
            // one.
            guest.expect(name, &args, errno);
            guest.expect("fd_fdstat_get", &[3, OUT.into()], ());
        }
    }
    guest.cannot_wait = None;
    stream.write_all(b"hello").expect("open");
    assert_eq!(guest.read(3, 10), Ok(b"hello".to_vec()));
    let client = thread::spawn(move || TcpStream::connect(address).expect("it listens"));
    guest.expect("sock_accept", &[4, 0, OUT.into()], ());
    drop(client.join().expect("no panic"));
}
