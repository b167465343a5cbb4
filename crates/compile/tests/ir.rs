//! The IR of small modules: `ir/NAME.wat` with the expected IR of its functions below, as comments.
//!
//! A file's first lines may say `;; options: -O0 --memory checked`; what is not said is `-O2`,
//! `guard`, x86-64-v2. `AWSM_BLESS=1 cargo test -p awsm-compile --test ir` writes what comes out
//! into the files: look at the difference. What is shown is the functions' code alone, without
//! attributes and metadata, whose numbers change with everything.

use std::fmt::Write;
use std::path::Path;

use awsm_compile::{Emit, Isolation, OptLevel, Options, emit};

/// Begins each line of expected IR.
const EXPECTED: &str = ";; | ";

fn options(text: &str) -> Options {
    let mut options = Options {
        target: "x86_64-unknown-linux-gnu".parse().expect("a target"),
        cpu: Some("x86-64-v2".to_owned()),
        opt_level: OptLevel::O2,
        ..Options::default()
    };
    let line = text.lines().find_map(|line| line.strip_prefix(";; options: ")).unwrap_or("");
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "-O0" => options.opt_level = OptLevel::O0,
            "-O3" => options.opt_level = OptLevel::O3,
            "--cpu" => options.cpu = words.next().map(str::to_owned),
            "--memory" => {
                options.isolation = match words.next() {
                    Some("guard") => Isolation::Guard,
                    Some("checked") => Isolation::Checked,
                    other => panic!("unknown isolation {other:?}"),
                }
            }
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// The definitions of the module's functions, without what differs from build to build.
fn functions(ir: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in ir.lines() {
        inside |= line.starts_with("define ") && line.contains("@\"wasm[");
        if !inside {
            continue;
        }
        if !text.is_empty() && line.starts_with("define ") {
            text.push('\n');
        }
        writeln!(text, "{}", plain(line)).expect("memory");
        inside = line != "}";
    }
    text
}

/// A line without references to attributes and metadata, and without comments.
fn plain(line: &str) -> String {
    let line = line.split(", !").next().unwrap_or(line);
    let line = line.split(" ; preds").next().unwrap_or(line).trim_end();
    let words = line.split(' ').filter(|word| {
        let number = word.strip_prefix('#');
        !number.is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn expected(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.strip_prefix(EXPECTED.trim_end()));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

fn blessed(text: &str, ir: &str) -> String {
    let source = text.lines().filter(|line| !line.starts_with(EXPECTED.trim_end()));
    let source: String = source.map(|line| format!("{line}\n")).collect();
    let mut text = format!("{}\n\n", source.trim_end());
    for line in ir.lines() {
        writeln!(text, "{}", format!("{EXPECTED}{line}").trim_end()).expect("memory");
    }
    text
}

#[test]
fn every_file() {
    let bless = std::env::var_os("AWSM_BLESS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ir");
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut differing = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a file");
        let wasm =
            wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let ir = emit(&wasm, &options(&text), Emit::Ir);
        let ir = ir.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found = functions(&String::from_utf8(ir).expect("text"));
        if bless {
            std::fs::write(&path, blessed(&text, &found)).expect("a file to write");
        } else if found != expected(&text) {
            let name = path.display();
            write!(differing, "{name} gives\n{found}and not\n{}\n", expected(&text))
                .expect("memory");
        }
    }
    assert!(differing.is_empty(), "{differing}AWSM_BLESS=1 makes it the expectation");
}
