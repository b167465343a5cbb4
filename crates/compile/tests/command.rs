//! The command line: exit codes, and no output where there was an error.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn awsmc(args: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_awsmc"))
        .args(args)
        .current_dir(directory)
        .output()
        .expect("the compiler runs")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("text")
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_module_in_either_format() {
    let directory = directory();
    let text = r#"(module (func (export "f")))"#;
    std::fs::write(directory.path().join("a.wat"), text).expect("a file");
    let binary = wat::parse_str(text).expect("a module");
    std::fs::write(directory.path().join("b.wasm"), binary).expect("a file");
    for input in ["a.wat", "b.wasm"] {
        let output =
            awsmc(&[input, "-o", "out.so", "-O1", "--memory", "checked"], directory.path());
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(names(directory.path()), ["a.wat", "b.wasm", "out.so"]);
}

#[test]
fn an_error_is_one_line_and_leaves_nothing() {
    let directory = directory();
    let text = "(module (memory 1 1 shared))";
    std::fs::write(directory.path().join("shared.wat"), text).expect("a file");
    let output = awsmc(&["shared.wat", "-o", "out.so"], directory.path());
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).expect("text");
    assert_eq!(message, "awsmc: shared.wat: shared memories are not supported (at offset 0xb)\n");
    assert_eq!(names(directory.path()), ["shared.wat"]);
}

#[test]
fn a_mistake_in_the_text_format_is_shown() {
    let directory = directory();
    std::fs::write(directory.path().join("bad.wat"), "(module (fun))").expect("a file");
    let output = awsmc(&["bad.wat", "-o", "out.so"], directory.path());
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).expect("text");
    assert!(message.starts_with("awsmc: bad.wat:1:10: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn the_object_lies_beside_its_module_unless_said_otherwise() {
    let directory = directory();
    std::fs::write(directory.path().join("a.wat"), "(module)").expect("a file");
    let output = awsmc(&["-O0", "a.wat"], directory.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(directory.path()), ["a.so", "a.wat"]);
    for out in ["-", "a.wat"] {
        let output = awsmc(&["a.wat", "-o", out], directory.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
    assert_eq!(names(directory.path()), ["a.so", "a.wat"]);
}

#[test]
fn what_is_no_module_is_named() {
    let directory = directory();
    for (content, what) in [
        (&b"\0asm\x0d\0\x01\0"[..], "unknown binary version: a component"),
        (b"hello, world", "magic header not detected: no WebAssembly module"),
    ] {
        std::fs::write(directory.path().join("a.wasm"), content).expect("a file");
        let output = awsmc(&["a.wasm"], directory.path());
        let message = String::from_utf8(output.stderr).expect("text");
        assert!(message.starts_with(&format!("awsmc: a.wasm: {what}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// Objects travel: without a word about the processor, nearly every machine can run them.
#[test]
fn the_processor_is_a_baseline_unless_said_otherwise() {
    let directory = directory();
    let fingerprint = |args: &[&str]| awsmc(args, directory.path()).stdout;
    let unsaid = fingerprint(&["--fingerprint"]);
    let baseline = if cfg!(target_arch = "x86_64") { "x86-64-v2" } else { "generic" };
    assert_eq!(unsaid, fingerprint(&["--fingerprint", "--cpu", baseline]));
}

#[test]
fn a_missing_file_is_named() {
    let directory = directory();
    let output = awsmc(&["absent.wasm", "-o", "out.so"], directory.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent.wasm"), "{output:?}");
}

#[test]
fn wrong_usage_is_told_apart() {
    let directory = directory();
    for args in [&["a.wasm", "-o", "b", "-O9"][..], &["--frobnicate"], &[]] {
        assert_eq!(awsmc(args, directory.path()).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn versions_and_fingerprints() {
    let directory = directory();
    let output = awsmc(&["--version"], directory.path());
    let version = String::from_utf8(output.stdout).expect("text");
    assert!(version.starts_with("awsmc ") && version.contains("LLVM 19."), "{version}");
    let options = ["--fingerprint", "--memory", "checked", "-O2"];
    let output = awsmc(&options, directory.path());
    let fingerprint = String::from_utf8(output.stdout).expect("text");
    let wanted = awsm_compile::fingerprint(&awsm_compile::Options {
        isolation: awsm_compile::Isolation::Checked,
        opt_level: awsm_compile::OptLevel::O2,
        cpu: Some(awsm_compile::Target::HOST.baseline().to_owned()),
        ..awsm_compile::Options::default()
    });
    assert_eq!(fingerprint.trim_end(), wanted.expect("a fingerprint"));
}

#[test]
fn another_compiler_than_expected_makes_nothing() {
    let directory = directory();
    fs::write(directory.path().join("a.wat"), "(module)").expect("a file");
    let own = awsmc(&["--fingerprint"], directory.path()).stdout;
    let own = String::from_utf8(own).expect("text");
    let make =
        |expected: &str| awsmc(&["--expect", expected, "a.wat", "-o", "a.so"], directory.path());
    let output = make("awsmc 0.0.1");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("replaced"), "{output:?}");
    assert_eq!(names(directory.path()), ["a.wat"]);
    assert!(make(own.trim_end()).status.success());
}

/// How long anything that should happen soon may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Is there a process that has inherited this environment?
fn lives(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let mut environments =
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|bytes| bytes.windows(marker.len()).any(|part| part == marker.as_bytes()))
}

/// The compiler, brought so far that it waits for a linker that does not end before the directory
/// does.
fn linking_for_ever(directory: &Path, marker: &str) -> Child {
    let (bin, work) = (directory.join("bin"), directory.join("work"));
    fs::create_dir(&bin).expect("a directory");
    fs::create_dir(&work).expect("a directory");
    let linker = bin.join("ld.lld-19");
    let script = "#!/bin/sh\n: > \"$LINKING\"\nwhile [ -e \"$LINKING\" ]; do sleep 0.01; done\n";
    fs::write(&linker, script).expect("a file");
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).expect("its own");
    fs::write(directory.join("a.wat"), "(module (func (export \"f\")))").expect("a file");
    let path = std::env::var("PATH").expect("a path");
    let linking = directory.join("linking");
    let child = Command::new(env!("CARGO_BIN_EXE_awsmc"))
        .args(["--with-stdin", "-o", "work/out.so", "a.wat"])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("TMPDIR", &work)
        .env("LINKING", &linking)
        .env("MARKER", marker)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the compiler runs");
    eventually("it links", || linking.exists());
    child
}

#[test]
fn it_ends_with_the_one_for_whom_it_works_and_leaves_nothing() {
    let directory = directory();
    let marker = format!("it-ends-with-{}", std::process::id());
    let mut child = linking_for_ever(directory.path(), &marker);
    assert!(lives(&marker) && child.try_wait().expect("a child").is_none());
    drop(child.stdin.take());
    eventually("it ends", || child.try_wait().expect("a child").is_some());
    eventually("the worker and the linker are gone", || !lives(&marker));
    assert_eq!(names(&directory.path().join("work")), [""; 0]);
}

#[test]
fn worker_and_linker_end_with_a_compiler_that_is_killed() {
    let directory = directory();
    let marker = format!("they-end-with-{}", std::process::id());
    let mut child = linking_for_ever(directory.path(), &marker);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    eventually("the worker and the linker are gone", || !lives(&marker));
}
