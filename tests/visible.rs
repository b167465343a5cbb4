//! Texts of strangers on their way out: names in modules, names of files, what is quoted. A line
//! stays a line, and nothing in it acts on a terminal.

mod common;

use std::process::{Command, Output};

use common::{Node, Scratch, awsm, begins_and, named_function};

/// Ends a line, moves the cursor, turns the direction of writing, in every way.
const ACTS: &str =
    "x\nerror: forged\r\0\u{1b}[31m\u{7f}\u{9b}2J\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}y";
/// The same as it is shown.
const SHOWN: &str = "x<U+000A>error: forged<U+000D><U+0000><U+001B>[31m<U+007F><U+009B>2J\
                     <U+202A><U+202E><U+2066><U+2069><U+2028><U+2029>y";

/// As a string in WebAssembly's text format.
fn quoted(name: &str) -> String {
    name.bytes().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Nothing in it acts but the ends of lines, of which there are so many.
#[track_caller]
fn is_harmless(said: &[u8], lines: usize) -> String {
    let said = String::from_utf8(said.to_vec()).expect("text");
    let acts = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    assert_eq!(said.chars().find(acts), None, "{said:?}");
    assert_eq!(said.lines().count(), lines, "{said:?}");
    said
}

fn output(command: &mut Command) -> Output {
    command.output().expect("it runs")
}

#[test]
fn names_in_modules_are_shown() {
    let scratch = Scratch::new();
    let import =
        format!("(module (import \"env\" \"{}\" (func)) (func (export \"_start\")))", quoted(ACTS));
    let file = scratch.write("import.wasm", wat::parse_str(import).expect("a module"));
    let refused = output(awsm().arg("run").arg(&file));
    let said = is_harmless(&refused.stderr, 1);
    assert!(said.contains(&format!("unknown import `env.{SHOWN}`")), "{said}");

    // Two exports of one name are invalid, and the compiler quotes it.
    let export = format!("(export \"{}\" (func $f))", quoted(ACTS));
    let twice = format!("(module (func $f) {export} {export})");
    let file = scratch.write("twice.wasm", wat::parse_str(twice).expect("a module"));
    let refused = output(awsm().arg("build").arg(&file));
    is_harmless(&refused.stderr, 1);

    let traps = format!(
        "(module (memory (export \"memory\") 1)
             (func $\"{}\" (export \"_start\") unreachable))",
        quoted(ACTS)
    );
    let file = scratch.write("traps.wasm", wat::parse_str(traps).expect("a module"));
    let trapped = output(awsm().arg("run").arg(&file));
    let said = is_harmless(&trapped.stderr, 2);
    assert_eq!(said.matches(SHOWN).count(), 2, "{said}");
    let node = Node::start(
        "",
        &[format!("[[function]]\nname = \"traps\"\nmodule = {file:?}\nroute = \"/traps\"\n")],
    );
    let answer = node.get("/traps");
    assert_eq!(answer.status, 500);
    let said = is_harmless(&answer.body, 1);
    assert!(said.contains(SHOWN), "{said}");
    let log = node.log_when(|log| log.contains("trap="));
    assert!(log.contains(SHOWN), "{log}");
    is_harmless(log.as_bytes(), log.lines().count());
}

#[test]
fn names_of_files_are_shown() {
    let scratch = Scratch::new();
    let name = ACTS.replace('\0', "");
    let shown = SHOWN.replace("<U+0000>", "");
    let missing = scratch.path().join(&name);
    for verb in ["run", "build", "verify", "check", "serve", "plan"] {
        let refused = output(awsm().arg(verb).arg(&missing));
        let said = is_harmless(&refused.stderr, 1);
        assert!(said.starts_with("error: ") && said.contains(&shown), "{verb}: {said}");
    }
    let text = scratch.write(&format!("{name}.wat"), "(module (func (bad)))");
    for verb in ["run", "build"] {
        let said = is_harmless(&output(awsm().arg(verb).arg(&text)).stderr, 1);
        assert!(said.contains(&shown) && said.contains(":1:16: "), "{verb}: {said}");
    }
    let config = scratch.write(&name, common::function("null", "/", ""));
    let checked = output(awsm().arg("check").arg(&config));
    assert!(is_harmless(&checked.stdout, 1).contains(&shown));
    let unknown = scratch.write("unknown.toml", "\"a\\u001b\\u202e\\nb\" = 1\n");
    let said = is_harmless(&output(awsm().arg("check").arg(&unknown)).stderr, 1);
    assert!(said.contains("`a<U+001B><U+202E><U+000A>b`"), "{said}");
}

#[test]
fn events_of_the_node_are_lines_in_both_forms() {
    let scratch = Scratch::new();
    let dir = scratch.path().join(ACTS.replace('\0', ""));
    std::fs::create_dir(&dir).expect("made");
    let module = dir.join("says.wasm");
    std::fs::write(&module, wat::parse_str(begins_and("")).expect("a module")).expect("written");
    let path = module.to_str().expect("text");
    let path: String = path.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    for form in ["text", "json"] {
        let mut command = awsm();
        command.env("AWSM_LOG_FORMAT", form);
        let table =
            format!("[[function]]\nname = \"says\"\nmodule = \"{path}\"\nroute = \"/says\"\n");
        let functions = [table, named_function("null", "null", "/null", "")];
        let node = Node::start_by(command, 1, "", &functions);
        assert_eq!(node.get("/says").status, 200);
        // Its module changes, which is told with the file's name.
        std::fs::write(&module, wat::parse_str(begins_and("")).expect("a module"))
            .expect("written");
        let log = node.log_when(|log| log.contains("has changed") && log.contains("begun"));
        is_harmless(log.as_bytes(), log.lines().count());
        let starts = if form == "json" { "{" } else { "20" };
        assert!(log.lines().all(|line| line.starts_with(starts)), "{log}");
    }
}
