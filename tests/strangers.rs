//! Fair among strangers: what one caller, function or tenant holds is bounded, and the others have
//! theirs.

mod common;

use std::time::Duration;

use common::{Client, Node, Response, Scratch, awsm_under, eventually, function, text_function};
use rustix::process::Signal;

/// A function that writes a byte far into a file and exits with 100 and the error.
const FAR_WRITER: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pwrite"
        (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "file")
    (data (i32.const 8) "\00\00\00\00\01\00\00\00")
    (func (export "_start")
        ;; Created, and open for writing (fd_seek, fd_write).
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)
                (i64.const 68) (i64.const 0) (i32.const 0) (i32.const 16))
            (then unreachable))
        (call $exit (i32.add (i32.const 100) (call $pwrite (i32.load (i32.const 16))
            (i32.const 8) (i32.const 1) (i64.const 67108864) (i32.const 20))))))"#;

#[test]
fn the_systems_limit_of_files_ends_no_node() {
    let scratch = Scratch::new();
    let dirs = format!("dirs = {{ \"/\" = {{ path = {:?}, mode = \"rw\" }} }}", scratch.path());
    let functions =
        [text_function(&scratch, "far", FAR_WRITER, &dirs), function("echo", "/echo", "")];
    let node = Node::start_by(awsm_under("-f 65536"), 1, "", &functions);
    // EFBIG: the system's limit is at 32 MiB, the function's own far beyond it.
    assert!(node.get("/far").text().contains("exited with code 122"), "{:?}", node.get("/far"));
    for signal in [Signal::XFSZ, Signal::XCPU, Signal::PIPE] {
        node.signal(signal);
    }
    assert_eq!(node.post("/echo", "still here").text(), "still here");
}

/// Connects and says nothing.
fn silent(node: &Node, count: usize) -> Vec<Client> {
    (0..count).map(|_| node.connect()).collect()
}

#[test]
fn silent_connections_make_place() {
    let node = Node::start("connections = 4", &[function("echo", "/echo", "")]);
    let mut kept = node.connect();
    assert_eq!(kept.request("POST", "/echo", &[], b"one").text(), "one");
    let mut silent = silent(&node, 8);
    // They would stay for more than a minute.
    assert_eq!(node.post("/echo", "two").text(), "two");
    assert!(silent.iter_mut().any(Client::is_closed), "some went");
    // A request in progress is no silence, whatever its callers do.
    let mut busy: Vec<_> = (0..3).map(|_| node.connect()).collect();
    for client in &mut busy {
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab");
    }
    for _ in 0..4 {
        assert_eq!(node.post("/echo", "three").text(), "three");
    }
    for client in &mut busy {
        client.send("cd");
        assert_eq!(client.receive().text(), "abcd");
    }
}

#[test]
fn a_node_without_descriptors_serves_on_when_it_has_some() {
    let node = Node::start_by(awsm_under("-n 64"), 2, "", &[function("echo", "/echo", "")]);
    let silent = silent(&node, 100);
    node.log_when(|log| log.contains("cannot accept a connection"));
    for _ in 0..3 {
        assert_eq!(node.post("/echo", "hello").text(), "hello");
    }
    drop(silent);
    assert_eq!(node.post("/echo", "hello").text(), "hello");
    // It is said now and then, and the core has other things to do than to try.
    let (before, lines) = (node.cpu_time(), node.log().lines().count());
    assert!(lines < 200, "{}", node.log());
    assert!(before.as_secs() < 10, "{before:?}");
}

