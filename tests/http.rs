//! A real node, and everything that may come over its sockets.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;

use common::{
    Client, Gate, Node, Scratch, awsm, eventually, function, guest, named_function, text_function,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

#[test]
fn functions_answer() {
    let node = Node::start("", &[function("null", "/null", ""), function("echo", "/echo", "")]);
    let null = node.get("/null");
    assert_eq!((null.status, null.body.len()), (200, 0));
    assert_eq!(null.header("content-type"), None);
    for metric in ["queue", "startup", "run"] {
        let ms = null.timing(metric).expect(metric);
        assert!((0.0..1000.0).contains(&ms), "{metric}: {ms}");
    }

    let body: Vec<u8> = (0..200_000u32).map(|n| (n * 7) as u8).collect();
    let echo = node.post("/echo", &body);
    assert_eq!((echo.status, echo.body == body), (200, true));
    assert_eq!(echo.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn both_isolations_and_both_forms_of_a_module() {
    let scratch = Scratch::new();
    let object = scratch.path().join("echo.so");
    let built = awsm().arg("build").arg(guest("echo")).arg("-o").arg(&object).status();
    assert!(built.expect("awsm runs").success());
    let node = Node::start(
        "",
        &[
            function("echo", "/guard", "isolation = \"guard\""),
            function("echo", "/checked", "isolation = \"checked\""),
            format!("[[function]]\nname = \"so\"\nmodule = {object:?}\nroute = \"/so\"\n"),
        ],
    );
    for path in ["/guard", "/checked", "/so"] {
        assert_eq!(node.post(path, "hi").text(), "hi", "{path}");
    }
}

#[test]
fn requests_are_named() {
    let node = Node::start("", &[function("null", "/", "")]);
    let mut client = node.connect();
    let made = client.request("GET", "/", &[], b"");
    let made = made.header("x-request-id").expect("one is made");
    assert_eq!(made.len(), 16);
    let kept = client.request("GET", "/", &["X-Request-Id: abc-1"], b"");
    assert_eq!(kept.header("x-request-id"), Some("abc-1"));
    assert_eq!(kept.header("traceparent"), None);
    let odd = client.request("GET", "/", &["X-Request-Id: <b>"], b"");
    assert_ne!(odd.header("x-request-id"), Some("<b>"));
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = client.request("GET", "/", &[&format!("traceparent: {given}")], b"");
    let traced = traced.header("traceparent").expect("it is carried on");
    assert!(traced.starts_with(&given[..36]) && traced != given);
}

#[test]
fn routes_and_methods() {
    let node = Node::start(
        "",
        &[
            function("echo", "/only", "methods = [\"POST\"]"),
            named_function("below", "wagi-hello", "/below/...", "abi = \"wagi\""),
        ],
    );
    let mut client = node.connect();
    let nothing = client.request("GET", "/nothing", &[], b"");
    assert_eq!((nothing.status, nothing.problem("status")), (404, Some("404")));
    let wrong = client.request("GET", "/only", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(client.request("POST", "/only", &[], b"x").text(), "x");
    assert_eq!(client.request("GET", "/below/a/b?c", &[], b"").status, 200);
    assert_eq!(client.request("GET", "/belowx", &[], b"").status, 404);
}

#[test]
fn wagi_functions_see_the_request_and_shape_the_answer() {
    let node = Node::start(
        "",
        &[
            named_function("hello", "wagi-hello", "/hello/...", "abi = \"wagi\""),
            named_function("raw", "echo", "/raw", "abi = \"wagi\""),
        ],
    );
    let mut client = node.connect();
    let hello = client.request("POST", "/hello/a%20b?x=1&y", &[], b"12345");
    assert_eq!(hello.status, 200);
    for part in ["POST", "/a b", "x=1&y", "5"] {
        assert!(hello.text().contains(part), "{part} in {}", hello.text());
    }
    assert_eq!(client.request("GET", "/hello/?status=404", &[], b"").status, 404);

    let teapot = client.request("POST", "/raw", &[], b"Status: 418 Teapot\nX-A: b\n\nshort");
    assert_eq!((teapot.status, teapot.header("x-a")), (418, Some("b")));
    assert_eq!((teapot.text(), teapot.header("content-length")), ("short", Some("5")));
    for malformed in ["garbage", "A: b\nno end", "\nno header", "Status: x\n\n"] {
        let answer = client.request("POST", "/raw", &[], malformed.as_bytes());
        assert_eq!((answer.status, answer.problem("function")), (502, Some("raw")), "{malformed}");
    }
}

/// A function that answers with its variables, each ended by a NUL byte.
const VARIABLES: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get"
        (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 16) "A: b\n\n")
    (data (i32.const 32) "\10\00\00\00\06\00\00\00\00\20\00\00")
    (func (export "_start")
        (drop (call $sizes (i32.const 8) (i32.const 44)))
        (drop (call $get (i32.const 1024) (i32.const 8192)))
        (drop (call $write (i32.const 1) (i32.const 32) (i32.const 2) (i32.const 48)))))"#;

#[test]
fn a_request_says_who_it_is_for_and_nobody_says_it_twice() {
    let scratch = Scratch::new();
    let more = "abi = \"wagi\"";
    let route = |table: String| table.replace("\"/env\"", "\"/...\"");
    let node = Node::start("", &[route(text_function(&scratch, "env", VARIABLES, more))]);
    let ask = |request: &[u8]| {
        let mut client = node.connect();
        client.send(request);
        client.receive()
    };
    // What each variable is.
    let seen = |request: &[u8], variables: &[(&str, &[u8])]| {
        let answer = ask(request);
        let shown = String::from_utf8_lossy(request).into_owned();
        assert_eq!(answer.status, 200, "{shown}: {answer:?}");
        for (name, value) in variables {
            let prefix = [name.as_bytes(), b"="].concat();
            let found = answer.body.split(|byte| *byte == 0).filter(|one| one.starts_with(&prefix));
            let found: Vec<&[u8]> = found.map(|one| &one[prefix.len()..]).collect();
            assert_eq!(found, [*value], "{name} of {shown}");
        }
    };
    let forged =
        b"GET / HTTP/1.1\r\nHost: a.example:81\r\nX_Remote_User: admin\r\nX-Remote-User: me\r\n\
                   Cookie: a=1\r\nCookie: b=2\r\nX-Name: caf\xe9\r\n\r\n";
    seen(
        forged,
        &[
            ("HTTP_X_REMOTE_USER", b"me"),
            ("HTTP_COOKIE", b"a=1; b=2"),
            ("HTTP_X_NAME", b"caf\xe9"),
            ("SERVER_NAME", b"a.example"),
            ("X_FULL_URL", b"http://a.example:81/"),
        ],
    );
    // A whole URI goes before `Host`.
    seen(
        b"GET http://b.example:82/x%2fy%ff?q HTTP/1.1\r\nHost: a.example\r\n\r\n",
        &[
            ("SERVER_NAME", b"b.example"),
            ("HTTP_HOST", b"b.example:82"),
            ("PATH_INFO", b"/x/y\xff"),
            ("QUERY_STRING", b"q"),
            ("X_FULL_URL", b"http://b.example:82/x%2fy%ff?q"),
        ],
    );
    seen(b"GET / HTTP/1.0\r\n\r\n", &[("SERVER_NAME", b"127.0.0.1")]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u:p@a\r\n\r\n", 400),
        ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ] {
        let answer = ask(request.as_bytes());
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.problem("detail").is_some(), "{request}");
    }
}

#[test]
fn an_answer_without_content_has_none() {
    let node = Node::start("", &[named_function("raw", "echo", "/raw", "abi = \"wagi\"")]);
    let mut client = node.connect();
    for status in [204, 205, 304] {
        let said =
            format!("Status: {status}\nConnection: X-Hop\nX-Hop: 1\nX-End: 1\n\nnobody reads it");
        let answer = client.request("POST", "/raw", &[], said.as_bytes());
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!((answer.header("x-hop"), answer.header("x-end")), (None, Some("1")));
        // Nothing is left in the connection that the next answer could be taken for.
        assert_eq!(client.request("POST", "/raw", &[], b"A: b\n\nnext").text(), "next");
    }
}

#[test]
fn callers_learn_as_much_of_times_as_the_configuration_says() {
    let timing = |settings: &str| {
        let node = Node::start(settings, &[function("null", "/", "")]);
        node.get("/").header("server-timing").map(str::to_owned)
    };
    let strangers = timing("").expect("it is there");
    assert!(strangers.contains("startup;dur=0,") && !strangers.contains('.'), "{strangers}");
    let exact = timing("server_timing = \"exact\"").expect("it is there");
    assert!(exact.contains("startup;dur=0."), "{exact}");
    assert_eq!(timing("server_timing = \"off\""), None);
}

#[test]
fn failures_have_their_status_and_say_what_they_are() {
    let node = Node::start(
        "",
        &[
            function("exit", "/exit", ""),
            function("trap", "/trap", ""),
            function("sleep", "/sleep", "timeout = \"100ms\""),
            function("echo", "/echo", "output = \"1KiB\""),
        ],
    );
    let mut client = node.connect();
    let exit = client.request("POST", "/exit", &[], b"7");
    assert_eq!(exit.status, 500);
    assert_eq!(exit.problem("detail"), Some("the function exited with code 7"));
    assert_eq!(exit.problem("function"), Some("exit"));

    let trap = client.request("POST", "/trap", &[], b"div0");
    assert_eq!((trap.status, trap.problem("trap")), (500, Some("integer divide by zero")));
    assert_eq!(trap.problem("title"), Some("Internal Server Error"));
    assert!(trap.timing("run").is_some());

    let late = client.request("POST", "/sleep", &[], b"3600000");
    assert_eq!(late.status, 504);

    assert_eq!(client.request("POST", "/echo", &[], &[b'x'; 1024]).status, 200);
    assert_eq!(client.request("POST", "/echo", &[], &[b'x'; 1025]).status, 502);
    assert_eq!(client.request("POST", "/echo", &[], b"still here").text(), "still here");
}

#[test]
fn traps_leave_their_neighbours_alone() {
    let node = Node::start("", &[function("trap", "/trap", ""), function("sha", "/sha", "")]);
    let abc = "a9993e364706816aba3e25717850c26c9cd0d89d";
    let ways = [
        "unreachable",
        "oob",
        "oob-write",
        "div0",
        "overflow",
        "nan",
        "stack",
        "indirect",
        "null-call",
    ];
    let hammer = |healthy: bool| {
        let mut client = node.connect();
        move || {
            for round in 0..300 {
                if healthy {
                    let answer = client.request("POST", "/sha", &[], b"abc");
                    assert!(answer.text().contains(abc), "{}", answer.text());
                } else {
                    let way = ways[round % ways.len()];
                    let answer = client.request("POST", "/trap", &[], way.as_bytes());
                    assert_eq!(answer.status, 500, "{way}");
                }
            }
        }
    };
    let threads: Vec<_> =
        [true, false, true, false].map(|healthy| thread::spawn(hammer(healthy))).into();
    for thread in threads {
        thread.join().expect("all answers are right");
    }
}

#[test]
fn bodies_of_every_kind() {
    let node = Node::start("", &[function("echo", "/", "body = \"100KiB\"")]);
    let mut client = node.connect();
    // None announced: none is waited for.
    client.send("POST / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.receive().body, b"");
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.receive().body, b"");
    client.send(
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n",
    );
    assert_eq!(client.receive().text(), "abcdefg");
    // Byte by byte.
    for byte in b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello" {
        client.send([*byte]);
    }
    assert_eq!(client.receive().text(), "hello");
    // Who asks first is told to go on.
    client.send("POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.receive().status, 100);
    client.send("ok");
    assert_eq!(client.receive().text(), "ok");
    // HEAD has the header only.
    client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut header = [0; 15];
    client.raw().read_exact(&mut header).expect("an answer");
    assert_eq!(&header, b"HTTP/1.1 200 OK");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start("", &[function("echo", "/", ""), function("sleep", "/sleep", "")]);
    let mut client = node.connect();
    let mut all = Vec::new();
    for n in 0..20 {
        let path = if n % 5 == 0 { "/sleep" } else { "/" };
        let body = n.to_string();
        let length = body.len();
        write!(all, "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("memory");
    }
    client.send(all);
    for n in 0..20 {
        let answer = client.receive();
        let expected = if n % 5 == 0 { format!("slept {n}\n") } else { n.to_string() };
        assert_eq!(answer.text(), expected);
    }
}

#[test]
fn bodies_over_the_limit_are_refused_and_the_connection_stays() {
    let node = Node::start(
        "",
        &[function("echo", "/", "body = \"1000B\""), function("null", "/none", "body = \"0B\"")],
    );
    let mut client = node.connect();
    assert_eq!(client.request("POST", "/", &[], &[1; 1000]).status, 200);
    let refused = client.request("POST", "/", &[], &[1; 1001]);
    assert_eq!((refused.status, refused.problem("function")), (413, Some("_")));
    assert_eq!(client.request("POST", "/", &[], &vec![1; 3 << 20]).status, 413);
    assert_eq!(client.request("POST", "/none", &[], b"x").status, 413);
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..10 {
        client.send(format!("100\r\n{}\r\n", "x".repeat(256)));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.receive().status, 413);
    assert_eq!(client.request("POST", "/nowhere", &[], &vec![1; 1 << 20]).status, 404);
    assert_eq!(client.request("POST", "/", &[], b"fine").text(), "fine");
    // Who asks before sending is refused before sending.
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    assert_eq!(client.receive().status, 413);
}

#[test]
fn malformed_and_oversized_requests() {
    let node =
        Node::start("header_bytes = \"8KiB\"\nheader_count = 20", &[function("null", "/", "")]);
    let check = |request: &[u8], status: u16| {
        let mut client = node.connect();
        client.send(request);
        let answer = client.receive();
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert_eq!(answer.status, status, "{shown}");
        assert!(client.is_closed(), "{shown}");
    };
    check(b"nonsense\r\n\r\n", 400);
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400);
    check(b"GET / HTTP/9.9\r\n\r\n", 400);
    check(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400);
    check(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: abc\r\n\r\n", 400);
    check(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400);
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(9000));
    check(long.as_bytes(), 431);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(30));
    check(many.as_bytes(), 431);
    let fits = format!("GET / HTTP/1.1\r\nHost: t\r\nA: {}\r\n\r\n", "x".repeat(7000));
    let mut client = node.connect();
    client.send(fits);
    assert_eq!(client.receive().status, 200);
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn callers_that_are_too_slow() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "");
    let node = Node::start(
        "header_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"300ms\"",
        &[function("echo", "/", ""), gate.table.clone()],
    );
    let mut header = node.connect();
    header.send("GET / HTTP/1.1\r\nHo");
    let mut body = node.connect();
    body.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    let mut idle = node.connect();
    assert_eq!(idle.request("GET", "/", &[], b"").status, 200);
    // Patience with a slow function is its timeout's business.
    let mut patient = node.connect();
    patient.send_request("POST", "/gate", &[], b"");
    gate.wait_for(&node, 1);

    assert_eq!(header.receive().status, 408);
    assert!(header.is_closed());
    let refused = body.receive();
    assert_eq!((refused.status, refused.problem("status")), (408, Some("408")));
    assert!(body.is_closed());
    assert!(idle.is_closed());
    gate.open(1);
    assert_eq!(patient.receive().text(), "went on\n");
}

