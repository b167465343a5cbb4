//! What functions may reach: directories, connections, their own input; and that waiting for these
//! keeps nobody's core.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Node, PATIENCE, Scratch, awsm, function, guest, wait};

fn directory(scratch: &Scratch, mode: &str) -> String {
    format!("dirs = {{ \"/data\" = {{ path = {:?}, mode = \"{mode}\" }} }}", scratch.path())
}

#[test]
fn functions_keep_files() {
    let scratch = Scratch::new();
    let limits = "file_size = \"1KiB\"";
    let functions = [
        function("files", "/rw", &directory(&scratch, "rw")),
        function("files", "/ro", &directory(&scratch, "ro")),
        function("files", "/none", ""),
        function("files", "/small", &(directory(&scratch, "rw") + "\n" + limits)),
        function("files", "/one", &(directory(&scratch, "rw") + "\ndescriptors = 4")),
    ];
    let node = Node::start("", &functions);
    assert_eq!(node.post("/rw", "put note\nhello").status, 200);
    assert_eq!(fs::read(scratch.path().join("note")).expect("there"), b"hello");
    assert_eq!(node.post("/ro", "get note").text(), "hello");
    assert_eq!(node.post("/rw", "sync note").status, 200);
    fs::write(scratch.path().join("other"), vec![b'x'; 2_000_000]).expect("writable");
    assert_eq!(node.post("/ro", "list").text(), "note\nother\n");
    assert_eq!(node.post("/ro", "get other").body.len(), 2_000_000);
    for (route, body) in [
        ("/ro", "put note\nchanged"),
        ("/ro", "remove note"),
        ("/none", "get note"),
        ("/rw", "get ../secret"),
        ("/one", "get note"),
    ] {
        assert_eq!(node.post(route, body).status, 500, "{route} {body}");
    }
    let large = format!("put large\n{}", "x".repeat(2000));
    assert_eq!(node.post("/small", &large).status, 500);
    assert_eq!(fs::metadata(scratch.path().join("large")).expect("there").len(), 1024);
    assert_eq!(node.post("/rw", "remove note").status, 200);
    assert!(!scratch.path().join("note").exists());
    let said = ["Read-only file system", "File too large", "No file descriptors available"];
    node.log_when(|log| said.iter().all(|said| log.contains(said)));
}

const DEVICES: &str = "\
/dev/null
/dev/zero
/dev/random
/dev/urandom
/dev/stdin
/dev/stdout
/dev/stderr
/dev/null: 0 bytes, zeros
/dev/zero: 100000 bytes, zeros
/dev/urandom: 100000 bytes, not all zeros
/dev/stdin: 5 bytes, not all zeros
to /dev/stdout
";

#[test]
fn functions_find_devices() {
    let scratch = Scratch::new();
    let root = format!("dirs = {{ \"/\" = {{ path = {:?} }} }}", scratch.path());
    let functions = [
        function("devices", "/root", &root),
        function("devices", "/asked", "dev = true"),
        function("devices", "/refused", &(root.clone() + "\ndev = false")),
        function("devices", "/none", ""),
    ];
    let node = Node::start("", &functions);
    assert_eq!(node.post("/root", "input").text(), DEVICES);
    assert_eq!(node.post("/asked", "input").text(), DEVICES);
    assert_eq!(node.post("/refused", "input").status, 500);
    assert_eq!(node.post("/none", "input").status, 500);
    let host = scratch.path().display().to_string();
    for (args, given) in [
        (vec!["--dir".to_owned(), format!("{host}::/")], true),
        (vec!["--dev".to_owned()], true),
        (vec!["--dev".to_owned(), "--dir".to_owned(), format!("{host}::/data")], true),
        (vec!["--dev=false".to_owned(), "--dir".to_owned(), format!("{host}::/")], false),
        (vec![], false),
    ] {
        let mut run = awsm();
        run.arg("run").args(&args).arg(guest("devices")).stdin(Stdio::piped());
        let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        // One that does not read is no reason to fail here.
        let _ = child.stdin.take().expect("piped").write_all(b"input");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), given, "{args:?}: {output:?}");
        assert_eq!(said, if given { DEVICES } else { "" }, "{args:?}");
    }
    let own = format!("{host}::/dev");
    let both = awsm().args(["run", "--dev", "--dir", &own]).arg(guest("devices")).output();
    let said = String::from_utf8_lossy(&both.expect("it runs").stderr).into_owned();
    assert!(said.contains("`--dev` and `/dev` of `--dir`: choose one"), "{said}");
}