#[test]
fn declared_lengths_reserve_nothing() {
    let node = Node::start("", &[function("echo", "/echo", "body = \"1GiB\"")]);
    let before = node.status("VmSize:");
    let mut callers: Vec<_> = (0..20).map(|_| node.connect()).collect();
    for caller in &mut callers {
        let length = 1 << 30;
        caller.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        ));
        // The node reads the body now, so that these are pieces of their own.
        assert_eq!(caller.receive().status, 100);
        caller.send("a");
    }
    // Whoever has answered one after the others has read what they have sent.
    eventually("it has read both pieces", || {
        callers.iter_mut().for_each(|caller| caller.send("b"));
        node.post("/echo", "hello").text() == "hello"
    });
    for _ in 0..3 {
        callers.iter_mut().for_each(|caller| caller.send("c"));
        assert_eq!(node.post("/echo", "hello").text(), "hello");
    }
    let more = node.status("VmSize:").saturating_sub(before);
    assert!(more < 256 << 10, "{more} KiB for {} bytes", 5 * callers.len());
}

/// A function that says 12 MiB and then sleeps for as long as it is told, in seconds.
fn talker(scratch: &Scratch, name: &str, seconds: u64, more: &str) -> String {
    let wat = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 17)
        (data (i32.const 0) "\00\00\01\00\00\00\10\00")
        (data (i32.const 32) "\01\00\00\00")
        (func (export "_start") (local $i i32)
            (loop $next
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then unreachable))
                (br_if $next (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 12))))
            (if (i64.ne (i64.const {seconds}) (i64.const 0)) (then
                (i64.store (i32.const 40) (i64.mul (i64.const {seconds}) (i64.const 1000000000)))
                (drop (call $poll (i32.const 16) (i32.const 100) (i32.const 1) (i32.const 200)))))))"#
    );
    text_function(scratch, name, &wat, &format!("timeout = \"600s\"\n{more}"))
}

#[test]
fn slow_readers_hold_what_there_is_for_answers() {
    let scratch = Scratch::new();
    let functions = [talker(&scratch, "talk", 0, ""), function("echo", "/echo", "")];
    let node = Node::start("answer_memory = \"64MiB\"\nadmission = \"none\"", &functions);
    assert_eq!(node.get("/talk").body.len(), 12 << 20);
    let before = node.status("VmRSS:");
    let mut readers: Vec<_> = (0..70).map(|_| node.connect()).collect();
    for reader in &mut readers {
        reader.send_request("GET", "/talk", &[], b"");
    }
    let closed = |log: &str| -> u32 {
        let of = |line: &str| {
            let before = line.split(" connection").next()?;
            before.rsplit(' ').next()?.parse::<u32>().ok()
        };
        log.lines().filter(|line| line.contains(" closed whose readers")).filter_map(of).sum()
    };
    node.log_when(|log| closed(log) > 0);
    eventually("all have been answered", || {
        let answer = ask(&node, "/talk").try_receive();
        answer.is_some_and(|answer| answer.body.len() == 12 << 20)
    });
    assert_eq!(node.post("/echo", "hello").text(), "hello");
    let more = node.status("VmRSS:").saturating_sub(before) >> 10;
    assert!(more < 160, "{more} MiB for 70 slow readers");
    drop(readers);
    assert_eq!(node.get("/talk").body.len(), 12 << 20);
}

#[test]
fn what_sleepers_have_said_counts() {
    let scratch = Scratch::new();
    let functions = [
        "[[tenant]]\nname = \"own\"\nanswer_memory = \"20MiB\"".to_owned(),
        talker(&scratch, "sleeper", 500, ""),
        talker(&scratch, "limited", 500, "tenant = \"own\""),
        talker(&scratch, "quick", 0, "tenant = \"own\""),
    ];
    let node = Node::start("answer_memory = \"100MiB\"\nadmission = \"none\"", &functions);
    // A buffer takes 16 MiB. 20 are the tenant's; for the others there are 80.
    let _sleepers: Vec<_> = (0..5).map(|_| ask(&node, "/sleeper")).collect();
    let refused = ask(&node, "/sleeper").receive();
    assert_eq!(refused.status, 503, "{refused:?}");
    let says = "too many bytes of answers that are not taken: there are 104857600, and what is left is kept";
    assert!(refused.text().contains(says), "{refused:?}");
    assert_eq!(node.get("/quick").body.len(), 12 << 20);
    let _limited = ask(&node, "/limited");
    let refused = ask(&node, "/limited").receive();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.text().contains("its tenant may have 20971520"), "{refused:?}");
}