#[test]
fn callers_that_leave() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "");
    let settings = "sandboxes = 1\nhalf_close_timeout = \"0s\"";
    let node = Node::start(settings, &[function("echo", "/", ""), gate.table.clone()]);
    // In the middle of the header, of the body, of a chunk.
    for part in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
    ] {
        node.connect().send(part);
        let mut client = node.connect();
        client.send(part);
        client.finish();
        let status = client.try_receive().map(|answer| answer.status);
        // Half a header is no request that could be answered.
        assert_eq!(status, part.starts_with("POST").then_some(400), "{part}");
        assert!(client.is_closed());
    }
    // While the function waits: its sandbox, the only one, is free again.
    for round in 1..=5 {
        let mut client = node.connect();
        client.send_request("POST", "/gate", &[], b"");
        gate.wait_for(&node, round);
        drop(client);
    }
    assert_eq!(node.post("/", "free").text(), "free");
}

#[test]
fn who_closes_the_sending_half_gets_the_answer() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "");
    let functions = [function("echo", "/", "body = \"16MiB\""), gate.table.clone()];
    let node = Node::start("half_close_timeout = \"1h\"", &functions);
    // At once, after a while, an answer that fills the sockets, one without a function, several.
    let mut client = node.connect();
    client.send_request("POST", "/", &[], b"hello");
    client.finish();
    assert_eq!(client.receive().text(), "hello");
    assert!(client.is_closed());

    let mut client = node.connect();
    client.send_request("POST", "/gate", &[], b"");
    client.finish();
    gate.wait_for(&node, 1);
    // The end of the stream has been seen when another one's has.
    let mut other = node.connect();
    other.finish();
    assert!(other.is_closed());
    gate.open(1);
    assert_eq!(client.receive().text(), "went on\n");
    assert!(client.is_closed());

    let large = vec![b'x'; 12 << 20];
    let mut client = node.connect();
    client.send_request("POST", "/", &[], &large);
    client.finish();
    eventually("its answer begins", || client.is_answered());
    let answer = client.receive();
    assert_eq!((answer.status, answer.body.len()), (200, large.len()));
    assert!(client.is_closed());

    let mut client = node.connect();
    client.send_request("GET", "/nowhere", &[], b"");
    client.finish();
    assert_eq!(client.receive().status, 404);
    assert!(client.is_closed());

    let mut client = node.connect();
    (0..20).for_each(|n| client.send_request("POST", "/", &[], format!("{n}").as_bytes()));
    client.finish();
    for n in 0..20 {
        assert_eq!(client.receive().text(), n.to_string());
    }
    assert!(client.is_closed());
}

