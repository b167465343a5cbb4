//! `awsm run` beyond what every guest shows: calling a function, terminals, being interrupted.

mod common;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use common::{FOREVER, Scratch, awsm, begins_and, wait};
use rustix::process::{Pid, Signal, kill_process};

const ARITHMETIC: &str = r#"(module
    (global $ready (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $ready (i32.const 1)))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
    (func (export "swap") (param i64 f32) (result f32 i64) (local.get 1) (local.get 0))
    (func (export "ready") (result i32) (global.get $ready))
    (func (export "nothing"))
    (func (export "fault") (result i32) unreachable))"#;

fn invoke(scratch: &Scratch, name: &str, args: &[&str]) -> Output {
    let module = scratch.write("arithmetic.wat", ARITHMETIC);
    let mut command = awsm();
    command.args(["run", "--invoke", name]).arg(module).args(args);
    command.stdin(Stdio::null()).output().expect("awsm runs")
}

#[test]
fn exported_functions_are_called() {
    let scratch = Scratch::new();
    let cases: [(&str, &[&str], &str); 8] = [
        ("add", &["40", "2"], "42\n"),
        ("add", &["4294967295", "-1"], "-2\n"),
        ("half", &["3"], "1.5\n"),
        ("half", &["-inf"], "-inf\n"),
        ("swap", &["-9223372036854775808", "0.25"], "0.25\n-9223372036854775808\n"),
        ("swap", &["18446744073709551615", "1e3"], "1000\n-1\n"),
        ("ready", &[], "1\n"),
        ("nothing", &[], ""),
    ];
    for (name, args, expected) in cases {
        let output = invoke(&scratch, name, args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{name} {args:?} {output:?}");
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(invoke(&scratch, "fault", &[]).status.code(), Some(134));
}

const CALLED: &str = r#"(module
    (memory 1)
    (func $parse (param i32) (result i32) (i32.load (local.get 0)))
    (func $handle (param i32) (result i32)
        (i32.add (call $parse (local.get 0)) (i32.const 1)))
    (func $elsewhere (export "elsewhere") (result i32) (call $handle (i32.const 8)))
    (func $main (export "main") (result i32) (call $handle (i32.const -16))))"#;

/// Whatever LLVM has made of them, all functions that were running are named.
#[test]
fn traces_name_inlined_functions() {
    let scratch = Scratch::new();
    let module = scratch.write("called.wat", CALLED);
    for level in ["0", "1", "2", "3"] {
        let mut command = awsm();
        command.args(["run", "-O", level, "--invoke", "main"]).arg(&module);
        let output = command.stdin(Stdio::null()).output().expect("awsm runs");
        assert_eq!(output.status.code(), Some(134), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let trace: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("    at ")).collect();
        for name in ["parse", "handle", "main"] {
            assert!(trace.iter().any(|line| line.contains(name)), "-O {level}: {name}: {said}");
        }
        assert!(!trace.iter().any(|line| line.contains("elsewhere")), "-O {level}: {said}");
    }
}

#[test]
fn calls_that_cannot_be_made_say_why() {
    let scratch = Scratch::new();
    let cases: [(&str, &[&str], &str); 5] = [
        ("none", &[], "no function `none` is exported"),
        ("add", &["1"], "and is given 1 argument"),
        ("add", &["1", "4294967296"], "`4294967296` is no i32"),
        ("add", &["1", "x"], "`x` is no i32"),
        ("half", &["one"], "`one` is no f64"),
    ];
    for (name, args, expected) in cases {
        let output = invoke(&scratch, name, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
}

/// Exits with the type of its standard input.
const TYPE_OF_INPUT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $stat (i32.const 0) (i32.const 0)))
        (call $exit (i32.load8_u (i32.const 0)))))"#;

#[test]
fn a_terminal_is_a_terminal_and_a_pipe_a_pipe() {
    let scratch = Scratch::new();
    let module = scratch.write("input.wat", TYPE_OF_INPUT);
    let piped = awsm().arg("run").arg(&module).stdin(Stdio::piped()).output().expect("awsm runs");
    assert_eq!(piped.status.code(), Some(0));
    // script(1) gives its command a terminal.
    let run = awsm();
    let line = format!("{} run {}", run.get_program().display(), module.display());
    let mut script = Command::new("script");
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let terminal = script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).status();
    assert_eq!(terminal.expect("script runs").code(), Some(2));
}

#[test]
fn an_interrupt_ends_it() {
    // Neither comes to its end by itself. What one waits for never comes.
    let reads = "(drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 32)))";
    for (name, forever) in [("waits", reads), ("loops", FOREVER)] {
        let scratch = Scratch::new();
        let module = scratch.write(&format!("{name}.wat"), begins_and(forever));
        let mut child = awsm()
            .arg("run")
            .arg(module)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("awsm runs");
        let stdin = child.stdin.take();
        let mut said = [0; 6];
        child.stderr.as_mut().expect("piped").read_exact(&mut said).expect("it says something");
        assert_eq!(&said, b"begun\n", "{name}");
        kill_process(Pid::from_child(&child), Signal::INT).expect("it is there");
        let status = wait(&mut child);
        assert_eq!(status.signal(), Some(2), "{name}: {status:?}");
        drop(stdin);
    }
}
