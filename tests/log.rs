//! What functions say in the log: bounded, nobody's but theirs, and not lost.

mod common;

use std::fs::OpenOptions;
use std::process::Command;
use std::time::Instant;

use common::{Client, Gate, Node, Scratch, awsm};
use rustix::process::Signal;

/// A guest that writes a text to stderr as often as wanted, then sleeps for so long. It ends with
/// the error of the last write, if there was one.
fn saying(text: &str, times: u32, sleep_ns: u64) -> String {
    let data: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let bytes = text.len();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 4)
            (data (i32.const 1024) "{data}")
            (func (export "_start") (local $left i32) (local $error i32)
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const {bytes}))
                (local.set $left (i32.const {times}))
                (loop $again
                    (local.set $error
                        (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (br_if $again
                        (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (if (i64.ne (i64.const {sleep_ns}) (i64.const 0)) (then
                    (i64.store (i32.const 72) (i64.const {sleep_ns}))
                    (drop (call $poll
                        (i32.const 48) (i32.const 128) (i32.const 1) (i32.const 192)))))
                (if (local.get $error) (then (call $exit (local.get $error))))))"#
    )
}

/// The table of a function with that guest.
fn function(scratch: &Scratch, name: &str, wat: &str, more: &str) -> String {
    let wasm = wat::parse_str(wat).expect("a module in the text format");
    let module = scratch.write(&format!("{name}.wasm"), wasm);
    format!("[[function]]\nname = \"{name}\"\nmodule = {module:?}\nroute = \"/{name}\"\n{more}\n")
}

/// How many events of guests the log has of a function.
fn events(log: &str, function: &str) -> usize {
    let name = format!("awsm::guest: function=\"{function}\"");
    log.lines().filter(|line| line.contains(&name)).count()
}

#[test]
fn a_storm_of_lines_is_limited_and_told_and_hides_nobodys() {
    let scratch = Scratch::new();
    let began = Instant::now();
    let mut node = Node::start(
        "",
        &[
            function(&scratch, "storm", &saying(&"\n".repeat(16 << 10), 1, 0), ""),
            function(&scratch, "quiet", &saying("here I am\n", 1, 0), ""),
        ],
    );
    for _ in 0..20 {
        assert_eq!(node.get("/storm").status, 200);
    }
    assert_eq!(node.get("/quiet").status, 200);
    let told = |log: &str| {
        let lost = |line: &str| line.contains("not logged") && line.contains("function=\"storm\"");
        log.lines().any(lost)
    };
    node.log_when(|log| events(log, "quiet") == 1 && told(log));
    let seconds = began.elapsed().as_secs() + 2;
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let log = node.log();
    let lines = events(&log, "storm");
    // The default is a thousand lines a second.
    assert!(lines >= 1000 && lines as u64 <= 1000 * seconds, "{lines} lines in {seconds} s");
    let told = log.lines().filter(|line| line.contains("not logged")).count() as u64;
    assert!((1..=seconds).contains(&told), "told {told} times in {seconds} s");
}

#[test]
fn a_tenants_functions_share_what_it_may_say() {
    let scratch = Scratch::new();
    let tenant = "[[tenant]]\nname = \"t\"\nlog_lines = \"3/s\"\n".to_owned();
    let say = saying("a\nb\n", 1, 0);
    let mut node = Node::start(
        "",
        &[
            tenant,
            function(&scratch, "one", &say, "tenant = \"t\""),
            function(&scratch, "other", &say, "tenant = \"t\""),
            function(&scratch, "silent", &say, "log_rate = \"0B/s\""),
        ],
    );
    let began = Instant::now();
    for path in ["/one", "/other", "/one", "/other", "/silent"] {
        assert_eq!(node.get(path).status, 200);
    }
    let seconds = began.elapsed().as_secs() as usize + 1;
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let log = node.log();
    let both = events(&log, "one") + events(&log, "other");
    assert!(both >= 3 && (both == 8 || both <= 3 + 3 * seconds), "{both} lines: {log}");
    assert!(seconds > 1 || both < 8, "{log}");
    assert_eq!(events(&log, "silent"), 0, "{log}");
}

#[test]
fn too_much_is_cut_and_is_no_error() {
    let scratch = Scratch::new();
    let text = format!("begins{}", "x".repeat(100_000));
    let node = Node::start(
        "",
        &[
            function(&scratch, "large", &saying(&text, 1, 0), ""),
            function(&scratch, "often", &saying("12345678901234567890\n", 1000, 0), ""),
        ],
    );
    for path in ["/large", "/often"] {
        assert_eq!(node.get(path).status, 200, "{path}");
    }
    let log = node.log_when(|log| log.contains("beginsxxx") && events(log, "often") > 100);
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!((16_000..17_000).contains(&longest), "{longest}");
}

#[test]
fn nothing_that_a_guest_says_looks_like_anything_else() {
    let scratch = Scratch::new();
    let text = "fake1 a\" function=\"bank\" request=\"r1\n\
        2026-01-01T00:00:00.000000Z  INFO awsm::guest: function=\"bank\" fake2\r\n\
        fake3\rover\0\u{9b}2J\u{1b}[31m\u{202e}txt.exe\u{2028}\n";
    let node = Node::start("", &[function(&scratch, "forge", &saying(text, 1, 0), "")]);
    assert_eq!(node.get("/forge").status, 200);
    let log = node.log_when(|log| log.contains("fake3"));
    let said: Vec<_> = log.lines().filter(|line| line.contains("fake")).collect();
    assert_eq!(said.len(), 3, "{log}");
    for line in said {
        assert!(line.contains("awsm::guest: function=\"forge\" request=\""), "{line}");
        assert!(!line.contains("function=\"bank\""), "{line}");
    }
    let acts = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2028}".contains(*c);
    assert_eq!(log.chars().find(acts), None, "{log:?}");
    let shown = "fake3<U+000D>over<U+0000><U+009B>2J<U+001B>[31m<U+202E>txt.exe<U+2028>";
    assert!(log.contains(shown), "{log}");
}

