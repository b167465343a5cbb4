//! A node's beginning and end as an operator sees them: signals, sockets, what is left.

mod common;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{
    Client, Gate, Node, Scratch, awsm, begins_and, eventually, function, text_function, wait,
};
use rustix::process::{Pid, Signal, kill_process};

/// Is there a process that has inherited this variable?
fn lives(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let mut environments =
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|bytes| bytes.windows(marker.len()).any(|part| part == marker.as_bytes()))
}

/// A node whose compiler's linker does not end: the process, once it links.
fn compiling(scratch: &Scratch, marker: &str) -> Child {
    let bin = scratch.path().join("bin");
    fs::create_dir(&bin).expect("made");
    let linking = scratch.path().join("linking");
    let script = "#!/bin/sh\n: > \"$LINKING\"\nwhile [ -e \"$LINKING\" ]; do sleep 0.01; done\n";
    let linker = scratch.write("bin/ld.lld-19", script);
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).expect("its own");
    let config = text_function(scratch, "slow", &begins_and(""), "");
    let config = scratch.write("awsm.toml", config);
    let path = std::env::var("PATH").expect("a path");
    let mut node = awsm();
    node.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(scratch.path().join("state"));
    node.arg("--cache-dir").arg(scratch.path().join("cache")).arg(config);
    node.env("PATH", format!("{}:{path}", bin.display()));
    node.env("LINKING", &linking).env("MARKER", marker);
    let node = node.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs");
    eventually("it links", || linking.exists());
    node
}

#[test]
fn a_signal_while_modules_are_compiled_ends_the_node_and_its_compilers_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let scratch = Scratch::new();
        let marker = format!("starting-node-{}-{code}", std::process::id());
        let mut node = compiling(&scratch, &marker);
        assert!(lives(&marker));
        kill_process(Pid::from_child(&node), signal).expect("it is there");
        assert_eq!(wait(&mut node).code(), Some(code));
        eventually("compiler and linker are gone", || !lives(&marker));
    }
}

/// A node at whose gate one client waits.
fn waiting(command: Command, scratch: &Scratch, settings: &str) -> (Node, Gate, Client) {
    let gate = Gate::new(scratch, "gate", "timeout = \"1h\"");
    let functions = [gate.table.clone(), function("null", "/", "")];
    let node = Node::start_by(command, 1, settings, &functions);
    let mut client = node.connect();
    client.send_request("POST", "/gate", &[], b"");
    gate.wait_for(&node, 1);
    (node, gate, client)
}

#[test]
fn a_hangup_lets_what_runs_finish_unless_it_was_to_be_ignored() {
    let scratch = Scratch::new();
    let (mut node, gate, mut client) = waiting(awsm(), &scratch, "");
    node.signal(Signal::HUP);
    node.log_when(|log| log.contains("stopping"));
    gate.open(1);
    assert_eq!(client.receive().text(), "went on\n");
    assert_eq!(node.wait().code(), Some(0));

    let plain = awsm();
    let mut nohup = Command::new("sh");
    nohup.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    nohup.args(["-c", r#"trap "" HUP; exec "$0" "$@""#]).arg(plain.get_program());
    let scratch = Scratch::new();
    let (mut node, gate, mut client) = waiting(nohup, &scratch, "");
    node.signal(Signal::HUP);
    gate.open(1);
    assert_eq!(client.receive().text(), "went on\n");
    assert_eq!(node.get("/").status, 200, "it goes on");
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0));
    assert!(!node.log().contains("cut off"), "{}", node.log());
}

#[test]
fn whoever_has_connected_when_the_node_ends_is_answered() {
    let scratch = Scratch::new();
    let (mut node, gate, mut client) = waiting(awsm(), &scratch, "");
    // While the node sleeps the system accepts for it; the signal comes last.
    node.signal(Signal::STOP);
    let mut asked: Vec<_> = (0..20).map(|_| node.connect()).collect();
    for one in &mut asked {
        one.send_request("GET", "/", &[], b"");
    }
    let silent = node.connect();
    let mut late = node.connect();
    node.signal(Signal::TERM);
    node.signal(Signal::CONT);
    // Who is about to ask has a moment for it, and who says nothing holds nobody up.
    node.log_when(|log| log.contains("stopping"));
    late.send_request("GET", "/", &[], b"");
    assert_eq!(late.receive().status, 200);
    for one in &mut asked {
        assert_eq!(one.try_receive().expect("it was accepted").status, 200);
    }
    asked.extend([late, silent]);
    assert!(asked.iter_mut().all(Client::is_closed));
    gate.open(1);
    assert_eq!(client.receive().text(), "went on\n");
    assert_eq!(node.wait().code(), Some(0));
}

