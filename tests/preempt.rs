//! The core is taken back: on a node whose every core is kept busy, and under every guest of the
//! project.

mod common;

use std::net::Shutdown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awsm_host::{Output, Stdin, StringList, WasiCtx};
use awsm_sandbox::{Isolation, Limits, Linker, Module, Pool, PoolConfig, Program, Stop, clock};
use common::{
    Case, FOREVER, Node, Scratch, awsm, begins_and, cases, eventually, function, guest,
    named_function, text_function,
};

/// Never ends within a test's time.
const LONG: &str = "100000000000000";

/// Runs as long as the node lets it.
fn hog(route: &str, more: &str) -> String {
    function("spin", route, &format!("args = [\"{LONG}\"]\n{more}"))
}

#[test]
fn a_busy_core_answers_others() {
    for policy in ["rr", "edf", "srpt"] {
        let node = Node::start(
            &format!("policy = \"{policy}\""),
            &[hog("/hog", "slo = { deadline = \"20s\" }"), function("echo", "/echo", "")],
        );
        let mut hogs = (0..3).map(|_| node.connect()).collect::<Vec<_>>();
        for hog in &mut hogs {
            hog.send_request("GET", "/hog", &[], b"");
        }
        eventually("the hogs run", || node.cpu_time() > Duration::from_millis(200));
        let mut client = node.connect();
        for n in 0..20 {
            let body = n.to_string();
            let headers = ["X-Client-Timeout-Ms: 5000"];
            let answer = client.request("POST", "/echo", &headers, body.as_bytes());
            assert_eq!((answer.status, answer.text()), (200, body.as_str()), "{policy}");
        }
        let before = node.cpu_time();
        eventually("the hogs still run", || node.cpu_time() > before + Duration::from_millis(50));
    }
}

#[test]
fn an_endless_loop_ends_at_its_limit() {
    let node = Node::start(
        "",
        &[
            named_function(
                "wall",
                "spin",
                "/wall",
                &format!("args = [\"{LONG}\"]\ntimeout = \"30ms\""),
            ),
            named_function(
                "cpu",
                "spin",
                "/cpu",
                &format!("args = [\"{LONG}\"]\ncpu_limit = \"30ms\""),
            ),
            function("echo", "/echo", ""),
        ],
    );
    let mut client = node.connect();
    for path in ["/wall", "/cpu"].repeat(10) {
        let answer = client.request("GET", path, &[], b"");
        assert_eq!(answer.status, 504, "{path}: {answer:?}");
    }
    assert_eq!(client.request("POST", "/echo", &[], b"still here").text(), "still here");
}

/// Memory, descriptors and threads of a node stay the same however many loops it has ended.
#[test]
fn ended_loops_leave_nothing_behind() {
    let many = std::env::var("AWSM_LOOPS").map_or(400, |n| n.parse().expect("a number"));
    let node = Node::start("quantum = \"100us\"", &[hog("/hog", "timeout = \"1ms\"")]);
    let counts = || {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", node.pid()));
        let (descriptors, maps) = (descriptors.expect("there"), maps.expect("there"));
        (descriptors.count(), maps.lines().count(), node.status("Threads:"))
    };
    let mut client = node.connect();
    let mut end = |loops: usize| {
        for _ in 0..loops {
            assert_eq!(client.request("GET", "/hog", &[], b"").status, 504);
        }
    };
    end(100);
    let (before, resident) = (counts(), node.status("VmRSS:"));
    end(many);
    assert_eq!(counts(), before);
    let grown = node.status("VmRSS:").saturating_sub(resident);
    assert!(grown < 2_000, "{grown} KiB more");
}

#[test]
fn a_caller_that_leaves_ends_what_runs_for_it() {
    let scratch = Scratch::new();
    let more = "timeout = \"1h\"\nconcurrency = 1";
    let functions = [text_function(&scratch, "hog", &begins_and(FOREVER), more)];
    let node = Node::start("half_close_timeout = \"0s\"", &functions);
    // The next one begins when the one before has ended.
    for round in 1..=5 {
        let mut client = node.connect();
        client.send_request("GET", "/hog", &[], b"");
        node.log_when(|log| log.matches("begun").count() == round);
        drop(client);
    }
}

