//! What a machine can check of the project's rules.

use std::fs;
use std::path::{Path, PathBuf};

/// The crates of the workspace, and which of ours each may depend on.
const ARROWS: [(&str, &[&str]); 11] = [
    ("crates/abi", &[]),
    ("crates/ledger", &[]),
    ("crates/sched", &["awsm-ledger"]),
    ("crates/observe", &["awsm-sched"]),
    ("crates/compile", &["awsm-abi", "awsm-verify"]),
    ("crates/verify", &["awsm-abi"]),
    ("crates/sandbox", &["awsm-abi", "awsm-ledger"]),
    ("crates/host", &["awsm-ledger", "awsm-sandbox"]),
    ("crates/testing", &["awsm-abi", "awsm-sandbox"]),
    (
        "crates/node",
        &[
            "awsm-abi",
            "awsm-ledger",
            "awsm-observe",
            "awsm-sandbox",
            "awsm-host",
            "awsm-sched",
            "awsm-verify",
        ],
    ),
    (".", &["awsm-node", "awsm-sandbox", "awsm-host", "awsm-sched", "awsm-verify"]),
];

/// Where unsafe code may stand.
const UNSAFE_FENCE: [&str; 5] = [
    "crates/sandbox/",
    "crates/compile/src/ir/llvm.rs",
    "crates/testing/src/store.rs",
    "benches/peer/src/startup/precompiled.rs",
    "benches/peer/src/preempt/empty.rs",
];

/// Crate roots that forbid it.
const FORBIDS_UNSAFE: [&str; 10] = [
    "crates/verify/src/lib.rs",
    "crates/abi/src/lib.rs",
    "crates/ledger/src/lib.rs",
    "crates/sched/src/lib.rs",
    "crates/observe/src/lib.rs",
    "crates/host/src/lib.rs",
    "crates/node/src/lib.rs",
    "src/main.rs",
    "fuzz/src/lib.rs",
    "fuzz/src/main.rs",
];

/// Longer files hide a second room.
const FILE_MAX_LINES: usize = 1000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project with its path from the root.
fn rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = ["crates", "src", "tests", "benches", "fuzz", "guests"]
        .map(|name| root().join(name))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name() != Some("target".as_ref()) {
                folders.push(path);
            } else if path.extension() == Some("rs".as_ref()) {
                let name = path.strip_prefix(root()).expect("under the root").display().to_string();
                files.push((name, fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
    assert!(files.len() > 30, "found only {} files", files.len());
    files
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn each_file_introduces_itself() {
    let silent = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    report(
        &silent.map(|(name, _)| format!("{name}: no `//!` in the first line")).collect::<Vec<_>>(),
    );
}

#[test]
fn files_have_one_topic() {
    let long = rust_files().into_iter().filter(|(_, text)| text.lines().count() > FILE_MAX_LINES);
    report(
        &long
            .map(|(name, _)| format!("{name}: more than {FILE_MAX_LINES} lines"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn unsafe_code_stays_behind_its_fence() {
    // Spelt so that this file does not find itself.
    let keyword = ["unsafe ", "{"].concat();
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let fenced = UNSAFE_FENCE.iter().any(|fence| name.starts_with(fence));
        if !fenced && (text.contains(&keyword) || text.contains(&["unsafe ", "fn"].concat())) {
            problems.push(format!("{name}: unsafe code outside of its fence"));
        }
        if FORBIDS_UNSAFE.contains(&name.as_str()) && !text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{name}: does not forbid unsafe code"));
        }
    }
    report(&problems);
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        [["FIX", "ME"], ["TO", "DO"], ["XX", "X"], ["todo", "!("]].map(|parts| parts.concat());
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                problems.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report(&problems);
}

/// Where lines leave the programs; each goes through `visible` there.
const SINKS: [&str; 3] =
    ["src/options.rs", "src/commands/simulate.rs", "crates/compile/src/main.rs"];

#[test]
fn what_is_printed_goes_through_the_escaping_function() {
    let printed = ["print!(", "println!("];
    let programs = ["src/", "crates/compile/src/", "crates/node/src/"];
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let is_program = programs.iter().any(|program| name.starts_with(program));
        if is_program && !SINKS.contains(&name.as_str()) {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().filter(|line| printed.iter().any(|how| line.contains(how)));
            problems.extend(lines.map(|line| format!("{name}: {}", line.trim())));
        }
    }
    report(&problems);
}

/// The lines of one table of a manifest.
fn manifest_table<'a>(text: &'a str, table: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).collect()
}

#[test]
fn dependencies_follow_the_arrows() {
    let mut problems = Vec::new();
    for (folder, allowed) in ARROWS {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for line in manifest_table(&manifest, "dependencies") {
            let name = line.split([' ', '=', '.']).next().unwrap_or_default();
            if name.starts_with("awsm-") && !allowed.contains(&name) {
                problems.push(format!("{folder}: depends on {name}"));
            }
        }
    }
    report(&problems);
}

#[test]
fn each_dependency_has_a_reason() {
    let mut problems = Vec::new();
    for folder in ARROWS.iter().map(|(folder, _)| *folder).chain(["benches/peer"]) {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for table in ["dependencies", "dev-dependencies"] {
            let mut explained = false;
            for line in manifest_table(&manifest, table) {
                let names_one = line.starts_with(|first: char| first.is_ascii_alphabetic());
                if names_one && !explained {
                    problems.push(format!("{folder}: no comment above `{line}`"));
                }
                explained = line.starts_with('#');
            }
        }
    }
    report(&problems);
}

/// Backquoted words of a document that name a file or folder of the project.
fn named_paths(document: &str) -> Vec<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        word.contains('/')
            && !word.contains([' ', '*', '{', '<', '$', ':'])
            && ["crates/", "src/", "tests/", "guests/", "tools/", "benches/", "examples/", ".ci/"]
                .iter()
                .any(|start| word.starts_with(start))
    };
    quoted.filter(is_path).map(str::to_owned).collect()
}

/// The documents at the root and the pages of decisions, from the root.
fn documents() -> Vec<String> {
    let pages = fs::read_dir(root().join("docs/decisions")).expect("docs/decisions").flatten();
    let pages = pages.map(|page| format!("docs/decisions/{}", page.file_name().display()));
    ["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "SECURITY.md", "CONTRIBUTING.md"]
        .map(str::to_owned)
        .into_iter()
        .chain(pages)
        .collect()
}

#[test]
fn decisions_are_listed() {
    let list = fs::read_to_string(root().join("docs/decisions/README.md")).expect("the list");
    let pages = documents().into_iter().filter_map(|name| {
        name.strip_prefix("docs/decisions/").filter(|page| *page != "README.md").map(str::to_owned)
    });
    let missing = pages.filter(|page| !list.contains(&format!("({page})")));
    report(
        &missing
            .map(|page| format!("docs/decisions/README.md: does not list {page}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn documents_name_what_exists() {
    let mut problems = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).expect(&document);
        let missing =
            named_paths(&text).into_iter().filter(|path| !Path::new(&root()).join(path).exists());
        problems.extend(missing.map(|path| format!("{document}: `{path}` does not exist")));
    }
    report(&problems);
}

#[test]
fn the_map_names_each_room() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let missing = ARROWS.iter().map(|(folder, _)| *folder).filter(|folder| *folder != ".");
    let missing = missing.filter(|folder| !map.contains(&format!("`{folder}`")));
    report(
        &missing
            .map(|folder| format!("ARCHITECTURE.md: does not name `{folder}`"))
            .collect::<Vec<_>>(),
    );
}