#[test]
fn what_was_said_before_a_long_wait_is_there_before_its_end() {
    let scratch = Scratch::new();
    let minutes = saying("I wait\nhalf a li", 1, 600_000_000_000);
    let functions = [function(&scratch, "wait", &minutes, "timeout = \"10m\"")];
    let mut node = Node::start("half_close_timeout = \"0s\"", &functions);
    let mut client = node.connect();
    client.send_request("GET", "/wait", &["X-Request-Id: r9"], b"");
    let log = node.log_when(|log| log.contains("I wait"));
    assert!(log.contains("request=\"r9\"") && !log.contains("half"), "{log}");
    // The caller goes away, and the function with it.
    drop(client);
    let log = node.log_when(|log| log.contains("half a li"));
    assert_eq!(log.matches("I wait").count(), 1, "{log}");
    // So it is with whatever is cut off when the node ends.
    let mut client = node.connect();
    client.send_request("GET", "/wait", &["X-Request-Id: r10"], b"");
    node.log_when(|log| log.matches("I wait").count() == 2);
    drop(node.log());
    node.signal(Signal::TERM);
    drop(client);
    assert!(node.wait().success());
    assert_eq!(node.log().matches("half a li").count(), 2, "{}", node.log());
}

/// The line that tells of a function's failures with that status.
fn failure<'l>(log: &'l str, function: &str, status: u16) -> Option<&'l str> {
    let (name, status) = (format!("function=\"{function}\""), format!("status={status} "));
    let is_it = |line: &&str| {
        line.contains("awsm::failure: ") && line.contains(&name) && line.contains(&status)
    };
    log.lines().find(is_it)
}

