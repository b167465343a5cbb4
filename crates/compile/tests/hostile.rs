//! Modules made to hurt: each ends in a result or in one line of complaint within the limits, and
//! never leaves anything behind.

use std::fmt::Write;
use std::ops::Add;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What may come of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A shared object.
    Result,
    /// Exit code 1 and a reason.
    Refused,
    /// Either of these, or exit code 3: a limit was reached. Which depends on the machine.
    Bounded,
}

/// Limits for all: what takes longer on this machine is stopped, and that is right, too.
const LIMITS: [&str; 6] = ["--max-wall", "20", "--max-memory", "3000", "--max-output", "64"];

fn module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {fields})")).expect("a module as text")
}

fn function(body: &str) -> Vec<u8> {
    module(&format!("(memory 1) (func (export \"f\") (param i32) (result i32) {body})"))
}

fn repeat(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        write!(text, "{} ", each(number)).expect("memory");
        text
    })
}

/// A valid module that uses every section.
fn ordinary() -> Vec<u8> {
    module(
        r#"(import "a" "b" (func (param i64))) (table 3 funcref) (memory 1) (global (mut i32) (i32.const 1))
           (elem (i32.const 0) func 1) (data (i32.const 8) "abc")
           (func (export "f") (param i32) (result i32) (local i64)
             (if (local.get 0) (then (call 0 (i64.const 3))))
             (i32.load8_u (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))"#,
    )
}

fn malformed(cases: &mut Vec<(String, Vec<u8>, End)>) {
    let whole = ordinary();
    for length in (0..whole.len()).step_by(7) {
        // Behind a section's end, what is left is a whole module.
        cases.push((format!("cut at {length}"), whole[..length].to_vec(), End::Bounded));
    }
    for at in (8..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        cases.push((format!("damaged at {at}"), bytes, End::Bounded));
    }
    let mut endless = whole[..8].to_vec();
    endless.extend([1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    cases.push(("a section of 4 GiB".to_owned(), endless, End::Refused));
    cases.push(("a component".to_owned(), b"\0asm\x0d\0\x01\0".to_vec(), End::Refused));
    cases.push(("nothing".to_owned(), Vec::new(), End::Refused));
    let mut name = module("(func (export \"aaaa\"))");
    let at = name.windows(4).position(|window| window == b"aaaa").expect("the name");
    name[at..at + 4].copy_from_slice(b"\xff\xfe\xff\xfe");
    cases.push(("an export's name that is not UTF-8".to_owned(), name, End::Refused));
    let mut name = module("(func $aaaa)");
    let at = name.windows(4).position(|window| window == b"aaaa").expect("the name");
    name[at..at + 4].copy_from_slice(b"\xff\xfe\xff\xfe");
    cases.push(("a function's name that is not UTF-8".to_owned(), name, End::Result));
}

fn deep(cases: &mut Vec<(String, Vec<u8>, End)>) {
    let mut case = |name: &str, wasm| cases.push((name.to_owned(), wasm, End::Bounded));
    let nest = |count: usize, open: &str, inner: &str| {
        format!("{} {inner} {}", open.repeat(count), "end ".repeat(count))
    };
    case("20,000 nested blocks", function(&nest(20_000, "block ", "").add("local.get 0")));
    case(
        "3,000 nested loops",
        function(&nest(3000, "loop ", "local.get 0 br_if 0 ").add("local.get 0")),
    );
    let ifs = nest(5000, "local.get 0 if ", "");
    case("5,000 nested ifs", function(&ifs.add("local.get 0")));
    let sum = format!("{} {}", "local.get 0 ".repeat(30_000), "i32.add ".repeat(29_999));
    case("30,000 operands at once", function(&sum));
    case(
        "a chain of 50,000 operations",
        function(&format!("local.get 0 {}", "i32.const 7 i32.mul i32.clz ".repeat(25_000))),
    );
    case(
        "a chain of 10,000 loads",
        function(&format!("local.get 0 {}", "i32.load ".repeat(10_000))),
    );
    case(
        "10,000 selects",
        function(&format!("local.get 0 {}", "i32.const 3 local.get 0 select ".repeat(10_000))),
    );
    case("10,000 calls of itself", function(&format!("local.get 0 {}", "call 0 ".repeat(10_000))));
}

fn wide(cases: &mut Vec<(String, Vec<u8>, End)>) {
    let mut case = |name: &str, wasm| cases.push((name.to_owned(), wasm, End::Bounded));
    let targets = "0 ".repeat(100_000);
    case(
        "a table of 100,000 branches",
        function(&format!("block local.get 0 br_table {targets} end local.get 0")),
    );
    let all = repeat(200, |depth| depth.to_string());
    let mesh = repeat(200, |_| format!("local.get 0 br_table {all} end"));
    case(
        "200 blocks, each to all others",
        function(&format!("{} {mesh} local.get 0", "block ".repeat(200))),
    );
    let joins = repeat(300, |n| {
        format!(
            "local.get 0 if {} end",
            repeat(20, |k| format!("i32.const {k} local.set {}", 1 + (n * 7 + k) % 1000))
        )
    });
    case(
        "1,000 locals at 300 joins",
        function(&format!("(local {}) {joins} local.get 5", "i32 ".repeat(1000))),
    );
    case(
        "50,000 locals",
        function(&format!("(local {}) local.get 49000 drop local.get 0", "i32 ".repeat(49_999))),
    );
    case(
        "40,000 stores",
        function(&format!(
            "{} local.get 0",
            repeat(40_000, |n| format!("local.get 0 i32.const {n} i32.store offset={n}"))
        )),
    );
    case(
        "5,000 ifs in a row",
        function(&format!(
            "{} local.get 0",
            "local.get 0 if local.get 0 i32.const 1 i32.add local.set 0 end ".repeat(5000)
        )),
    );
    case(
        "20,000 functions, all exported",
        module(&repeat(20_000, |n| format!("(func (export \"f{n}\"))"))),
    );
    case(
        "10,000 types",
        module(&repeat(10_000, |n| {
            format!(
                "(type (func (param {})))",
                if n % 2 == 0 { "i32 " } else { "f64 i64 " }.repeat(1 + n % 3)
            )
        })),
    );
    case("20,000 globals", module(&"(global (mut i64) (i64.const 1)) ".repeat(20_000)));
    case("5,000 imports", module(&repeat(5000, |n| format!("(import \"m\" \"{n}\" (func))"))));
    case(
        "100,000 element items",
        module(&format!(
            "(func) (table 100000 funcref) (elem (i32.const 0) func {})",
            "0 ".repeat(100_000)
        )),
    );
    case(
        "10,000 data segments",
        module(&format!("(memory 1) {}", "(data (i32.const 0) \"a\") ".repeat(10_000))),
    );
    case(
        "1,000 parameters and results",
        module(&format!(
            "(func (param {0}) (result {0}) {1})",
            "i64 ".repeat(1000),
            repeat(1000, |n| format!("local.get {}", 999 - n))
        )),
    );
    case("a name of 90,000 bytes", module(&format!("(func (export \"{}\"))", "n".repeat(90_000))));
    case(
        "100,000 exports",
        module(&format!(
            "(func $f) {}",
            repeat(100_000, |n| format!("(export \"{n}\" (func $f))"))
        )),
    );
    case(
        "20,000 names of 1,000 bytes",
        module(&repeat(20_000, |n| format!("(func ${}{n})", "n".repeat(1000)))),
    );
    case(
        "2,000 imports with names of 10,000 bytes",
        module(&repeat(2000, |n| format!("(import \"m\" \"{}{n}\" (func))", "n".repeat(10_000)))),
    );
    case("a memory of 4 GiB", module("(memory 65536 65536)"));
    case("a table of 10,000,000", module("(table 10000000 funcref)"));
    case("100 tables", module(&"(table 1 funcref) ".repeat(100)));
    case(
        "16 MiB of data",
        module(&format!("(memory 256) (data (i32.const 0) \"{}\")", "a".repeat(16 << 20))),
    );
}

/// Functions so large that LLVM could take for ever.
fn huge(cases: &mut Vec<(String, Vec<u8>, End)>) {
    let mixed = |count| {
        function(&format!(
            "(local i64) {} local.get 0",
            repeat(count, |n| format!(
                "local.get 0 i32.const {n} i32.rotl local.set 0
                 (if (local.get 0) (then (local.set 1 (i64.load offset={n} (local.get 0)))))
                 (i64.store offset={n} (local.get 0) (i64.add (local.get 1) (i64.const {n})))"
            ))
        ))
    };
    cases.push(("a function of 200 KiB".to_owned(), mixed(6000), End::Bounded));
    cases.push(("a function of 900 KiB".to_owned(), mixed(26_000), End::Bounded));
}

/// What is wrong with how the compiler dealt with a module, if anything.
fn problem(name: &str, wasm: &[u8], expected: End, level: &str) -> Option<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("a.wasm"), wasm).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_awsmc"))
        .args(LIMITS)
        .args([level, "-o", "a.so", "a.wasm"])
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .output()
        .expect("the compiler runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let left = names(directory.path());
    let code = output.status.code();
    let fits = match expected {
        End::Result => code == Some(0),
        End::Refused => code == Some(1),
        End::Bounded => matches!(code, Some(0 | 1 | 3)),
    };
    let right = match code {
        Some(0) => said.is_empty() && left == ["a.so", "a.wasm"],
        _ => said.lines().count() == 1 && said.starts_with("awsmc: ") && left == ["a.wasm"],
    };
    (!fits || !right).then(|| format!("{name} {level}: {}, {said:?}, left {left:?}", output.status))
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

fn check(cases: &[(String, Vec<u8>, End)], level: &str) {
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, wasm, end)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = problem(name, wasm, *end, level);
            problems.lock().expect("no panic").extend(found);
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let problems = problems.into_inner().expect("no panic");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn malformed_modules() {
    let mut cases = Vec::new();
    malformed(&mut cases);
    check(&cases, "-O0");
}

#[test]
fn deep_modules() {
    let mut cases = Vec::new();
    deep(&mut cases);
    check(&cases, "-O3");
}

#[test]
fn huge_functions() {
    let mut cases = Vec::new();
    huge(&mut cases);
    for (name, wasm, end) in &cases {
        let problem = problem(name, wasm, *end, "-O2");
        assert!(problem.is_none(), "{problem:?}");
    }
}

#[test]
fn wide_modules() {
    let mut cases = Vec::new();
    wide(&mut cases);
    check(&cases, "-O3");
}

/// Each limit ends a compilation with exit code 3 and one line that names the flag.
#[test]
fn limits_have_an_exit_code_and_a_flag() {
    let heavy = function(&format!(
        "local.get 0 {}",
        repeat(600_000, |n| format!("i32.const {n} i32.mul i32.popcnt"))
    ));
    let data = module(&format!("(memory 64) (data (i32.const 0) \"{}\")", "a".repeat(3 << 20)));
    for (limit, value, wasm) in [
        ("--max-wall", "1", &heavy),
        ("--max-cpu", "1", &heavy),
        ("--max-output", "1", &data),
        ("--max-memory", "256", &heavy),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("a.wasm"), wasm).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_awsmc"))
            .args([limit, value, "a.wasm", "-o", "a.so"])
            .args(if limit == "--max-memory" { &["--max-wall", "20"][..] } else { &[] })
            .current_dir(directory.path())
            .env("TMPDIR", directory.path())
            .output()
            .expect("the compiler runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{limit}: {said}");
        // Short of memory, LLVM may go round in circles until its time is up.
        let named = said.contains(limit) || limit == "--max-memory" && said.contains("--max-wall");
        assert!(said.lines().count() == 1 && named, "{limit}: {said}");
        assert_eq!(names(directory.path()), ["a.wasm"], "{limit}");
    }
}