/// The first of them that is answered, which is not one of them any more.
fn first_answered(clients: &mut Vec<Client>) -> Client {
    let mut first = None;
    eventually("one is answered", || {
        first = clients.iter_mut().position(Client::is_answered);
        first.is_some()
    });
    clients.remove(first.expect("one is"))
}

#[test]
fn overload_is_an_ordinary_answer() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "");
    let functions = [gate.table.clone(), function("null", "/", "")];
    let node = Node::start("sandboxes = 1\nqueue = 1", &functions);
    let mut first = node.connect();
    first.send_request("POST", "/gate", &[], b"");
    gate.wait_for(&node, 1);
    // Of two more, one waits and one is refused.
    let mut others = vec![node.connect(), node.connect()];
    others.iter_mut().for_each(|client| client.send_request("GET", "/", &[], b""));
    let mut third = first_answered(&mut others);
    let refused = third.receive();
    assert_eq!((refused.status, refused.problem("function")), (503, Some("_")));
    let retry: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..60).contains(&retry));
    gate.open(1);
    assert_eq!(first.receive().text(), "went on\n");
    assert_eq!(others[0].receive().status, 200);
    assert_eq!(third.request("GET", "/", &[], b"").status, 200);
}

#[test]
fn a_function_at_its_concurrency_waits_and_others_do_not() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "concurrency = 1");
    let node = Node::start("", &[gate.table.clone(), function("null", "/", "")]);
    let mut waiting: Vec<Client> = (0..3).map(|_| node.connect()).collect();
    for client in &mut waiting {
        client.send_request("POST", "/gate", &[], b"");
    }
    for round in 1..=3 {
        gate.wait_for(&node, round);
        assert_eq!(node.get("/").status, 200, "the other function does not wait");
        assert_eq!(gate.begun(&node), round, "one after the other");
        gate.open(1);
        let answer = first_answered(&mut waiting).receive();
        assert_eq!((answer.status, answer.text()), (200, "went on\n"));
    }
}

