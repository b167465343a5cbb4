//! Arrows between the rooms of each crate: who uses whom, as the paths in the sources say.
//!
//! A room is a module directly below a crate's root, a file or a folder. The table gives each
//! crate's rooms from the top down: a room uses what comes after it. Rooms that are named on one
//! line stand beside each other, and may not use each other. Files may not import each other in
//! larger circles.
//!
//! Arrows are paths. A method that one file gives to a type of another is called without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of each crate, from the top down.
const ROOMS: &[(&str, &[&str])] = &[
    (".", &["commands", "options"]),
    (
        "crates/node",
        &[
            "node",
            "http",
            "worker",
            "functions",
            "cache log",
            "ledger",
            "config",
            "disk trust",
            "fault",
            "limits",
        ],
    ),
    ("crates/ledger", &["shared", "stock"]),
    ("crates/observe", &["accounts reporter", "event index"]),
    ("crates/testing", &["store"]),
    ("crates/abi", &["tail", "desc", "context", "builtin", "cpu exception trap visible"]),
    (
        "crates/verify",
        &[
            "verify constant leave vector",
            "call check",
            "align evaluate jump memory reference structure",
            "function",
            "summary",
            "flow module",
            "convention",
            "contract",
            "state descriptor",
            "value object decode",
            "report op",
        ],
    ),
    (
        "fuzz",
        &[
            "mutants",
            "oracle ring subject",
            "assembly generate linker verified",
            "children random trace",
        ],
    ),
    (
        "benches/peer",
        &[
            "balance budgets hostile overload preempt",
            "code neighbours reset spinners verify wasi",
            "compile http startup",
            "report",
            "guests machine open_loop scratch stats",
        ],
    ),
    (
        "crates/host",
        &[
            "faces",
            "files readiness sockets",
            "ctx",
            "connect",
            "table",
            "streams waiting clocks",
            "grants",
            "devices",
            "errno rights strings",
        ],
    ),
    (
        "crates/sched",
        &[
            "simulate plan",
            "scheduler",
            "tenant",
            "demand invocation places",
            "contract",
            "policy profile",
            "histogram",
            "time",
        ],
    ),
    (
        "crates/sandbox",
        &[
            "x86_64_tests",
            "pool",
            "compare sandbox",
            "group link",
            "call",
            "guest_memory instance",
            "switch",
            "module",
            "slot",
            "clock",
            "cpu",
            "error",
            "stop value limits own descriptor",
        ],
    ),
    (
        "crates/compile",
        &[
            "supervise proof",
            "emit",
            "faithful loops translate",
            "job timings",
            "wasm ir",
            "options",
            "target",
            "limits error",
        ],
    ),
];

/// Most files that may import each other in a circle.
const CIRCLE_MAX: usize = 4;

/// A module: the parts of its path below the crate's root.
type Module = Vec<String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The modules of a crate that have a file, with their text.
fn modules(source: &Path) -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![source.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let parts = path.strip_prefix(source).expect("below it").with_extension("");
                let mut module: Module =
                    parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                let last = module.last().map(String::as_str);
                if matches!(last, Some("mod" | "lib" | "main")) {
                    module.pop();
                }
                found.insert(module, fs::read_to_string(&path).expect("a readable file"));
            }
        }
    }
    found
}

/// Without comments, texts in quotes, and modules that only tests have.
fn code(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let mut quoted = false;
        let mut rest = line.chars().peekable();
        while let Some(letter) = rest.next() {
            match letter {
                '\\' if quoted => drop(rest.next()),
                '"' => quoted = !quoted,
                '/' if !quoted && rest.peek() == Some(&'/') => break,
                letter if !quoted => code.push(letter),
                _ => {}
            }
        }
        code.push('\n');
    }
    code
}

