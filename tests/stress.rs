//! A node under everything at once, with the shortest quantum: right answers, faults, limits,
//! callers that leave, and a restart under each policy. `AWSM_STRESS_SECONDS=600` makes it ten
//! minutes instead of some seconds.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Case, Client, Node, Response, cases, eventually, named_function};
use rustix::process::Signal;

/// Callers at once.
const CALLERS: u64 = 6;
const POLICIES: [&str; 4] = ["edf", "rr", "srpt", "fifo"];

#[derive(Default)]
struct Counts {
    right: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
    left: AtomicU64,
}

#[test]
fn everything_at_once() {
    let seconds = std::env::var("AWSM_STRESS_SECONDS").map_or(4, |n| n.parse().expect("a number"));
    let seed = std::env::var("AWSM_SEED").map_or(1, |n| n.parse().expect("a number"));
    let cases = cases();
    let mut functions = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let env = case.env.iter().map(|(name, value)| format!("{name} = {value:?}"));
        let more = format!(
            "args = {:?}\nenv = {{ {} }}\nbody = \"16MiB\"\n",
            case.args,
            env.collect::<Vec<_>>().join(", ")
        );
        functions.push(named_function(&name(number), &case.guest, &route(number), &more));
    }
    let endless = "args = [\"100000000000000\"]\n";
    for (name, limit) in [("wall", "timeout = \"3ms\""), ("cpu", "cpu_limit = \"2ms\"")] {
        functions.push(named_function(
            name,
            "spin",
            &format!("/{name}"),
            &format!("{endless}{limit}"),
        ));
    }
    functions.push(named_function("hog", "spin", "/hog", &format!("{endless}timeout = \"20s\"")));
    let counts = Counts::default();
    for (phase, policy) in POLICIES.iter().enumerate() {
        let settings = format!(
            "quantum = \"100us\"\npolicy = \"{policy}\"\nadmission = \"none\"\nmemory = \"2GiB\"\n\
             half_close_timeout = \"0s\""
        );
        let mut node = Node::start_workers(2, &settings, &functions);
        let quarter = Duration::from_secs(seconds) / POLICIES.len() as u32;
        let call = |time: Duration, seed: u64| {
            let end = Instant::now() + time;
            thread::scope(|scope| {
                for caller in 0..CALLERS {
                    let random = Random((seed << 32) | ((caller + 1) * 0x9e37_79b9));
                    let (node, cases, counts) = (&node, &cases, &counts);
                    scope.spawn(move || be_a_caller(node, cases, random, end, counts));
                }
            });
            // Those whose callers have left are gone, too.
            eventually("it rests", || {
                let before = node.cpu_time();
                thread::sleep(Duration::from_millis(100));
                node.cpu_time() - before <= Duration::from_millis(10)
            });
        };
        call(quarter / 4, seed + 1000);
        let before = Held::by(&node);
        call(quarter * 3 / 4, seed + phase as u64);
        let after = Held::by(&node);
        after.is_no_more_than(&before, &format!("{policy}: {before:?}, {after:?}"));
        node.signal(Signal::TERM);
        assert!(node.wait().success(), "{policy}: {}", node.log());
        assert!(!node.log().contains("panicked"), "{policy}: {}", node.log());
    }
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let [right, failed, late, left] =
        [&counts.right, &counts.failed, &counts.late, &counts.left].map(read);
    println!(
        "{right} right answers, {failed} faults and codes, {late} ended at a limit, {left} callers left"
    );
    assert!(right > 0 && failed > 0 && late > 0 && left > 0);
}

fn name(number: usize) -> String {
    format!("case-{number}")
}

fn route(number: usize) -> String {
    format!("/{}", name(number))
}

fn be_a_caller(node: &Node, cases: &[Case], mut random: Random, end: Instant, counts: &Counts) {
    let count = |what: &AtomicU64| what.fetch_add(1, Ordering::Relaxed);
    let mut client = node.connect();
    while Instant::now() < end {
        let number = random.next(cases.len());
        let case = &cases[number];
        match random.next(20) {
            0 => {
                client.send_request("POST", &route(number), &[], &case.stdin);
                client = node.connect();
                count(&counts.left);
            }
            1 => {
                client.send_request("GET", "/hog", &[], b"");
                thread::sleep(Duration::from_micros(random.next(5_000) as u64));
                client = node.connect();
                count(&counts.left);
            }
            2 => {
                client.send(
                    "POST /case-0 HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nno more",
                );
                client = node.connect();
                count(&counts.left);
            }
            3 => {
                let answer = ask(&mut client, "GET", "/hog", &["X-Client-Timeout-Ms: 2"], b"");
                assert_eq!(answer.status, 504, "{answer:?}");
                count(&counts.late);
            }
            n @ (4 | 5) => {
                let path = if n == 4 { "/wall" } else { "/cpu" };
                let answer = ask(&mut client, "GET", path, &[], b"");
                assert_eq!(answer.status, 504, "{answer:?}");
                count(&counts.late);
            }
            6 => assert_eq!(ask(&mut client, "GET", "/nowhere", &[], b"").status, 404),
            _ => check(&mut client, number, case, counts),
        }
    }
}

/// A request and its answer.
fn ask(client: &mut Client, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
    client.send_request(method, path, headers, body);
    let since = Instant::now();
    let answer = client.try_receive();
    answer
        .unwrap_or_else(|| panic!("{method} {path} {headers:?}: nothing in {:?}", since.elapsed()))
}

/// The answer that the case has.
fn check(client: &mut Client, number: usize, case: &Case, counts: &Counts) {
    let answer = ask(client, "POST", &route(number), &[], &case.stdin);
    let named = || format!("{} {:?}: {answer:?}", case.guest, case.args);
    let what = match case.exit.as_str() {
        "0" => {
            assert!(answer.status == 200 && answer.body == case.stdout, "{}", named());
            &counts.right
        }
        exit => {
            let told = match exit.strip_prefix("trap:") {
                Some(trap) => answer.text().contains(trap),
                // What it has said all the same is the answer.
                None if !case.stdout.is_empty() => answer.body == case.stdout,
                None => answer.text().contains(&format!("exited with code {exit}")),
            };
            assert!(answer.status == 500 && told, "{}", named());
            &counts.failed
        }
    };
    what.fetch_add(1, Ordering::Relaxed);
}

/// What a node has of the system.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: u64,
    mappings: usize,
    resident_kib: u64,
}

impl Held {
    fn by(node: &Node) -> Self {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.pid()));
        Self {
            descriptors: std::fs::read_dir(format!("/proc/{}/fd", node.pid()))
                .expect("there")
                .count(),
            threads: node.status("Threads:"),
            mappings: maps.expect("there").lines().count(),
            resident_kib: node.status("VmRSS:"),
        }
    }

    /// Slots may have been made for more callers at once than before, but not one for each of
    /// thousands of invocations.
    fn is_no_more_than(&self, before: &Self, what: &str) {
        assert_eq!(
            (self.descriptors, self.threads),
            (before.descriptors, before.threads),
            "{what}"
        );
        assert!(self.mappings <= before.mappings + 600, "{what}");
        assert!(self.resident_kib <= before.resident_kib + 32_000, "{what}");
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}