#[test]
fn input_may_come_from_elsewhere() {
    let scratch = Scratch::new();
    let file = scratch.write("input", "from a file");
    let stdin = format!("stdin = {:?}", format!("file:{}", file.display()));
    let functions =
        [function("echo", "/file", &stdin), function("echo", "/empty", "stdin = \"empty\"")];
    let node = Node::start("", &functions);
    assert_eq!(node.post("/file", "body").text(), "from a file");
    assert_eq!(node.post("/empty", "body").text(), "");
}

#[test]
fn what_cannot_be_granted_is_said_at_once() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let refused = |grant: &str, expected: &str| {
        let text = function("null", "/null", grant);
        let config = scratch.write("awsm.toml", text);
        let output = awsm()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg(config)
            .output()
            .expect("awsm runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.lines().count() == 1, "{said}");
        assert!(said.contains(expected), "{said}");
    };
    refused("dirs = { a = { path = \"/nowhere/at/all\" } }", "`dirs`: /nowhere/at/all: No such");
    refused("stdin = \"file:/nowhere\"", "`stdin`: /nowhere: No such");
    refused(&format!("listen = {{ A = \"{address}\" }}"), "`A`: 127.0.0.1");
}

/// A server from Debian's package, on a port of its own.
struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    fn start(scratch: &Scratch) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(address.port().to_string())
            .arg("--dir")
            .arg(scratch.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: run `make test`");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "redis-server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, address }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_function_answers_from_redis() {
    let scratch = Scratch::new();
    let redis = Redis::start(&scratch);
    let connect = format!("abi = \"wagi\"\n[function.connect]\nREDIS = \"{}\"", redis.address);
    let node = Node::start("", &[function("redis", "/keys/...", &connect)]);
    assert_eq!(node.get("/keys/colour").status, 404);
    let put = node.connect().request("PUT", "/keys/colour", &[], b"dark green");
    assert_eq!((put.status, put.text()), (200, "+OK\r\n"));
    assert_eq!(node.get("/keys/colour").text(), "dark green");
    let large = vec![b'l'; 60_000];
    assert_eq!(node.connect().request("PUT", "/keys/large", &[], &large).status, 200);
    assert_eq!(node.get("/keys/large").body, large);
    // From many at once, each with a connection of its own.
    thread::scope(|scope| {
        for client in 0..8 {
            let node = &node;
            scope.spawn(move || {
                let mut connection = node.connect();
                for number in 0..50 {
                    let path = format!("/keys/{client}.{number}");
                    let value = format!("value {client} {number}");
                    let put = connection.request("PUT", &path, &[], value.as_bytes());
                    assert_eq!(put.status, 200);
                    assert_eq!(connection.request("GET", &path, &[], b"").text(), value);
                }
            });
        }
    });
    drop(redis);
    assert_eq!(node.get("/keys/colour").status, 502);
}

