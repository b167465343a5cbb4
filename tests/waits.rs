//! Waiting on a node: whatever a guest waits for, and whether or not the system can wait for it,
//! its worker serves others meanwhile.

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::{Node, Scratch, function};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Makes one call and answers its error code, as one character: `0` for none.
fn answering(import: &str, call: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" {import})
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "_start")
                (i32.store8 (i32.const 12) (i32.add (i32.const 48) {call}))
                (i32.store (i32.const 0) (i32.const 12))
                (i32.store (i32.const 4) (i32.const 1))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}

/// Waits for a connection to descriptor 3.
fn accepting() -> String {
    answering(
        r#""sock_accept" (func $accept (param i32 i32 i32) (result i32))"#,
        "(call $accept (i32.const 3) (i32.const 0) (i32.const 16))",
    )
}

/// Waits until descriptor 3 can be read, which it says so many times.
fn polling(count: u32) -> String {
    let fill: String = (0..count)
        .map(|index| {
            let at = 1024 + 48 * index;
            format!(
                "(i32.store8 (i32.const {}) (i32.const 1)) (i32.store (i32.const {}) (i32.const 3))",
                at + 8,
                at + 16
            )
        })
        .collect();
    let poll = format!(
        "(call $poll (i32.const 1024) (i32.const 65536) (i32.const {count}) (i32.const 130000))"
    );
    answering(
        r#""poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32))"#,
        &format!("(block (result i32) {fill} {poll})"),
    )
}

/// A function that listens on a socket of its own. It is due sooner than the others here, so where
/// its waiting took the core's time it would take all of it.
fn listening(scratch: &Scratch, name: &str, text: &str) -> (String, std::path::PathBuf) {
    let module = scratch.write(&format!("{name}.wat"), text);
    let socket = scratch.path().join(name);
    let table = format!(
        "[[function]]\nname = \"{name}\"\nroute = \"/{name}\"\nmodule = {module:?}\ntimeout = \"2h\"\n\
         [function.slo]\ndeadline = \"1h\"\n[function.listen]\nIN = \"unix:{}\"\n",
        socket.display()
    );
    (table, socket)
}

#[test]
fn waiting_often_for_the_same_keeps_nobody_waiting() {
    let scratch = Scratch::new();
    let (accept, accepted) = listening(&scratch, "accept", &accepting());
    let (poll, polled) = listening(&scratch, "poll", &polling(256));
    let late = "timeout = \"3h\"\n[function.slo]\ndeadline = \"2h\"";
    let node =
        Node::start("admission = \"none\"", &[accept, poll, function("null", "/null", late)]);
    let mut waiting: Vec<_> = (0..150).map(|_| node.connect()).collect();
    for client in &mut waiting {
        client.send_request("POST", "/accept", &[], b"");
    }
    let mut polling = node.connect();
    polling.send_request("POST", "/poll", &[], b"");
    for _ in 0..50 {
        assert_eq!(node.get("/null").status, 200);
    }
    // Each of them has been waiting: there is a connection for each, and all are answered.
    let streams: Vec<_> = (0..150).map(|_| connect(&accepted)).collect();
    for client in &mut waiting {
        assert_eq!(client.receive().text(), "0");
    }
    let stream = connect(&polled);
    assert_eq!(polling.receive().text(), "0");
    drop((streams, stream));
}

fn connect(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).expect("it listens")
}

/// The node's own descriptor of a socket that listens there; none if this process may not have it.
fn borrowed(node: &Node, socket: &Path) -> Option<OwnedFd> {
    let pid = node.pid();
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).expect("readable");
    let line = sockets.lines().find(|line| line.ends_with(&socket.display().to_string()));
    let inode = line.expect("it listens").split_whitespace().nth(6).expect("an inode");
    let target = format!("socket:[{inode}]");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the node is there");
    let mut descriptors = descriptors.flatten();
    let found = descriptors.find(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.display().to_string() == target)
    });
    let number = found.expect("it is open").file_name();
    let number = number.to_string_lossy().parse().expect("a number");
    let process = Pid::from_raw(pid.cast_signed()).expect("a process");
    let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
}

/// The system watches a descriptor through a hundred chains of three instances, and then no more:
/// ours are the hundred, the node's would be the next.
#[test]
fn what_the_system_cannot_wait_for_is_an_error_of_the_call() {
    let scratch = Scratch::new();
    let all = [("accept", accepting()), ("poll", polling(1)), ("polls", polling(256))];
    let all = all.map(|(name, text)| (name, listening(&scratch, name, &text)));
    let mut functions: Vec<_> = all.iter().map(|(_, (table, _))| table.clone()).collect();
    functions.push(function(
        "null",
        "/null",
        "timeout = \"3h\"\n[function.slo]\ndeadline = \"2h\"",
    ));
    let node = Node::start("admission = \"none\"", &functions);
    let instance = || epoll::create(CreateFlags::CLOEXEC).expect("an instance");
    let add = |to: &OwnedFd, fd: &OwnedFd| {
        epoll::add(to, fd, EventData::new_u64(0), EventFlags::IN).expect("added");
    };
    for (name, (_, socket)) in &all {
        let Some(theirs) = borrowed(&node, socket) else {
            eprintln!("not tried: this process may not look into another's descriptors");
            return;
        };
        let (outer, middle) = (instance(), instance());
        add(&outer, &middle);
        let inner: Vec<_> = (0..100).map(|_| instance()).collect();
        for instance in &inner {
            add(instance, &theirs);
            add(&middle, instance);
        }
        let route = format!("/{name}");
        let mut waiting: Vec<_> = (0..3).map(|_| node.connect()).collect();
        for client in &mut waiting {
            client.send_request("POST", &route, &[], b"");
        }
        assert_eq!(node.get("/null").status, 200);
        // EINVAL, which WASI numbers 28.
        for client in &mut waiting {
            assert_eq!(client.receive().text(), "L", "{name}");
        }
        // And where it can, it waits as ever.
        drop((outer, middle, inner));
        let mut client = node.connect();
        client.send_request("POST", &route, &[], b"");
        assert_eq!(node.get("/null").status, 200);
        let stream = connect(socket);
        assert_eq!(client.receive().text(), "0", "{name}");
        drop(stream);
    }
}