/// Sends all of a request but its last byte.
fn upload(node: &Node, path: &str, bytes: usize) -> Client {
    let mut client = node.connect();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n"));
    client.send(vec![b'x'; bytes - 1]);
    client
}

fn tenants() -> [String; 3] {
    [
        EVIL_AND_GOOD.to_owned(),
        function("echo", "/evil", "tenant = \"evil\""),
        function("echo", "/good", "tenant = \"good\""),
    ]
}

#[test]
fn slow_uploads_leave_others_their_memory() {
    let node = Node::start("body_memory = \"4MiB\"", &tenants());
    let mut uploads: Vec<_> = (0..10).map(|_| upload(&node, "/evil", 600_000)).collect();
    // Bodies are read in turn, so any of them may be the one for which there is no room.
    let is_answered = |upload: &common::Client| {
        let stream = upload.raw();
        stream.set_nonblocking(true).expect("settable");
        let answered = stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
        stream.set_nonblocking(false).expect("settable");
        answered
    };
    let mut place = None;
    common::eventually("one is refused", || {
        place = uploads.iter().position(is_answered);
        place.is_some()
    });
    let refused = uploads.remove(place.expect("one")).receive();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text().contains("too many bytes of request bodies"), "{refused:?}");
    for _ in 0..5 {
        let answer = node.post("/good", vec![b'y'; 600_000]);
        assert_eq!((answer.status, answer.body.len()), (200, 600_000));
    }
    // Those that were let in, which were not those that began first if the node has read others
    // before.
    let ended = uploads.iter_mut().filter_map(|upload| {
        let _ = upload.try_send("z");
        upload.try_receive()
    });
    assert!(ended.filter(|answer| answer.body.len() == 600_000).count() > 0);
}

#[test]
fn slow_uploads_leave_others_their_places() {
    let node = Node::start("connections = 12", &tenants());
    let mut uploads: Vec<_> = (0..9).map(|_| upload(&node, "/evil", 1000)).collect();
    // Two places are kept for each of the others.
    let refused = uploads.pop().expect("nine").receive();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text().contains("too many requests under way"), "{refused:?}");
    let _more: Vec<_> = (0..20).map(|_| upload(&node, "/evil", 1000)).collect();
    for _ in 0..5 {
        assert_eq!(node.post("/good", "hello").text(), "hello");
    }
    for upload in &mut uploads {
        upload.send("z");
        assert_eq!(upload.receive().body.len(), 1000);
    }
}

#[test]
fn a_tenants_own_limits_are_its_own() {
    let limits = "connections = 2\nbody_memory = \"64KiB\"";
    let functions = [
        format!("[[tenant]]\nname = \"small\"\n{limits}"),
        function("echo", "/small", "tenant = \"small\""),
        function("echo", "/other", ""),
    ];
    let node = Node::start("", &functions);
    let answer = node.post("/small", vec![b'y'; 70_000]);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
    assert!(answer.text().contains("its tenant may have 65536"), "{answer:?}");
    assert_eq!(node.post("/small", vec![b'y'; 60_000]).status, 200);
    assert_eq!(node.post("/other", vec![b'y'; 70_000]).status, 200);
    let _uploads = [upload(&node, "/small", 10), upload(&node, "/small", 10)];
    eventually("both have begun", || node.post("/small", "hello").status == 429);
    assert_eq!(node.post("/other", "hello").status, 200);
}

