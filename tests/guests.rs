//! Every example function gives the known answers as wasm, in both isolation modes: the table
//! `guests/data/cases.tsv`, through the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One line of the table.
struct Case {
    guest: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<PathBuf>,
    stdout: Vec<u8>,
    exit: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cases() -> Vec<Case> {
    let data = root().join("guests/data");
    let table = std::fs::read_to_string(data.join("cases.tsv")).expect("the table of cases");
    let words = |cell: &str| match cell {
        "-" => Vec::new(),
        cell => cell.split(' ').map(str::to_owned).collect::<Vec<_>>(),
    };
    let lines = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let case = |line: &str| {
        let cells = line.split('\t').collect::<Vec<_>>();
        let [guest, args, env, stdin, stdout, exit, _where] = cells[..] else {
            panic!("seven columns: {line}")
        };
        let pair = |variable: String| {
            let (name, value) = variable.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        };
        Case {
            guest: guest.to_owned(),
            args: words(args),
            env: words(env).into_iter().map(pair).collect(),
            stdin: (stdin != "-").then(|| data.join(stdin)),
            stdout: if stdout == "-" {
                Vec::new()
            } else {
                std::fs::read(data.join(stdout)).expect(stdout)
            },
            exit: exit.to_owned(),
        }
    };
    lines.map(case).collect()
}

/// The guest's shared object, compiled for this test.
fn build(guest: &str, isolation: &str, directory: &Path) -> PathBuf {
    let wasm = root().join("target/guests").join(guest).with_extension("wasm");
    assert!(
        wasm.exists(),
        "{} is missing: run `make test`, or `make guests` first",
        wasm.display()
    );
    let object = directory.join(guest).with_extension("so");
    let built = Command::new(env!("CARGO_BIN_EXE_awsm"))
        .args(["build", "--memory", isolation, "-o"])
        .arg(&object)
        .arg(&wasm)
        .output()
        .expect("awsm runs");
    assert!(built.status.success(), "{guest}: {}", String::from_utf8_lossy(&built.stderr));
    object
}

/// What is wrong with a case's outcome.
fn complaint(case: &Case, object: &Path) -> Option<String> {
    let stdin = case
        .stdin
        .as_ref()
        .map_or_else(Stdio::null, |path| std::fs::File::open(path).expect("a sample").into());
    let output = Command::new(env!("CARGO_BIN_EXE_awsm"))
        .arg("run")
        .args(case.env.iter().map(|(name, value)| format!("--env={name}={value}")))
        .arg(object)
        .args(&case.args)
        .stdin(stdin)
        .output()
        .expect("awsm runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let (wanted, trap) = match case.exit.strip_prefix("trap:") {
        Some(trap) => (134, trap),
        None => (case.exit.parse().expect("an exit code"), ""),
    };
    let told = wanted != 1 || !errors.is_empty();
    let good = output.status.code() == Some(wanted)
        && output.stdout == case.stdout
        && errors.contains(trap)
        && told;
    (!good).then(|| {
        format!(
            "{} {}: {:?} wanted, got {:?}; {} bytes of output wanted, got {}; stderr: {errors}",
            case.guest,
            case.args.join(" "),
            case.exit,
            output.status.code(),
            case.stdout.len(),
            output.stdout.len()
        )
    })
}

fn check_all(isolation: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cases = cases();
    let guests = cases.iter().map(|case| case.guest.as_str()).collect::<BTreeSet<_>>();
    assert!(cases.len() > 60 && guests.len() > 15, "the whole table");
    for guest in guests {
        build(guest, isolation, directory.path());
    }
    let object = |case: &Case| directory.path().join(&case.guest).with_extension("so");
    let complaints = cases.iter().filter_map(|case| complaint(case, &object(case)));
    let complaints = complaints.collect::<Vec<_>>();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn known_answers_isolated_by_guard() {
    check_all("guard");
}

#[test]
fn known_answers_isolated_by_checks() {
    check_all("checked");
}
