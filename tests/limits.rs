//! Memory: one sandbox has its limit, all together have the node's.

mod common;

use std::io::Write;
use std::time::Duration;

use common::{Client, Node, Scratch, awsm, text_function};

/// A function that has so many mebibytes and sleeps for a quarter of an hour, unless its caller
/// leaves.
fn holder(scratch: &Scratch, name: &str, mebibytes: u32) -> String {
    let pages = mebibytes * 16;
    let wat = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") {pages})
        (data (i32.const 16) "\01\00\00\00")
        (data (i32.const 24) "\00\00\00\00\d0\00\00\00")
        (func (export "_start")
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#
    );
    text_function(scratch, name, &wat, "timeout = \"600s\"")
}

/// A function that grows by 16 MiB at a time as far as it may, and exits with how often that went
/// well.
fn grower(scratch: &Scratch, name: &str, more: &str) -> String {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 16)
        (func (export "_start") (local $n i32)
            (block $full (loop $next
                (br_if $full (i32.eq (memory.grow (i32.const 256)) (i32.const -1)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br $next)))
            (call $exit (i32.add (i32.const 100) (local.get $n)))))"#;
    text_function(scratch, name, wat, more)
}

/// How often it could grow: 0 too if there was no memory for it to begin with.
fn grown(client: &mut Client) -> u32 {
    let answer = client.request("GET", "/grower", &[], b"");
    if answer.status == 503 {
        return 0;
    }
    let text = answer.text();
    let code = text.split("exited with code ").nth(1).map(|rest| rest.chars().take(3).collect());
    let code: String = code.unwrap_or_else(|| panic!("{answer:?}"));
    code.parse::<u32>().expect("a number") - 100
}

/// Has it been told that there is no memory?
fn is_refused(sleeper: &mut Client) -> bool {
    sleeper.set_patience(Duration::from_millis(10));
    let Some(answer) = sleeper.try_receive() else { return false };
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    let says = "all sandboxes together may have 134217728 bytes, and 16777216 more are not left";
    assert!(answer.text().contains(says), "{answer:?}");
    true
}

#[test]
fn all_sandboxes_share_the_nodes_memory() {
    let scratch = Scratch::new();
    for workers in [1, 2] {
        // Ready: a slot of 1 MiB and one of 16 for each worker, and more of them as far as it goes.
        let node = Node::start_workers(
            workers,
            "memory = \"128MiB\"\nadmission = \"none\"",
            &[
                holder(&scratch, "holder", 16),
                grower(&scratch, "grower", "memory = \"1GiB\""),
                common::function("echo", "/echo", ""),
            ],
        );
        let mut client = node.connect();
        // Seven times 16 and the mebibyte that it begins with, if all else gives way.
        common::eventually("what is idle gives way", || grown(&mut node.connect()) == 7);
        // Three sleepers have 48 MiB until they leave.
        let mut sleepers: Vec<_> = (0..3).map(|_| node.connect()).collect();
        for sleeper in &mut sleepers {
            sleeper.send_request("GET", "/holder", &[], b"");
        }
        common::eventually("they have it", || {
            for sleeper in &mut sleepers {
                // What had it before may not have given it back yet.
                if is_refused(sleeper) {
                    *sleeper = node.connect();
                    sleeper.send_request("GET", "/holder", &[], b"");
                }
            }
            grown(&mut node.connect()) == 4
        });
        // There is room for five of seven.
        let mut more: Vec<_> = (0..7).map(|_| node.connect()).collect();
        for sleeper in &mut more {
            sleeper.send_request("GET", "/holder", &[], b"");
        }
        let mut refused = 0;
        common::eventually("two are refused", || {
            refused += more.iter_mut().map(is_refused).filter(|refused| *refused).count();
            refused >= 2
        });
        drop((sleepers, more));
        common::eventually("it is given back", || grown(&mut node.connect()) == 7);
        assert_eq!(client.request("POST", "/echo", &[], b"still here").text(), "still here");
    }
}

#[test]
fn a_node_without_memory_for_its_functions_says_so() {
    let scratch = Scratch::new();
    let text = format!("[node]\nworkers = 1\nmemory = \"8MiB\"\n{}", holder(&scratch, "big", 16));
    let mut config = std::fs::File::create(scratch.path().join("awsm.toml")).expect("writable");
    config.write_all(text.as_bytes()).expect("writable");
    let output = awsm()
        .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(scratch.path())
        .arg(scratch.path().join("awsm.toml"))
        .output()
        .expect("awsm runs");
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{says}");
    let wants = "function `big`: all sandboxes together may have 8388608 bytes, and 16777216 more are \
                 not left: each worker keeps a sandbox of each function ready; raise `memory` in [node], or have fewer `workers` \
                 (1 functions on 1 workers are 1 sandboxes, which ask for 16777216 bytes if all are like \
                 this one)";
    assert!(says.contains(wants), "{says}");
}