#[test]
fn a_thousand_wait_on_one_worker() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit is allowed");
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "timeout = \"1h\"\nlog_lines = \"100000/s\"");
    let node = Node::start("", &[gate.table.clone(), function("null", "/", "")]);
    let mut waiting: Vec<Client> = (0..1000).map(|_| node.connect()).collect();
    for client in &mut waiting {
        client.send_request("POST", "/gate", &[], b"");
    }
    gate.wait_for(&node, 1000);
    assert_eq!(node.get("/").status, 200, "they hold nobody up");
    gate.open(1000);
    for client in &mut waiting {
        let answer = client.receive();
        assert_eq!((answer.status, answer.text()), (200, "went on\n"));
        assert!(answer.timing("blocked").is_some(), "it was blocked");
    }
}

#[test]
fn the_port_is_taken() {
    let node = Node::start("", &[function("null", "/", "")]);
    let scratch = Scratch::new();
    let config = scratch.write("awsm.toml", function("null", "/", ""));
    let second = awsm()
        .args(["serve", "--listen", &node.address.to_string()])
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .expect("awsm runs");
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(
        stderr,
        format!(
            "error: {} is in use: stop what listens there, or choose another --listen\n",
            node.address
        )
    );
    assert_eq!(node.get("/").status, 200);
}

