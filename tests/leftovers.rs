//! What the node itself keeps between requests: bodies, headers, variables, answers, and cells for
//! results. Nothing of one request comes out with another's answer.

mod common;

use std::sync::Arc;

use awsm_sandbox::Val;
use awsm_sandbox::{Call, Limits, Linker, Module, Pool, PoolConfig, Program, Stop};
use common::{Client, Node, Response, Scratch, awsm};

/// Answers with its variables, what it can read, and the rest of the pages that both lay in.
const TELLS_ALL: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get"
        (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (data (i32.const 64) "Content-Type: text/plain\n\n")
    (func $say (param $at i32) (param $bytes i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $bytes))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
    (func (export "_start")
        (drop (call $sizes (i32.const 24) (i32.const 28)))
        (drop (call $environ (i32.const 4096) (i32.const 8192)))
        (i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 4) (i32.const 100000))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
        (call $say (i32.const 64) (i32.const 26))
        (call $say (i32.const 4096) (i32.const 200000))))"#;

fn contains(response: &Response, secret: &str) -> bool {
    let secret = secret.as_bytes();
    let headers = response.headers.iter().flat_map(|(name, value)| [name, value]);
    response.body.windows(secret.len()).any(|bytes| bytes == secret)
        || headers
            .into_iter()
            .any(|text| text.as_bytes().windows(secret.len()).any(|b| b == secret))
}

#[test]
fn requests_leave_nothing_in_the_node() {
    let scratch = Scratch::new();
    let module = scratch.write("tells.wat", TELLS_ALL);
    let functions = ["one", "two"].map(|name| {
        format!(
            "[[function]]\nname = \"{name}\"\nmodule = {module:?}\nroute = \"/{name}/...\"\n\
             abi = \"wagi\"\nbody = \"64KiB\"\n"
        )
    });
    let node = Node::start("", &functions);
    let secret = |turn: usize, what: &str| format!("SECRET-{what}-{turn:04}");
    let mut kept: [Client; 2] = [node.connect(), node.connect()];
    for turn in 0..150 {
        let (path, query, header, body) = (
            secret(turn, "path"),
            secret(turn, "query"),
            secret(turn, "header"),
            secret(turn, "body").repeat(1 + turn * 20),
        );
        let mut fresh = node.connect();
        let client = if turn % 3 == 0 { &mut fresh } else { &mut kept[0] };
        let told = client.request(
            "POST",
            &format!("/one/{path}?{query}"),
            &[&format!("X-Secret: {}", header.repeat(1 + turn % 40)), &format!("Cookie: {header}")],
            body.as_bytes(),
        );
        assert_eq!(told.status, 200);
        let all = [&path, &query, &header, &secret(turn, "body")];
        assert!(all.iter().all(|secret| contains(&told, secret)), "the guest tells all");
        // Too much of it, on a connection that goes on or ends.
        if turn % 5 == 0 {
            let many = secret(turn, "many").repeat(6000);
            assert_eq!(node.connect().request("POST", "/one/x", &[], many.as_bytes()).status, 413);
        }
        for other in [
            kept[0].request("GET", "/one/plain", &[], b""),
            kept[1].request("POST", "/two/plain", &[], b"a short body"),
            kept[1].request("GET", "/nowhere", &[], b""),
        ] {
            assert!(!contains(&other, "SECRET"), "turn {turn}: {}", other.text());
        }
    }
}

/// Cells hold arguments, and results once there are any: never another invocation's.
#[test]
fn results_are_an_invocations_own() {
    let scratch = Scratch::new();
    let wat = r#"(module
        (func (export "many") (param i64) (result i64 i64 i64 i64)
            (local.get 0) (local.get 0) (local.get 0) (local.get 0))
        (func (export "none") (result i64 i64 i64 i64) (unreachable))
        (func (export "nothing")))"#;
    let (source, object) = (scratch.write("cells.wat", wat), scratch.path().join("cells.so"));
    let built = awsm().arg("build").arg("-o").arg(&object).arg(source).output().expect("awsm runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let module = Module::load(&object).expect("it loads");
    let program = Program::link(module, &Linker::new(), Limits::default()).expect("no imports");
    let mut pool: Pool<()> = Pool::new(PoolConfig::default());
    let mut run = |program: &Arc<Program<()>>, name: &str, args: &[Val]| {
        let entry = program.module().exported_func(name).expect("an export");
        let call = Call { initialize: None, entry, args };
        let Ok(mut sandbox) = pool.start_call(program, call, ()) else { panic!("a slot") };
        let before = sandbox.results();
        let stop = sandbox.resume();
        let after = sandbox.results();
        pool.recycle(sandbox);
        (before, stop, after)
    };
    let zero = vec![Val::I64(0); 4];
    for secret in 1..20 {
        let argument = Val::I64(secret);
        let (_, stop, after) = run(&program, "many", &[argument]);
        assert_eq!((stop, after), (Stop::Returned, vec![argument; 4]));
        let (before, stop, after) = run(&program, "none", &[]);
        assert!(matches!(stop, Stop::Trapped(_)));
        assert_eq!((before, after), (zero.clone(), zero.clone()));
        assert_eq!(run(&program, "nothing", &[]).2, []);
    }
}