/// A function with so many more memories that sleeps for so many seconds.
fn sleeper(scratch: &Scratch, name: &str, memories: usize, seconds: u64, more: &str) -> String {
    let memories = "(memory i64 1 1)".repeat(memories);
    let ns = seconds * 1_000_000_000;
    let wat = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) {memories}
        (func (export "_start")
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const {ns}))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#
    );
    text_function(scratch, name, &wat, &format!("timeout = \"600s\"\n{more}"))
}

fn ask(node: &Node, path: &str) -> Client {
    let mut client = node.connect();
    client.send_request("GET", path, &[], b"");
    client
}

/// Asks until one is answered, which it does not wait for long; the others stay with it.
fn fill(node: &Node, path: &str, callers: &mut Vec<Client>) -> Response {
    fill_by(callers, || ask(node, path))
}

fn fill_by(callers: &mut Vec<Client>, ask: impl Fn() -> Client) -> Response {
    let mut answer = None;
    eventually("one is answered", || {
        let mut caller = ask();
        caller.set_patience(Duration::from_millis(200));
        answer = caller.try_receive();
        callers.push(caller);
        answer.is_some()
    });
    answer.expect("seen above")
}

const EVIL_AND_GOOD: &str = "[[tenant]]\nname = \"evil\"\n[[tenant]]\nname = \"good\"";

#[test]
fn mappings_are_shared() {
    let scratch = Scratch::new();
    let functions = [
        EVIL_AND_GOOD.to_owned(),
        sleeper(&scratch, "many", 99, 500, "tenant = \"evil\""),
        sleeper(&scratch, "nap", 0, 0, "tenant = \"good\""),
        function("echo", "/good", "tenant = \"good\""),
    ];
    let node = Node::start("mappings = 3000\nadmission = \"none\"", &functions);
    for _ in 0..2 {
        // A thousand are kept for the others, and a sandbox has two hundred.
        let mut many: Vec<_> = (0..9).map(|_| ask(&node, "/many")).collect();
        let refused = fill(&node, "/many", &mut many);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.text().contains("may have 3000 mappings"), "{refused:?}");
        let mut naps: Vec<_> = (0..30).map(|_| ask(&node, "/nap")).collect();
        assert!(naps.iter_mut().all(|nap| nap.receive().status == 200));
        assert_eq!(node.post("/good", "hello").text(), "hello");
        // When they have ended there are as many again.
    }
}

#[test]
fn sleepers_leave_others_their_sandboxes() {
    let scratch = Scratch::new();
    let functions = [
        EVIL_AND_GOOD.to_owned(),
        sleeper(&scratch, "sleeps", 0, 500, "tenant = \"evil\""),
        sleeper(&scratch, "sleeps2", 0, 500, "tenant = \"evil\""),
        function("echo", "/good", "tenant = \"good\""),
    ];
    let node = Node::start(
        "sandboxes = 16\nadmission = \"none\"\nhalf_close_timeout = \"0s\"",
        &functions,
    );
    // Four are kept for each tenant, two of these for each of its two functions.
    let mut sleepers: Vec<_> = (0..10).map(|_| ask(&node, "/sleeps")).collect();
    let refused = fill(&node, "/sleeps", &mut sleepers);
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert!(refused.text().contains("sandboxes that are left are kept for others"), "{refused:?}");
    for _ in 0..5 {
        assert_eq!(node.post("/good", "hello").text(), "hello");
    }
    let mut others = Vec::new();
    assert_eq!(fill(&node, "/sleeps2", &mut others).status, 503);
    assert!(others.len() > 2, "two are its own: {}", others.len());
    // Who leaves makes room.
    drop(sleepers);
    eventually("there is room", || {
        let mut one = ask(&node, "/sleeps");
        one.set_patience(Duration::from_millis(200));
        one.try_receive().is_none()
    });
    assert_eq!(node.post("/good", "hello").text(), "hello");
}

