//! A node that refuses: deadlines that callers tighten, tenants that have had their share, work
//! that cannot be done in time, and what is remembered of it all.

mod common;

use common::{Gate, Node, Scratch, eventually, function, named_function};

#[test]
fn callers_may_tighten_their_deadline() {
    let node = Node::start("", &[function("sleep", "/sleep", "timeout = \"1h\"")]);
    // Without them, an hour would pass.
    for header in ["X-Client-Timeout-Ms: 60", "grpc-timeout: 60m", "grpc-timeout: 60000u"] {
        let late = node.connect().request("POST", "/sleep", &[header], b"3600000");
        assert_eq!(late.status, 504, "{header}");
    }
    let loose = ["X-Client-Timeout-Ms: 999999"];
    assert_eq!(node.connect().request("POST", "/sleep", &loose, b"1").status, 200);
    for malformed in ["X-Client-Timeout-Ms: soon", "grpc-timeout: 5", "grpc-timeout: 0m"] {
        let mut client = node.connect();
        let refused = client.request("POST", "/sleep", &[malformed], b"1");
        assert_eq!(refused.status, 400, "{malformed}");
        let name = malformed.split_once(':').expect("a header").0.to_lowercase();
        assert!(refused.problem("detail").is_some_and(|detail| detail.contains(&name)));
        assert_eq!(client.request("POST", "/sleep", &[], b"1").status, 200, "the connection lives");
    }
}

#[test]
fn callers_never_loosen_their_deadline() {
    let node = Node::start("", &[function("sleep", "/sleep", "timeout = \"60ms\"")]);
    let headers = ["X-Client-Timeout-Ms: 3600000", "grpc-timeout: 1H"];
    assert_eq!(node.connect().request("POST", "/sleep", &headers, b"3600000").status, 504);
}

#[test]
fn a_tenant_over_its_quota_is_told_and_others_are_served() {
    let tenant = "[[tenant]]\nname = \"acme\"\nqueue = 1\nconcurrency = 1\n\n";
    let scratch = Scratch::new();
    let gate = Gate::new(&scratch, "gate", "tenant = \"acme\"");
    let functions = [gate.table.clone(), named_function("other", "null", "/", "")];
    let node = Node::start(tenant, &functions);
    let mut clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| client.send_request("POST", "/gate", &[], b""));
    // One has begun, one waits.
    gate.wait_for(&node, 1);
    let mut refused = None;
    eventually("one is refused", || {
        refused = clients.iter_mut().position(common::Client::is_answered);
        refused.is_some()
    });
    let refused = clients.remove(refused.expect("one is")).receive();
    assert_eq!((refused.status, refused.problem("title")), (429, Some("Too Many Requests")));
    let retry: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..60).contains(&retry));
    assert_eq!(node.get("/").status, 200, "the others have nothing to do with it");
    gate.open(2);
    for client in &mut clients {
        assert_eq!(client.receive().text(), "went on\n");
    }
}

/// `spin` for so long that a few of them at once cannot all be in time.
fn spinning(iterations: u32, slo: &str) -> String {
    let more = format!("args = [\"{iterations}\"]\nslo = {{ {slo} }}");
    named_function("spin", "spin", "/spin", &more)
}

#[test]
fn what_cannot_be_done_in_time_is_refused_at_once() {
    let node = Node::start("", &[spinning(100_000_000, "deadline = \"1s\"")]);
    // Each is measured; the first run on a core is not.
    for _ in 0..10 {
        assert_eq!(node.get("/spin").status, 200);
    }
    // Far more than a second's work.
    let mut clients: Vec<_> = (0..300).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send_request("GET", "/spin", &[], b"");
    }
    let answers: Vec<_> = clients.iter_mut().map(common::Client::receive).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(served > 0, "some fit");
    assert!(!refused.is_empty() && refused.len() + served == 300, "{} are refused", refused.len());
    for answer in refused {
        assert_eq!(answer.problem("detail"), Some("it cannot be done by its deadline"));
        assert!(answer.header("retry-after").is_some());
    }
}

#[test]
fn without_admission_all_are_taken() {
    let node = Node::start("admission = \"none\"", &[spinning(10_000_000, "deadline = \"100ms\"")]);
    for _ in 0..10 {
        assert_eq!(node.get("/spin").status, 200);
    }
    let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send_request("GET", "/spin", &[], b"");
    }
    assert!(clients.iter_mut().all(|client| client.receive().status == 200));
}

#[test]
fn what_was_measured_outlives_the_node() {
    let mut node = Node::start("", &[spinning(1_000_000, "deadline = \"2s\"")]);
    for _ in 0..20 {
        assert_eq!(node.get("/spin").status, 200);
    }
    let state = node.state_dir();
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait().success());
    let kept = state.join("profiles");
    let text = common::read(&kept);
    assert!(text.starts_with("awsm profiles 1\nspin "), "{text}");
}