#[test]
fn what_fails_is_told_with_its_reason() {
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "concurrency = 1\ntenant = \"t\"");
    let tenant = "[[tenant]]\nname = \"t\"\nqueue = 1\n".to_owned();
    let node = Node::start(
        "queue = 2\nsandboxes = 2",
        &[
            tenant,
            gate.table.clone(),
            common::function("exit", "/exit", ""),
            common::function("sleep", "/sleep", "timeout = \"100ms\""),
            common::function("echo", "/small", "output = \"1B\""),
            common::function("echo", "/wagi", "abi = \"wagi\""),
            common::function("trap", "/trap", ""),
            common::function("null", "/fine", ""),
        ],
    );
    let ask = |path: &str, body: &str| {
        let name = format!("X-Request-Id: r{}", path.trim_matches('/'));
        node.connect().request("POST", path, &[&name], body.as_bytes()).status
    };
    assert_eq!(ask("/exit", "7"), 500);
    assert_eq!(ask("/sleep", "3600000"), 504);
    assert_eq!(ask("/small", "too much"), 502);
    assert_eq!(ask("/wagi", "no header"), 502);
    assert_eq!(ask("/trap", "div0"), 500);
    assert_eq!(ask("/fine", ""), 200);
    assert_eq!(ask("/nowhere", ""), 404);
    // One runs, one waits; there is no place for a third of the tenant.
    let mut clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send_request("POST", "/gate", &["X-Request-Id: rgate"], b"");
    }
    common::eventually("one is refused", || clients.iter_mut().any(Client::is_answered));
    let told = [
        ("INFO", "exit", 500, "the function exited with code 7"),
        ("INFO", "sleep", 504, "the function's time was up"),
        ("INFO", "small", 502, "the function's answer is larger than its limit"),
        ("INFO", "wagi", 502, "the function's answer is malformed: "),
        ("INFO", "gate", 429, "the tenant's queue is full"),
    ];
    let all =
        |log: &str| told.iter().all(|(_, name, status, _)| failure(log, name, *status).is_some());
    let log = node.log_when(|log| all(log) && log.contains("trap="));
    for (level, function, status, reason) in told {
        let line = failure(&log, function, status).expect("it is told");
        let wanted = format!("request=\"r{function}\" status={status} reason=\"{reason}");
        assert!(line.contains(&wanted) && line.contains("count=1"), "{line}");
        assert!(line.contains(&format!(" {level} ")), "{line}");
    }
    assert_eq!(log.matches("awsm::failure").count(), told.len(), "{log}");
}

#[test]
fn of_a_flood_of_failures_some_are_told_and_all_are_counted() {
    let mut node = Node::start("", &[common::function("exit", "/exit", "")]);
    let began = Instant::now();
    let mut client = node.connect();
    for _ in 0..500 {
        assert_eq!(client.request("POST", "/exit", &[], b"3").status, 500);
    }
    drop(client);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let seconds = began.elapsed().as_secs() as usize;
    let log = node.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("awsm::failure: ")).collect();
    let count = |line: &&str| {
        let (_, count) = line.split_once("count=").expect("a count");
        count.trim().parse::<usize>().expect("a number")
    };
    assert_eq!(lines.iter().map(count).sum::<usize>(), 500, "{log}");
    assert!(lines.len() <= 3 + seconds, "{} lines in {seconds} s: {log}", lines.len());
}

#[test]
fn a_pipe_that_nobody_reads_costs_bounded_memory_and_holds_nobody_up() {
    let scratch = Scratch::new();
    let pipe = scratch.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it is there").success());
    let _unread = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let program = awsm();
    let mut command = Command::new("sh");
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PIPE", &pipe).env_remove("RUST_LOG");
    command.args(["-c", r#"exec "$0" "$@" 2> "$PIPE""#]).arg(program.get_program());
    let long = "x".repeat((16 << 10) - 1) + "\n";
    let more = "log_rate = \"1GiB/s\"\nlog_lines = \"1000000/s\"";
    let node =
        Node::start_by(command, 1, "", &[function(&scratch, "long", &saying(&long, 1, 0), more)]);
    let mut client = node.connect();
    let mut ask = |times| {
        for _ in 0..times {
            assert_eq!(client.request("GET", "/long", &[], b"").status, 200);
        }
    };
    ask(1000);
    let before = node.status("VmRSS:");
    ask(3000);
    let after = node.status("VmRSS:");
    // What was said meanwhile is 48 MiB.
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
}