#[test]
fn a_preempted_guest_says_so() {
    let node = Node::start(
        "policy = \"rr\"\nserver_timing = \"exact\"",
        &[function("spin", "/spin", "args = [\"200000000\"]")],
    );
    let mut clients = [node.connect(), node.connect()];
    // Unless the second one has come when the first was done.
    eventually("they have had the core in turn", || {
        let since = Instant::now();
        for client in &mut clients {
            client.send_request("GET", "/spin", &[], b"");
        }
        let answers = clients.each_mut().map(common::Client::receive);
        let took_ms = since.elapsed().as_secs_f64() * 1e3;
        for answer in &answers {
            let parts = ["queue", "startup", "run", "blocked", "preempted"];
            let sum_ms: f64 = parts.iter().filter_map(|part| answer.timing(part)).sum();
            assert!(sum_ms > 0.0 && sum_ms <= took_ms, "{sum_ms} of {took_ms}: {answer:?}");
            assert_eq!(answer.status, 200);
        }
        answers.iter().filter_map(|answer| answer.timing("preempted")).sum::<f64>() > 1.0
    });
}

/// A worker that has nothing to do is woken by nobody, but for its look at slow connections, ten
/// times a second, and by the watchdog.
#[test]
fn an_idle_node_sleeps() {
    let node = Node::start_workers(2, "", &[function("spin", "/", "args = [\"5000000\"]")]);
    // It has work behind it, and a connection that is kept.
    let mut client = node.connect();
    for _ in 0..10 {
        assert_eq!(client.request("GET", "/", &[], b"").status, 200);
    }
    let pid = node.pid();
    let mut quiet = 0;
    eventually("its workers sleep", || {
        let (began, before) = (Instant::now(), worker_wakes(pid));
        std::thread::sleep(Duration::from_secs(1));
        let woken = worker_wakes(pid) - before;
        let seconds = began.elapsed().as_secs() + 1;
        quiet = if woken <= 2 * 16 * seconds { quiet + 1 } else { 0 };
        quiet == 3
    });
}

/// How often the workers' threads have gone to sleep so far.
fn worker_wakes(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the node is there");
    let mut wakes = 0;
    for task in tasks.flatten() {
        let read =
            |file| std::fs::read_to_string(task.path().join(file)).expect("the thread is there");
        if read("comm").starts_with("awsm-worker") {
            let status = read("status");
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let count = line.and_then(|count| count.trim().parse::<u64>().ok());
            wakes += count.expect("a count");
        }
    }
    wakes
}

/// Processor time of each worker's thread so far, by its name. (What a worker starts has its name,
/// too, until it has one of its own; it has come later, and has a higher number.)
fn worker_times(pid: u32) -> Vec<(String, Duration)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the node is there");
    let mut times = Vec::new();
    for task in tasks.flatten() {
        let read =
            |file| std::fs::read_to_string(task.path().join(file)).expect("the thread is there");
        let (name, account) = (read("comm"), read("schedstat"));
        let ns = account.split_whitespace().next().and_then(|ns| ns.parse().ok());
        if name.starts_with("awsm-worker") {
            let number: u32 = task.file_name().to_string_lossy().parse().expect("a number");
            times.push((name, number, Duration::from_nanos(ns.expect("a number"))));
        }
    }
    times.sort();
    times.dedup_by(|later, first| later.0 == first.0);
    times.into_iter().map(|(name, _, time)| (name, time)).collect()
}

/// Connections that all belong to one worker keep two busy.
#[test]
fn an_idle_worker_takes_what_has_not_started() {
    let scratch = Scratch::new();
    let node = Node::start_workers(
        2,
        "admission = \"none\"\nhalf_close_timeout = \"0s\"",
        &[
            function("spin", "/long", "args = [\"2000000000\"]"),
            named_function("short", "spin", "/short", "args = [\"100000000\"]"),
            text_function(&scratch, "hog", &begins_and(FOREVER), "timeout = \"1h\""),
        ],
    );
    let grown = |before: &[(String, Duration)]| {
        let after = worker_times(node.pid());
        let grown = after.iter().zip(before).map(|(after, before)| after.1 - before.1);
        grown.collect::<Vec<_>>()
    };
    // One request at a time runs where its connection is.
    let mut of_worker = [Vec::new(), Vec::new()];
    while of_worker.iter().all(|clients| clients.len() < 6) {
        let mut client = node.connect();
        let before = worker_times(node.pid());
        assert_eq!(client.request("GET", "/short", &[], b"").status, 200);
        let grown = grown(&before);
        of_worker[usize::from(grown[1] > grown[0])].push(client);
    }
    let clients =
        of_worker.iter_mut().find(|clients| clients.len() == 6).expect("six of one worker");
    let before = worker_times(node.pid());
    for client in clients.iter_mut() {
        client.send_request("GET", "/long", &[], b"");
    }
    for client in clients.iter_mut() {
        assert_eq!(client.receive().status, 200);
    }
    let grown = grown(&before);
    assert!(*grown.iter().min().expect("two") > Duration::from_millis(50), "{grown:?}");
    // One that leaves while another core works for it ends that, too: the next ones, which are due
    // later, begin on both.
    let (leaving, staying) = clients.split_at_mut(3);
    for (begun, clients) in [(2, leaving), (4, staying)] {
        for client in clients.iter_mut() {
            client.send_request("GET", "/hog", &[], b"");
        }
        node.log_when(|log| log.matches("begun").count() == begun);
        clients.iter_mut().for_each(|client| client.raw().shutdown(Shutdown::Both).expect("open"));
    }
}