#[test]
fn several_workers_share_the_address() {
    let node = Node::start_workers(2, "", &[function("echo", "/", "")]);
    for n in 0..50 {
        assert_eq!(node.post("/", n.to_string()).text(), n.to_string());
    }
}

/// A node with one function, at whose gate one client waits; and another connection.
fn waiting_at_the_end(scratch: &Scratch, settings: &str) -> (Node, Gate, Client, Client) {
    let gate = Gate::new(scratch, "gate", "timeout = \"1h\"");
    let node = Node::start(settings, &[gate.table.clone(), function("null", "/", "")]);
    let mut idle = node.connect();
    assert_eq!(idle.request("GET", "/", &[], b"").status, 200);
    let mut client = node.connect();
    client.send_request("POST", "/gate", &[], b"");
    gate.wait_for(&node, 1);
    (node, gate, client, idle)
}

#[test]
fn a_signal_lets_what_runs_finish() {
    let scratch = Scratch::new();
    let (mut node, gate, mut client, mut idle) = waiting_at_the_end(&scratch, "");
    node.signal(Signal::TERM);
    assert!(idle.is_closed());
    gate.open(1);
    let answer = client.receive();
    assert_eq!((answer.text(), answer.header("connection")), ("went on\n", Some("close")));
    assert!(client.is_closed());
    assert_eq!(node.wait().code(), Some(0));
    assert!(TcpStream::connect(node.address).is_err());
}

