//! The example of each language, built by `make examples`, answers.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{Node, awsm, root};

fn example(name: &str) -> std::path::PathBuf {
    let file = root().join("target/examples").join(name).with_extension("wasm");
    assert!(file.is_file(), "{} is not built: run `make test`", file.display());
    file
}

/// What the example says to this input, as a command.
fn say(name: &str, options: &[&str], args: &[&str], input: &str) -> String {
    let mut command = awsm();
    command.arg("run").args(options).arg(example(name)).args(args);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("awsm runs");
    // One that does not read is no reason to fail here.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn compiled_languages_greet() {
    for (name, language) in [
        ("c", "C"),
        ("cpp", "C++"),
        ("rust", "Rust"),
        ("assemblyscript", "AssemblyScript"),
        ("wat", "WAT"),
    ] {
        assert_eq!(say(name, &[], &[], "Ada\n"), format!("Hello, Ada, from {language}!\n"));
        assert_eq!(say(name, &[], &[], ""), format!("Hello, world, from {language}!\n"));
    }
}

/// Little effort: what comes with the language is large, and a test is no benchmark.
#[test]
fn languages_with_a_runtime_greet() {
    for (name, language) in [("go", "Go"), ("zig", "Zig")] {
        let options = ["-O", "0"];
        assert_eq!(say(name, &options, &[], "Ada\n"), format!("Hello, Ada, from {language}!\n"));
        assert_eq!(say(name, &options, &[], ""), format!("Hello, world, from {language}!\n"));
    }
}

fn scripts() -> String {
    Path::new(&root()).join("examples/javascript").display().to_string()
}

#[test]
fn a_script_greets() {
    // Little effort: the engine is large, and a test is no benchmark.
    let options = ["-O", "0", "--dir", &format!("{}::/app::ro", scripts())];
    let expected = "Hello, Ada, from JavaScript!\n";
    assert_eq!(say("quickjs", &options, &["/app/greet.js"], "Ada\n"), expected);
}

#[test]
fn examples_answer_requests() {
    let functions = ["c", "cpp", "rust", "assemblyscript", "wat"].map(|name| {
        let module = example(name);
        format!("[[function]]\nname = \"{name}\"\nmodule = {module:?}\nroute = \"/{name}\"\n")
    });
    let node = Node::start("", &functions);
    for name in ["c", "cpp", "rust", "assemblyscript", "wat"] {
        assert!(node.post(&format!("/{name}"), "Grace").text().starts_with("Hello, Grace, from"));
    }
}