/// A server that accepts, reads a request, and answers when it is told to.
fn reluctant_server(answers: mpsc::Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (send, receive) = mpsc::channel::<TcpStream>();
        thread::spawn(move || {
            while answers.recv().is_ok() {
                let mut stream = receive.recv().expect("a connection");
                let _ = stream.read(&mut [0; 1000]);
                let _ = stream.write_all(b"$4\r\nlate\r\n");
            }
        });
        for stream in listener.incoming() {
            if send.send(stream.expect("accepted")).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn who_waits_for_a_connection_keeps_nobody_waiting() {
    let (answer, answers) = mpsc::channel();
    let address = reluctant_server(answers);
    let connect = format!("abi = \"wagi\"\n[function.connect]\nREDIS = \"{address}\"");
    let functions = [function("redis", "/keys/...", &connect), function("null", "/null", "")];
    let node = Node::start("", &functions);
    let mut waiting: Vec<_> = (0..100).map(|_| node.connect()).collect();
    for client in &mut waiting {
        client.send_request("GET", "/keys/a", &[], b"");
    }
    // One worker; all hundred are blocked in it, and it answers others.
    for _ in 0..50 {
        assert_eq!(node.get("/null").status, 200);
    }
    for _ in &waiting {
        answer.send(()).expect("the server is there");
    }
    for client in &mut waiting {
        assert_eq!(client.receive().text(), "late");
    }
    // Those that are given up leave nothing behind.
    let before = descriptors(&node);
    for _ in 0..20 {
        let mut client = node.connect();
        client.send_request("GET", "/keys/a", &[], b"");
        thread::sleep(Duration::from_millis(5));
    }
    let end = Instant::now() + PATIENCE;
    while descriptors(&node) > before && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(descriptors(&node) <= before, "{} > {before}", descriptors(&node));
}

fn descriptors(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("the node is there").count()
}

#[test]
fn time_is_up_while_it_waits() {
    let (_answer, answers) = mpsc::channel();
    let address = reluctant_server(answers);
    let connect =
        format!("abi = \"wagi\"\ntimeout = \"50ms\"\n[function.connect]\nREDIS = \"{address}\"");
    let node = Node::start("", &[function("redis", "/keys/...", &connect)]);
    for _ in 0..3 {
        assert_eq!(node.get("/keys/a").status, 504);
    }
}

/// Answers each connection to its listening socket with what it says, for ever.
const ECHO_SERVER: &str = r#"(module
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $fd i32)
        (loop $again
            (if (call $accept (i32.const 3) (i32.const 0) (i32.const 16)) (then unreachable))
            (local.set $fd (i32.load (i32.const 16)))
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 1024))
            (drop (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 4)))
            (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 20)))
            (drop (call $close (local.get $fd)))
            (br $again))))"#;

/// A request starts it; it serves its own socket until it is given up, beside ordinary requests.
#[test]
fn a_function_listens() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("socket");
    let module = scratch.write("server.wat", ECHO_SERVER);
    let listens = format!(
        "[[function]]\nname = \"server\"\nroute = \"/server\"\nmodule = {module:?}\ntimeout = \"1h\"\n\
         [function.listen]\nIN = \"unix:{}\"\n",
        socket.display()
    );
    let node = Node::start("", &[listens, function("null", "/null", "")]);
    let mut caller = node.connect();
    caller.send_request("POST", "/server", &[], b"");
    for number in 0..50 {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        let said = format!("number {number}");
        stream.write_all(said.as_bytes()).expect("open");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("text");
        assert_eq!(heard, said);
        assert_eq!(node.get("/null").status, 200);
    }
    // Whoever started it leaves: it ends, perhaps with a connection in hand, and another can be
    // started.
    drop(caller);
    let mut next = node.connect();
    next.send_request("POST", "/server", &[], b"");
    let end = Instant::now() + PATIENCE;
    loop {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        let mut heard = String::new();
        let asked = stream.write_all(b"again").and_then(|()| stream.read_to_string(&mut heard));
        if asked.is_ok() && heard == "again" {
            break;
        }
        assert!(Instant::now() < end, "nobody answers");
    }
}

#[test]
fn a_command_has_directories_and_connections() {
    let scratch = Scratch::new();
    let run = |dir: &str, input: &str| {
        let mut child = awsm()
            .arg("run")
            .arg("--dir")
            .arg(format!("{}::{dir}", scratch.path().display()))
            .arg(guest("files"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("awsm runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("read");
        let status = wait(&mut child);
        let mut said = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (status.code(), said)
    };
    assert_eq!(run("/data", "put a\nhello"), (Some(0), String::new()));
    assert_eq!(run("/data::ro", "get a"), (Some(0), "hello".to_owned()));
    let (code, said) = run("/data::ro", "put a\nbye");
    assert_eq!((code, said.contains("Read-only")), (Some(1), true), "{said}");
    assert_eq!(run("/elsewhere", "get a").0, Some(1));
    let redis = Redis::start(&scratch);
    let output = awsm()
        .args(["run", "--env", "REQUEST_METHOD=GET", "--env", "PATH_INFO=none", "--connect"])
        .arg(format!("REDIS={}", redis.address))
        .arg(guest("redis"))
        .stdin(Stdio::null())
        .output()
        .expect("awsm runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("no such key"), "{output:?}");
}
