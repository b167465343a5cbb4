//! What a worker does for a function is on that function's account: also after its answer.

mod common;

use std::fs;

use common::{Node, Scratch, function};
use rustix::process::Signal;

/// A guest that writes the first and the last element of eight tables of 250,000 elements.
fn tables() -> String {
    let tables: String = (0..8).map(|n| format!("(table $t{n} 250000 funcref)")).collect();
    let set = |n: usize, at: u32| format!("(table.set $t{n} (i32.const {at}) (ref.func $f))");
    let sets: String = (0..8).flat_map(|n| [set(n, 0), set(n, 249_999)]).collect();
    format!(
        r#"(module (memory (export "memory") 1) {tables}
            (func $f (export "_start") {sets}))"#
    )
}

/// The seventh number of a function's profile: what follows an invocation, nanoseconds.
fn after(profiles: &str, name: &str) -> f64 {
    let line = profiles.lines().find(|line| line.split_whitespace().any(|word| word == name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {profiles}"));
    let numbers = line.split(';').next().expect("the first part").split_whitespace();
    numbers.last().expect("numbers").parse().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn what_follows_an_answer_is_in_the_functions_estimate_and_on_an_account() {
    let scratch = Scratch::new();
    let wasm = wat::parse_str(tables()).expect("a module in the text format");
    let module = scratch.write("tables.wasm", wasm);
    let tables = format!(
        "[[function]]\nname = \"tables\"\nmodule = {module:?}\nroute = \"/tables\"\n\
         timeout = \"2m\"\n"
    );
    let mut node = Node::start("", &[tables, function("null", "/null", "")]);
    for _ in 0..40 {
        assert_eq!(node.get("/tables").status, 200);
        assert_eq!(node.get("/null").status, 200);
    }
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let file = fs::read_dir(node.state_dir()).expect("it is there").flatten();
    let profiles: String =
        file.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect();
    let (long, short) = (after(&profiles, "tables"), after(&profiles, "null"));
    // Sixteen megabytes are copied.
    assert!(long > 100_000.0 && long > 5.0 * short, "{long} ns and {short} ns");
    let log = node.log();
    let line = log.lines().find(|line| line.contains("a worker ends")).expect("it is told");
    let number = |name: &str| -> u64 {
        let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("{line}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("{line}"))
    };
    let (cpu, accounted) = (number("cpu_us="), number("accounted_us="));
    // Forty times what follows an invocation alone, and most of what the thread did.
    assert!(accounted as f64 > 30.0 * long / 1000.0 && accounted > cpu / 2, "{line}");
}
