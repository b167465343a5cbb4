//! The command line: exit codes, and no output where there was an error.

use std::path::Path;
use std::process::{Command, Output};

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
    assert_eq!(
        message,
        "awsmc: shared.wat: threads must be enabled for shared memories (at offset 0xb)\n"
    );
    assert_eq!(names(directory.path()), ["shared.wat"]);
}

#[test]
fn a_mistake_in_the_text_format_is_shown() {
    let directory = directory();
    std::fs::write(directory.path().join("bad.wat"), "(module (fun))").expect("a file");
    let output = awsmc(&["bad.wat", "-o", "out.so"], directory.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad.wat:1:10"), "{output:?}");
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
    for args in [&["a.wasm"][..], &["a.wasm", "-o", "b", "-O9"], &["--frobnicate"], &[]] {
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
        ..awsm_compile::Options::default()
    });
    assert_eq!(fingerprint.trim_end(), wanted.expect("a fingerprint"));
}