/// The guest compiled with all that this processor has.
fn build(guest_name: &str, scratch: &Scratch) -> PathBuf {
    let object = scratch.path().join(guest_name).with_extension("so");
    let mut command: Command = awsm();
    command.args(["build", "--cpu", "native", "-o"]).arg(&object).arg(guest(guest_name));
    let output = command.output().expect("awsm runs");
    assert!(output.status.success(), "{guest_name}: {}", String::from_utf8_lossy(&output.stderr));
    object
}

fn context(case: &Case) -> WasiCtx {
    let mut context = WasiCtx::default();
    let args = std::iter::once(case.guest.clone()).chain(case.args.iter().cloned());
    context.args = Arc::new(args.collect::<Vec<_>>().iter().collect());
    let mut env = StringList::new();
    for (name, value) in &case.env {
        env.push_variable(name, value);
    }
    context.env = Arc::new(env);
    context.stdin = Stdin::Bytes(case.stdin.clone().into());
    context.stdout = Output::buffer(1 << 20);
    context.stderr = Output::buffer(1 << 20);
    context
}

/// Every guest of the project, preempted at random points, gives the answer that it always gives.
/// `AWSM_PREEMPTIONS` says how often at least, all together.
#[test]
fn every_guest_answers_the_same_when_preempted() {
    let wanted = std::env::var("AWSM_PREEMPTIONS").map_or(3_000, |n| n.parse().expect("a number"));
    let scratch = Scratch::new();
    let mut linker = Linker::new();
    awsm_host::add_to_linker(&mut linker);
    let mut seed = 0x5bd1_e995_9e37_79b9_u64;
    let mut gap = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if seed.is_multiple_of(8) { seed % 200_000 } else { seed % 8_000 }
    };
    let cases = cases();
    let mut pool = Pool::new(PoolConfig::default());
    let mut programs = std::collections::BTreeMap::new();
    for case in &cases {
        if !programs.contains_key(&case.guest) {
            let module = Module::load(&build(&case.guest, &scratch)).expect("it loads");
            assert_eq!(module.isolation(), Isolation::Guard);
            let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
            let program = Program::link(module, &linker, limits).expect("known imports");
            programs.insert(case.guest.clone(), program);
        }
    }
    let (mut preemptions, mut runs) = (0, 0);
    while preemptions < wanted || runs < cases.len() {
        let case = &cases[runs % cases.len()];
        let program = &programs[&case.guest];
        let entry = program.module().exported_func("_start").expect("a command");
        let started = pool.start(program, entry, context(case)).map_err(|(error, _)| error);
        let mut sandbox = started.expect("a free slot");
        let stop = loop {
            match sandbox.resume_until(clock::monotonic_ns() + gap()) {
                Stop::Blocked(_) | Stop::Preempted => {}
                stop => break stop,
            }
        };
        preemptions += u64::from(sandbox.timing().preemptions);
        let exit = match &stop {
            Stop::Returned => "0".to_owned(),
            Stop::Exited(code) => code.to_string(),
            Stop::Trapped(trap) => format!("trap:{trap}"),
            other => panic!("{other:?}"),
        };
        let name = format!("{} {}, run {runs}", case.guest, case.args.join(" "));
        match case.exit.strip_prefix("trap:") {
            Some(trap) => assert!(exit.contains(trap), "{name}: {exit}"),
            None => assert_eq!(exit, case.exit, "{name}"),
        }
        assert_eq!(sandbox.data_mut().stdout.take(), case.stdout, "{name}");
        pool.recycle(sandbox);
        runs += 1;
    }
    println!("{preemptions} preemptions in {runs} runs of {} guests", programs.len());
}
