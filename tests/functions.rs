//! What the configuration says of a function: what is called of it, what its exit codes stand for,
//! how large its stack is.

mod common;

use std::process::{Command, Output, Stdio};

use common::{Node, Scratch, awsm, refusal, text_function};

/// Its exit code is the body's first byte, less than that of `0`; the rest is its output.
const CODE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\40\00\00\00\00\04\00\00\41\00\00\00\00\00\00\00")
    (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
        (i32.store (i32.const 12) (i32.sub (i32.load (i32.const 16)) (i32.const 1)))
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
        (call $exit (i32.sub (i32.load8_u (i32.const 64)) (i32.const 48)))))"#;

#[test]
fn exit_codes_are_statuses_and_output_is_not_lost() {
    let scratch = Scratch::new();
    let status = "content_type = \"text/plain\"\nstatus = { 0 = 201, 2 = 400, 3 = 204 }";
    let functions = [
        text_function(&scratch, "mapped", CODE, status),
        text_function(&scratch, "plain", CODE, ""),
        text_function(&scratch, "wagi", CODE, "abi = \"wagi\""),
    ];
    let node = Node::start("", &functions);
    let mut client = node.connect();
    let mut ask = |path: &str, body: &str| client.request("POST", path, &[], body.as_bytes());
    for (body, status, text) in [
        ("0made", 201, "made"),
        ("2no such size", 400, "no such size"),
        ("2", 400, ""),
        ("3", 204, ""),
        ("5half of it", 500, "half of it"),
    ] {
        let answer = ask("/mapped", body);
        assert_eq!((answer.status, answer.text()), (status, text), "{body}");
        let content_type = (!text.is_empty()).then_some("text/plain");
        assert_eq!(answer.header("content-type"), content_type, "{body}");
    }
    let silent = ask("/mapped", "5");
    assert_eq!(silent.problem("detail"), Some("the function exited with code 5"));
    assert_eq!((ask("/plain", "0fine").status, ask("/plain", "2words").status), (200, 500));

    let own = ask("/wagi", "2Status: 404\n\nno such thing");
    assert_eq!((own.status, own.text()), (404, "no such thing"));
    let unsaid = ask("/wagi", "2A: b\n\nsorry");
    assert_eq!((unsaid.status, unsaid.text(), unsaid.header("a")), (500, "sorry", Some("b")));
    let broken = ask("/wagi", "2sorry");
    assert_eq!(broken.problem("detail"), Some("the function exited with code 2"));
    assert_eq!(ask("/wagi", "0A: b\n\nfine").status, 200);
}

/// Without a command's entry: `handle` says how often it has been made ready, and gives 7.
const REACTOR: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\01\00\00\000")
    (func (export "_initialize")
        (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1))))
    (func $say (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
    (func (export "handle") (result i32) (call $say) (i32.const 7))
    (func (export "quiet") (call $say))
    (func (export "sum") (param i32) (result i32) (local.get 0)))"#;

#[test]
fn a_reactors_function_is_called_after_its_initialisation() {
    let scratch = Scratch::new();
    let functions = [
        text_function(&scratch, "handle", REACTOR, "entry = \"handle\"\nstatus = { 7 = 202 }"),
        text_function(&scratch, "quiet", REACTOR, "entry = \"quiet\""),
        text_function(&scratch, "first", REACTOR, "entry = \"_initialize\""),
    ];
    let node = Node::start("", &functions);
    let mut client = node.connect();
    // Once for each request, in a sandbox of its own.
    for _ in 0..3 {
        for (path, status, text) in
            [("/handle", 202, "1"), ("/quiet", 200, "1"), ("/first", 200, "")]
        {
            let answer = client.request("GET", path, &[], b"");
            assert_eq!((answer.status, answer.text()), (status, text), "{path}");
        }
    }
}

#[test]
fn what_cannot_be_called_is_said_with_what_could() {
    let scratch = Scratch::new();
    let serve = |more: &str, wat: &str| {
        let config = scratch.write("awsm.toml", text_function(&scratch, "f", wat, more));
        let error =
            refusal(&scratch, awsm().args(["serve", "--listen", "127.0.0.1:0"]).arg(config));
        error.trim_end().split_once("f.wasm: ").expect("it names the module").1.to_owned()
    };
    let advice =
        "name another function, such as `handle` (`entry` in awsm.toml, `--invoke` of `awsm run`)";
    assert_eq!(
        serve("", REACTOR),
        format!("no function `_start` is exported: build the module as a command, or {advice}")
    );
    assert!(serve("entry = \"hnadle\"", REACTOR).ends_with(advice));
    assert_eq!(
        serve("entry = \"sum\"", REACTOR),
        "`sum` is of type [i32] -> [i32], and is called without parameters for nothing or an i32"
    );
    let odd = REACTOR.replace("\"_initialize\"", "\"_initialize\") (param i32");
    assert_eq!(
        serve("entry = \"handle\"", &odd),
        "`_initialize` is of type [i32] -> [], and is called without parameters and results"
    );
    let none = "(module (func (export \"f\") (param i32)))";
    assert_eq!(serve("", none), "no function `_start` is exported: build the module as a command");
}

/// Calls itself a hundred thousand times, each with something left to do afterwards.
const DEEP: &str = r#"(module
    (memory (export "memory") 1)
    (func $down (param $n i32) (result i32) (local $below i32)
        (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
        (local.set $below (call $down (i32.sub (local.get $n) (i32.const 1))))
        (i32.store (i32.and (local.get $n) (i32.const 1020))
            (i32.xor (local.get $n) (local.get $below)))
        (i32.add (i32.mul (local.get $below) (i32.const 31)) (i32.load (i32.const 8))))
    (func $start (export "_start") (drop (call $down (i32.const 100000))))
    (func (export "deep") (param i32) (result i32) (call $down (local.get 0))))"#;

#[test]
fn a_stack_is_as_large_as_its_function_needs() {
    let scratch = Scratch::new();
    let functions = [
        text_function(&scratch, "small", DEEP, ""),
        text_function(&scratch, "large", DEEP, "stack = \"32MiB\""),
    ];
    let node = Node::start("", &functions);
    let overflows = node.get("/small");
    assert_eq!((overflows.status, overflows.problem("trap")), (500, Some("call stack exhausted")));
    assert_eq!(node.get("/large").status, 200);
    assert_eq!(node.get("/small").status, 500);

    let module = scratch.write("deep.wat", DEEP);
    let run = |options: &[&str]| -> Output {
        let mut command: Command = awsm();
        command
            .arg("run")
            .args(options)
            .arg(&module)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    };
    assert_eq!(run(&[]).status.code(), Some(134));
    assert_eq!(run(&["--stack", "32MiB"]).status.code(), Some(0));
    let refused = run(&["--stack", "64KiB"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(error.contains("a stack has 128KiB to 1GiB"), "{error}");
}

#[test]
fn a_guest_is_called_as_one_says() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\00\04\00\00")
        (func (export "_start")
            (drop (call $sizes (i32.const 8) (i32.const 4)))
            (drop (call $get (i32.const 512) (i32.const 1024)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let scratch = Scratch::new();
    let module = scratch.write("tool.wat", wat);
    let said = |options: &[&str]| {
        let mut command = awsm();
        let output = command.arg("run").args(options).arg(&module).arg("-v").output();
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    };
    assert_eq!(said(&[]), "tool.wat\0-v\0");
    assert_eq!(said(&["--argv0", "ls"]), "ls\0-v\0");
}