/// A function that opens a file again and again until it cannot, and then sleeps; or exits with 100
/// and the error, if it could not open one.
const OPENER: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff"
        (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "file")
    (func (export "_start") (local $n i32) (local $e i32)
        (loop $more
            (local.set $e (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4)
                (i32.const 1) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
            (if (i32.eqz (local.get $e)) (then
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br $more))))
        (if (i32.eqz (local.get $n)) (then
            (call $exit (i32.add (i32.const 100) (local.get $e)))))
        (i32.store (i32.const 64) (i32.const 1))
        (i64.store (i32.const 72) (i64.const 500000000000))
        (drop (call $poll (i32.const 48) (i32.const 128) (i32.const 1) (i32.const 200)))))"#;

#[test]
fn descriptors_are_shared() {
    let scratch = Scratch::new();
    let dir = |tenant: &str| {
        let dirs =
            format!("dirs = {{ \"/data\" = {{ path = {:?}, mode = \"rw\" }} }}", scratch.path());
        format!("{dirs}\ntenant = \"{tenant}\"\ntimeout = \"600s\"")
    };
    let functions = [
        EVIL_AND_GOOD.to_owned(),
        text_function(&scratch, "open", OPENER, &dir("evil")),
        function("files", "/files", &dir("good")),
    ];
    let node = Node::start_by(awsm_under("-n 400"), 1, "admission = \"none\"", &functions);
    // Each stops at its own 256, or where the rest is kept for others.
    let mut openers = Vec::new();
    let refused = fill(&node, "/open", &mut openers);
    // ENFILE.
    assert!(refused.text().contains("exited with code 141"), "{refused:?}");
    assert_eq!(node.post("/files", "put note\nhello").status, 200);
    assert_eq!(node.post("/files", "get note").text(), "hello");
}

/// What a request's headers become in its guest counts as its body does.
#[test]
fn variables_of_sleepers_are_counted() {
    let scratch = Scratch::new();
    let functions = [
        EVIL_AND_GOOD.to_owned(),
        sleeper(&scratch, "sleeps", 0, 500, "abi = \"wagi\"\ntenant = \"evil\""),
        function("echo", "/good", "tenant = \"good\""),
    ];
    let node = Node::start("body_memory = \"256KiB\"\nadmission = \"none\"", &functions);
    let header = format!("X-Large: {}", "x".repeat(20_000));
    let mut sleepers = Vec::new();
    let refused = fill_by(&mut sleepers, || {
        let mut client = node.connect();
        client.send_request("GET", "/sleeps", &[&header], b"");
        client
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.text().contains("too many bytes of request bodies and variables"),
        "{refused:?}"
    );
    assert!(sleepers.len() < 10, "{} of 20 KB each", sleepers.len());
    assert_eq!(node.post("/good", "x".repeat(20_000)).status, 200);
    drop(sleepers);
    eventually("there is room again", || {
        let mut client = node.connect();
        client.send_request("GET", "/sleeps", &[&header], b"");
        client.set_patience(Duration::from_millis(200));
        client.try_receive().is_none()
    });
}

/// A line that has not ended is kept for the log, and counts until it has.
#[test]
fn lines_that_sleepers_have_begun_are_counted() {
    let scratch = Scratch::new();
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (memory.fill (i32.const 1024) (i32.const 120) (i32.const 12000))
            (i32.store (i32.const 512) (i32.const 1024))
            (i32.store (i32.const 516) (i32.const 12000))
            (drop (call $write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 520)))
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 500000000000))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;
    let functions = [
        EVIL_AND_GOOD.to_owned(),
        text_function(&scratch, "begins", wat, "timeout = \"600s\"\ntenant = \"evil\""),
        function("echo", "/good", "tenant = \"good\""),
    ];
    let node = Node::start("answer_memory = \"128KiB\"\nadmission = \"none\"", &functions);
    let mut sleepers = Vec::new();
    let refused = fill(&node, "/begins", &mut sleepers);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(sleepers.len() < 12, "{} of 12 KB each", sleepers.len());
    assert_eq!(node.post("/good", "hello").text(), "hello");
}