#[test]
fn two_signals_stop_at_once() {
    let scratch = Scratch::new();
    let patience = "shutdown_timeout = \"1h\"";
    let (mut node, _gate, mut client, mut idle) = waiting_at_the_end(&scratch, patience);
    node.signal(Signal::INT);
    // The first was heard.
    assert!(idle.is_closed());
    node.signal(Signal::INT);
    assert_eq!(node.wait().code(), Some(130));
    assert!(client.is_closed());
}

#[test]
fn patience_at_the_end_has_its_limit() {
    let scratch = Scratch::new();
    let patience = "shutdown_timeout = \"300ms\"";
    let (mut node, _gate, mut client, _idle) = waiting_at_the_end(&scratch, patience);
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0));
    assert!(client.is_closed());
}

#[test]
fn what_guests_say_on_stderr_is_in_the_log() {
    let node = Node::start("", &[function("trap", "/trap", "")]);
    let answer = node.connect().request("POST", "/trap", &["X-Request-Id: r7"], b"no-such-way");
    assert_eq!(answer.status, 500);
    node.log_when(|log| ["the ways are", "r7", "function"].iter().all(|said| log.contains(said)));
}

#[test]
fn where_a_guest_trapped_is_in_the_log() {
    let node = Node::start("", &[function("trap", "/trap", "")]);
    let answer = node.connect().request("POST", "/trap", &["X-Request-Id: r8"], b"div0");
    assert_eq!(answer.status, 500);
    let told = |line: &str| line.contains("integer divide by zero in ") && line.contains("r8");
    node.log_when(|log| log.lines().any(told));
}