/// The paths that stand after `start`, with each branch of a `{...}` written out.
fn paths_after(code: &str, start: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            expand(&code[at + start.len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path, or one group of them; says how much of the text it has read.
fn expand(text: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let space = rest.len() - rest.trim_start().len();
        let rest = &rest[space..];
        if rest.starts_with('{') {
            at += space + 1;
            loop {
                at += expand(&text[at..], prefix, found);
                let rest = text[at..].trim_start();
                at = text.len() - rest.len();
                match rest.chars().next() {
                    Some(',') => at += 1,
                    Some('}') => {
                        at += 1;
                        break;
                    }
                    _ => break,
                }
            }
            prefix.truncate(depth);
            return at;
        }
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if len == 0 {
            break;
        }
        prefix.push(rest[..len].to_owned());
        at += space + len;
        match text[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => break,
        }
    }
    if prefix.len() > depth {
        found.push(prefix.clone());
    }
    prefix.truncate(depth);
    // What an import is called here says nothing of where it is from.
    let rest = &text[at..];
    let ends = rest.find([',', '}', ';']).unwrap_or(rest.len());
    if rest[..ends].trim_start().starts_with("as ") { at + ends } else { at }
}

/// The modules that each module's paths lead to.
fn arrows(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut arrows = BTreeMap::new();
    for (module, text) in modules {
        let code = code(text);
        let mut paths = paths_after(&code, "crate::");
        let mut from = module.clone();
        for start in ["self::", "super::", "super::super::", "super::super::super::"] {
            if start != "self::" && from.pop().is_none() {
                break;
            }
            // `super::` in `super::super::` is not a start of its own.
            let found = paths_after(&code, start);
            let whole = found.into_iter().filter(|path| path[0] != "super");
            paths.extend(whole.map(|path| from.iter().cloned().chain(path).collect()));
        }
        // A child that the module names without saying where it is.
        let children = modules
            .keys()
            .filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
        for child in children {
            let name = child.last().expect("a child has a name");
            let named = paths_after(&code, &format!("{name}::"));
            paths.extend(named.into_iter().map(|path| child.iter().cloned().chain(path).collect()));
        }
        let target = |path: &Vec<String>| {
            let longest = (0..=path.len()).rev().find(|len| modules.contains_key(&path[..*len]));
            longest.map(|len| path[..len].to_vec())
        };
        let to = paths.iter().filter_map(target).filter(|to| to != module).collect();
        arrows.insert(module.clone(), to);
    }
    arrows
}

/// Everything that can be reached from there.
fn reach(arrows: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        next.extend(arrows[module].iter().filter(|to| seen.insert((*to).clone())));
    }
    seen
}

/// Files that import each other, if they are too many.
fn large_circles(krate: &str, arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reached: BTreeMap<_, _> =
        arrows.keys().map(|module| (module, reach(arrows, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reaches) in &reached {
        let circle: BTreeSet<_> =
            reaches.iter().filter(|other| reached[*other].contains(*module)).cloned().collect();
        if circle.len() > CIRCLE_MAX {
            circles.insert(circle);
        }
    }
    let name = |circle: &BTreeSet<Module>| {
        let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
        format!("{krate}: {} files import each other: {}", circle.len(), names.join(", "))
    };
    circles.iter().map(name).collect()
}

#[test]
fn rooms_use_what_is_below_them() {
    let (mut problems, mut count) = (Vec::new(), 0);
    for (krate, rooms) in ROOMS {
        let modules = modules(&root().join(krate).join("src"));
        let arrows = arrows(&modules);
        let level: BTreeMap<&str, usize> = rooms
            .iter()
            .enumerate()
            .flat_map(|(level, names)| names.split(' ').map(move |name| (name, level)))
            .collect();
        let present: BTreeSet<&str> =
            modules.keys().filter_map(|module| Some(module.first()?.as_str())).collect();
        problems.extend(
            present
                .iter()
                .filter(|room| !level.contains_key(*room))
                .map(|room| format!("{krate}: `{room}` has no place in the table")),
        );
        problems.extend(
            level
                .keys()
                .filter(|room| !present.contains(*room))
                .map(|room| format!("{krate}: `{room}` in the table does not exist")),
        );
        for (from, tos) in &arrows {
            for to in tos {
                let (Some(above), Some(below)) = (from.first(), to.first()) else { continue };
                let places = level.get(above.as_str()).zip(level.get(below.as_str()));
                count += 1;
                if above != below && places.is_some_and(|(above, below)| above >= below) {
                    let (from, to) = (from.join("::"), to.join("::"));
                    problems.push(format!("{krate}: `{from}` uses `{to}`, which is not below it"));
                }
            }
        }
        problems.extend(large_circles(krate, &arrows));
    }
    assert!(count > 200, "only {count} arrows found");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Rooms that the map does not name: what tests have, and folders of what tests or benchmarks are.
const UNNAMED: [&str; 3] = ["x86_64_tests", "fuzz", "benches/peer"];

#[test]
fn the_map_names_each_room() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut problems = Vec::new();
    for (krate, rooms) in ROOMS.iter().filter(|(krate, _)| !UNNAMED.contains(krate)) {
        let start = if *krate == "." { "- `src/`:".to_owned() } else { format!("- `{krate}`:") };
        let item = map.split_once(&start).map_or("", |(_, rest)| rest);
        let item = item.split("\n- ").next().unwrap_or_default();
        let named: BTreeSet<&str> =
            item.split('`').skip(1).step_by(2).flat_map(|words| words.split('/')).collect();
        let rooms = rooms.iter().flat_map(|names| names.split(' '));
        let missing = rooms.filter(|room| !named.contains(room) && !UNNAMED.contains(room));
        problems.extend(missing.map(|room| format!("ARCHITECTURE.md: {krate}: no `{room}`")));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn arrows_are_found_in_whatever_form_they_are_written() {
    let text = "//! crate::comment\nmod child;\nuse crate::{a::{self, B}, c as d};\n\
                fn x() { child::x() }\n\
                use super::{sibling::{Y, Z}, Other};\nfn f() { crate::deep::er::g(\"crate::e\") }\n\
                #[cfg(test)]\nmod tests { use crate::tests_only; }\n";
    let names = [
        "a",
        "c",
        "deep",
        "deep er",
        "e",
        "tests_only",
        "comment",
        "room",
        "room here",
        "room here child",
        "room sibling",
    ];
    let mut modules: BTreeMap<Module, String> = names
        .iter()
        .map(|name| (name.split(' ').map(str::to_owned).collect(), String::new()))
        .collect();
    let here: Module = vec!["room".to_owned(), "here".to_owned()];
    modules.insert(here.clone(), text.to_owned());
    let found: Vec<String> = arrows(&modules)[&here].iter().map(|to| to.join("::")).collect();
    assert_eq!(
        found,
        ["a", "c", "deep::er", "room", "room::here::child", "room::sibling"],
        "`super::Other` is the room's own"
    );
}

#[test]
fn circles_are_found() {
    let module = |name: &str| vec![name.to_owned()];
    let ring = ["a", "b", "c", "d", "e"];
    let ring_of = |len: usize| -> BTreeMap<Module, BTreeSet<Module>> {
        let next = |at: usize| BTreeSet::from([module(ring[(at + 1) % len])]);
        (0..len).map(|at| (module(ring[at]), next(at))).collect()
    };
    assert_eq!(large_circles("x", &ring_of(4)), Vec::<String>::new());
    assert_eq!(large_circles("x", &ring_of(5)).len(), 1);
}