/// Each connection is either answered or not accepted, as long as callers come.
#[test]
fn no_connection_is_accepted_and_left_while_the_node_ends() {
    let scratch = Scratch::new();
    let (mut node, gate, mut client) = waiting(awsm(), &scratch, "");
    let (address, answered) = (node.address, AtomicU32::new(0));
    std::thread::scope(|scope| {
        let call = || {
            while let Ok(stream) = TcpStream::connect(address) {
                let mut caller = Client::of(stream);
                caller.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it reads");
                assert_eq!(caller.try_receive().expect("it was accepted").status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        };
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        eventually("they are answered", || answered.load(Ordering::Relaxed) >= 100);
        node.signal(Signal::TERM);
        callers.into_iter().for_each(|caller| caller.join().expect("none was left"));
    });
    gate.open(1);
    assert_eq!(client.receive().text(), "went on\n");
    assert_eq!(node.wait().code(), Some(0));
}

fn listening(scratch: &Scratch, socket: &Path) -> String {
    let listen = format!("[function.listen]\nIN = \"unix:{}\"", socket.display());
    text_function(scratch, "server", &begins_and(""), &listen)
}

#[test]
fn sockets_of_functions_are_gone_with_the_node_and_what_was_left_is_replaced() {
    let scratch = Scratch::new();
    let socket: PathBuf = scratch.path().join("socket");
    let functions = [listening(&scratch, &socket)];
    // Killed, it cannot clean up.
    drop(Node::start("", &functions));
    assert!(socket.exists() && UnixStream::connect(&socket).is_err());
    for signals in 1..=2 {
        let mut node = Node::start("shutdown_timeout = \"1h\"", &functions);
        UnixStream::connect(&socket).expect("it listens");
        // A connection without a whole request keeps it waiting for the second signal.
        let mut client = node.connect();
        client.send("GET / HT");
        node.signal(Signal::TERM);
        node.log_when(|log| log.contains("stopping"));
        match signals {
            1 => drop(client),
            _ => node.signal(Signal::TERM),
        }
        assert_eq!(node.wait().code(), Some(if signals == 1 { 0 } else { 143 }));
        assert!(!socket.exists());
    }
    // Where somebody else listens the socket stays that one's.
    let other = UnixListener::bind(&socket).expect("free");
    let config = scratch.write("awsm.toml", &functions[0]);
    let mut serve = awsm();
    let serve = serve.args(["serve", "--listen", "127.0.0.1:0"]).arg(config);
    let refusal = common::refusal(&scratch, serve);
    assert!(refusal.contains("Address already in use"), "{refusal}");
    other.set_nonblocking(true).expect("settable");
    assert!(other.accept().is_err(), "nobody has connected");
    assert!(UnixStream::connect(&socket).is_ok());
}

/// A configuration in which everything is wrong that can be, beside a function that is right; and
/// what is told of each.
fn with_mistakes(scratch: &Scratch) -> (Vec<String>, Vec<(&'static str, String)>) {
    let wrong = |name: &str, wat: &str, more: &str| text_function(scratch, name, wat, more);
    let fine = begins_and("");
    let missing = scratch.path().join("missing");
    let nowhere = missing.display();
    let noise = scratch.write("noise.wasm", "no module");
    let functions = vec![
        function("null", "/null", ""),
        format!("[[function]]\nname = \"absent\"\nroute = \"/absent\"\nmodule = {missing:?}\n"),
        format!("[[function]]\nname = \"noise\"\nroute = \"/noise\"\nmodule = {noise:?}\n"),
        wrong("import", "(module (import \"env\" \"f\" (func)) (func (export \"_start\")))", ""),
        wrong("library", "(module (func (export \"f\")))", ""),
        wrong("large", "(module (memory 32) (func (export \"_start\")))", "memory = \"1MiB\""),
        wrong(
            "segment",
            "(module (memory 1) (data (i32.const 65536) \"x\") (func (export \"_start\")))",
            "",
        ),
        wrong(
            "grants",
            &fine,
            &format!(
                "stdin = \"file:{nowhere}\"\ndirs = {{ \"/a\" = {{ path = \"{nowhere}\" }} }}\n\
                 connect = {{ A = \"no..such..name:1\" }}\n\
                 listen = {{ B = \"unix:{nowhere}/socket\" }}"
            ),
        ),
    ];
    let told = vec![
        ("absent", format!("its module is not found: {nowhere}")),
        ("noise", noise.display().to_string()),
        ("import", "unknown import `env.f`".to_owned()),
        ("library", "no function `_start`".to_owned()),
        ("large", "may have 1048576; raise its `memory`".to_owned()),
        ("segment", "instantiation: trap: ".to_owned()),
        ("grants", format!("`stdin`: {nowhere}: ")),
        ("grants", format!("`dirs`: {nowhere}: ")),
        ("grants", "`A`: no..such..name:1: ".to_owned()),
        ("grants", format!("`B`: unix:{nowhere}/socket: ")),
    ];
    (functions, told)
}

/// Each of these is told in a line of its own, with its place in the configuration.
fn all_are_told(said: &str, told: &[(&str, String)]) {
    for (function, what) in told {
        let place = "awsm.toml:";
        let name = format!(": function `{function}`: ");
        let is_it = |line: &&str| {
            line.contains(place) && line.contains(&name) && line.contains(what.as_str())
        };
        assert_eq!(said.lines().filter(is_it).count(), 1, "{function}: {what}: {said}");
    }
}

#[test]
fn what_is_wrong_with_some_functions_is_told_and_the_others_are_served() {
    let scratch = Scratch::new();
    let (functions, told) = with_mistakes(&scratch);
    let node = Node::start("", &functions);
    assert_eq!(node.get("/null").status, 200);
    all_are_told(&node.log(), &told);
    for (function, _) in &told {
        let answer = node.post(&format!("/{function}"), "a body");
        assert_eq!((answer.status, answer.problem("function")), (503, Some(*function)));
        assert!(answer.text().contains("could not be started"), "{}", answer.text());
        assert!(!answer.text().contains(&*scratch.path().to_string_lossy()), "nothing of the host");
    }
    assert_eq!(node.log().lines().filter(|line| line.contains("ERROR")).count(), told.len());
}

#[test]
fn checking_and_being_strict_find_all_that_serving_would() {
    let scratch = Scratch::new();
    let (functions, told) = with_mistakes(&scratch);
    let config = scratch.write("awsm.toml", functions.concat());
    let strict =
        scratch.write("strict-awsm.toml", format!("[node]\nstrict = true\n{}", functions.concat()));
    let state = scratch.path().join("state");
    let run = |verb: &str, arguments: &[&str], config: &Path| {
        let mut command = awsm();
        command.arg(verb).args(arguments).arg("--state-dir").arg(&state).arg(config);
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(
            said.lines().filter(|line| line.starts_with("error: ")).count(),
            told.len(),
            "{said}"
        );
        assert!(output.stdout.is_empty(), "{verb}");
        said
    };
    all_are_told(&run("check", &[], &config), &told);
    all_are_told(&run("serve", &["--listen", "127.0.0.1:0", "--strict"], &config), &told);
    all_are_told(&run("serve", &["--listen", "127.0.0.1:0"], &strict), &told);
    // Without one that is right there is nothing to serve.
    let config = scratch.write("awsm.toml", functions[1..].concat());
    all_are_told(&run("serve", &["--listen", "127.0.0.1:0"], &config), &told);
}

#[test]
fn checking_lets_a_node_be_that_serves_the_same() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("socket");
    let functions = [listening(&scratch, &socket)];
    let node = Node::start("", &functions);
    let config = scratch.write("awsm.toml", &functions[0]);
    let mut check = awsm();
    check.arg("check").arg("--state-dir").arg(node.state_dir()).arg(config);
    let checked = check.output().expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("1 function, no mistakes"));
    UnixStream::connect(&socket).expect("it listens");
    assert_eq!(node.get("/server").status, 200);
}

/// More sandboxes than the system has mappings or addresses for: the line says of what, how much is
/// asked, how much there is, and what to do; checking says the same.
#[test]
fn more_sandboxes_than_fit_are_told_with_their_cause() {
    let scratch = Scratch::new();
    let module = scratch.write("many.wasm", wat::parse_str(begins_and("")).expect("a module"));
    let table = |number: usize| {
        format!("[[function]]\nname = \"f{number}\"\nroute = \"/f{number}\"\nmodule = {module:?}\n")
    };
    let functions: String = (0..20).map(table).collect();
    let config =
        scratch.write("awsm.toml", format!("[node]\nworkers = 2\nmappings = 100\n{functions}"));
    for arguments in [&["check"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let mut command = awsm();
        let command = command.args(arguments).arg("--state-dir").arg(scratch.path()).arg(&config);
        let said = common::refusal(&scratch, command);
        for part in [
            "may have 100 mappings",
            "20 functions on 2 workers are 40 sandboxes",
            "ask for 240 mappings",
            "`vm.max_map_count`",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // A process of less address space than the sandboxes reserve.
    let config = scratch.write("awsm.toml", format!("[node]\nworkers = 2\n{functions}"));
    let mut command = common::awsm_under("-v 200000000");
    let command = command.arg("check").arg("--state-dir").arg(scratch.path()).arg(&config);
    let said = common::refusal(&scratch, command);
    for part in [
        "bytes of addresses",
        "20 functions on 2 workers are 40 sandboxes",
        "set `isolation = \"checked\"`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
