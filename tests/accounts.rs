//! What a worker does for a function is on that function's account, also after its answer; and what
//! happens to invocations is counted.

mod common;

use std::fs;

use common::{FOREVER, Node, Scratch, begins_and, function, text_function};
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

/// The number after the first such name.
fn number(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(name)?.1;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
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
    let number = |name: &str| number(line, name).unwrap_or_else(|| panic!("{line}"));
    let (cpu, accounted) = (number("cpu_us="), number("accounted_us="));
    // Forty times what follows an invocation alone, and most of what the thread did.
    assert!(accounted as f64 > 30.0 * long / 1000.0 && accounted > cpu / 2, "{line}");
}

#[test]
fn what_was_let_in_has_one_end() {
    let scratch = Scratch::new();
    let hog = |name, more| text_function(&scratch, name, &begins_and(FOREVER), more);
    let functions = [
        function("null", "/null", ""),
        function("trap", "/trap", ""),
        function("exit", "/exit", ""),
        function("sleep", "/sleep", ""),
        hog("brief", "cpu_limit = \"20ms\""),
        hog("crowded", "timeout = \"200ms\"\nconcurrency = 1"),
        hog("left", "timeout = \"2m\""),
    ];
    let mut node = Node::start_workers(2, "queue = 1\nhalf_close_timeout = \"0s\"", &functions);
    for _ in 0..20 {
        assert_eq!(node.get("/null").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(node.post("/trap", "div0").status, 500);
    }
    assert_eq!(node.post("/exit", "7").status, 500);
    assert_eq!(node.post("/sleep", "20").status, 200);
    assert_eq!(node.get("/brief").status, 504);
    // One on each worker, one in each queue.
    let mut crowd: Vec<_> = (0..12).map(|_| node.connect()).collect();
    crowd.iter_mut().for_each(|client| client.send_request("GET", "/crowded", &[], b""));
    let statuses: Vec<_> = crowd.iter_mut().map(|client| client.receive().status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count() as u64;
    assert!(refused >= 8 && statuses.contains(&504), "{statuses:?}");
    let mut client = node.connect();
    client.send_request("GET", "/left", &[], b"");
    node.log_when(|log| log.lines().any(|line| line.contains("left") && line.contains("begun")));
    drop(client);
    assert_eq!(node.get("/null").status, 200);
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    let log = node.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("a worker ends")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    // The sum of the counts whose names begin so.
    let count = |line: &str, name: &str| -> u64 {
        let (_, counts) = line.split_once("invocations=").expect("its counts");
        let named = counts.split(", ").filter(|count| count.starts_with(name));
        named.filter_map(|count| count.split_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    for line in &lines {
        let came = count(line, "arrived") + count(line, "taken");
        assert_eq!(came, count(line, "admitted") + count(line, "refused"), "{line}");
        let went = count(line, "given") + count(line, "ended");
        assert_eq!(count(line, "admitted"), went, "{line}");
    }
    let total = |name: &str| lines.iter().map(|line| count(line, name)).sum::<u64>();
    assert_eq!(total("arrived"), 20 + 3 + 1 + 1 + 1 + 12 + 1 + 1, "{log}");
    assert_eq!(total("ended_returned"), 20 + 1 + 1, "{log}");
    assert_eq!((total("ended_trapped"), total("ended_failed")), (3, 1), "{log}");
    assert_eq!(total("ended_timed_out"), 1 + 12 - refused, "{log}");
    assert_eq!(total("ended_dropped"), 1, "{log}");
    assert_eq!(total("given"), total("taken"), "{log}");
    assert!(total("blocked") >= 1 && total("preempted") >= 1 && total("resumed") >= 2, "{log}");
}
