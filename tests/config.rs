//! `awsm.toml`: what it may say, and what a mistake is answered with.

use std::path::Path;
use std::time::Duration;

use awsm_sched::{Class, Nanos};

use awsm_node::config::{Abi, Config, FUNCTION_KEYS, Route, ServerTiming};

/// The shortest function, to be preceded or followed by what is tested.
const FUNCTION: &str = "[[function]]\nname = \"a\"\nmodule = \"a.wasm\"\nroute = \"/a\"\n";

fn error(text: &str) -> String {
    match Config::parse(Path::new("awsm.toml"), text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_one_line_with_file_and_line() {
    let function = |more: &str| format!("{FUNCTION}{more}\n");
    let unknown = format!(
        "awsm.toml:5: unknown key `zzz` in [[function]]; known keys: {}",
        FUNCTION_KEYS.join(", ")
    );
    let cases: &[(String, &str)] = &[
        (function("dirs = \"/data\""), "awsm.toml:5: `dirs` must be a table, not a string"),
        (
            function("dirs = { \"/data\" = { path = \"x\", mode = \"r\" } }"),
            "awsm.toml:5: `mode = \"r\"`: choose one of \"ro\", \"rw\"",
        ),
        (
            function("dirs = { \"/data\" = { mode = \"ro\" } }"),
            "awsm.toml:5: `path` is missing in a directory of `dirs`",
        ),
        (function("dev = 1"), "awsm.toml:5: `dev` must be true or false, not an integer"),
        (
            function("dev = true\ndirs = { \"/dev\" = { path = \"x\" } }"),
            "awsm.toml:1: `dev = true` and `/dev` in `dirs`: choose one",
        ),
        (
            function("connect = { REDIS = \"localhost\" }"),
            "awsm.toml:5: `REDIS = \"localhost\"`: an endpoint is HOST:PORT, such as \
             \"127.0.0.1:6379\", or \"unix:/path\"",
        ),
        (
            function("connect = { \"a-b\" = \"localhost:1\" }"),
            "awsm.toml:5: `a-b`: a name has 1 to 64 letters, digits and `_`, such as \"REDIS\"",
        ),
        (
            function("connect = { A = \"h:1\" }\nlisten = { A = \"h:1\" }"),
            "awsm.toml:1: `A` is in both `connect` and `listen`; each names a descriptor of its own",
        ),
        (
            function("stdin = \"body\""),
            "awsm.toml:5: `stdin = \"body\"`: choose \"request\", \"empty\" or \"file:PATH\"",
        ),
        (String::new(), "awsm.toml: no functions; add a [[function]] table"),
        (
            "[node]\nlisten = \"127.0.0.1:80\"\n".into(),
            "awsm.toml: no functions; add a [[function]] table",
        ),
        (
            function("rout = \"/b\""),
            "awsm.toml:5: unknown key `rout` in [[function]]; did you mean `route`?",
        ),
        (
            format!("[node]\nworkers = 1\nmemory = \"1000KiB\"\n{FUNCTION}"),
            "awsm.toml:3: `memory = \"1000KiB\"` is not within 1MiB to 65536GiB",
        ),
        (
            format!("[node]\nmemory = 5\n{FUNCTION}"),
            "awsm.toml:2: `memory = 5`: a size is a number and its unit: \"64KiB\", \"16MiB\"",
        ),
        (
            format!("[nod]\n{FUNCTION}"),
            "awsm.toml:1: unknown key `nod` in the top level; did you mean `node`?",
        ),
        (
            format!("[node]\n\nlisten_on = \"x\"\nquue = 3\n{FUNCTION}"),
            "awsm.toml:3: unknown key `listen_on` in [node]; did you mean `listen`?",
        ),
        (function("zzz = 1"), &unknown),
        (
            "[[function]]\nmodule = \"a.wasm\"\nroute = \"/\"\n".into(),
            "awsm.toml:1: `name` is missing in [[function]]",
        ),
        (
            function("\n[[function]]\nname = \"b\"\nmodule = \"b.wasm\""),
            "awsm.toml:6: `route` is missing in [[function]]",
        ),
        (
            "[function]\nname = \"a\"\n".into(),
            "awsm.toml:1: `function` is a table; write [[function]] with two brackets",
        ),
        (
            function("timeout = \"20\""),
            "awsm.toml:5: `timeout = \"20\"`: a duration is a number and its unit: \"500us\", \
             \"20ms\"",
        ),
        (
            function("timeout = 20"),
            "awsm.toml:5: `timeout = 20`: a duration is a number and its unit: \"500us\", \"20ms\"",
        ),
        (function("timeout = \"0s\""), "awsm.toml:5: `timeout = \"0s\"` is not within 1us to 24h"),
        (
            function("memory = \"16MB\""),
            "awsm.toml:5: `memory = \"16MB\"`: a size is a number and its unit: \"64KiB\", \
             \"16MiB\"",
        ),
        (
            function("memory = \"5GiB\""),
            "awsm.toml:5: `memory = \"5GiB\"` is not within 64KiB to 4GiB",
        ),
        (function("concurrency = -1"), "awsm.toml:5: `concurrency = -1` is not within 0 to 65536"),
        (
            function("concurrency = \"many\""),
            "awsm.toml:5: `concurrency` must be a whole number, not a string",
        ),
        (
            function("abi = \"cgi\""),
            "awsm.toml:5: `abi = \"cgi\"`: choose one of \"stdio\", \"wagi\"",
        ),
        (
            function("stack = \"64KiB\""),
            "awsm.toml:5: `stack = \"64KiB\"` is not within 128KiB to 1GiB",
        ),
        (
            function("entry = \"\""),
            "awsm.toml:5: `entry = \"\"`: the name of an exported function is needed, such as \
             \"handle\"",
        ),
        (function("status = { 2 = 100 }"), "awsm.toml:5: `2 = 100` is not within 200 to 599"),
        (
            function("status = { two = 400 }"),
            "awsm.toml:5: `two` is no exit code: write status = { 2 = 400 }",
        ),
        (
            function("abi = \"wagi\"\nstatus = { 2 = 400 }"),
            "awsm.toml:6: `status` is for `abi = \"stdio\"`: a wagi function says `Status: 400` \
             itself",
        ),
        (
            function("huge_pages = \"yes\""),
            "awsm.toml:5: `huge_pages` must be true or false, not a string",
        ),
        (
            function("isolation = \"none\""),
            "awsm.toml:5: `isolation = \"none\"`: choose one of \"guard\", \"checked\"",
        ),
        (
            format!("[node]\npolicy = \"lifo\"\n{FUNCTION}"),
            "awsm.toml:2: `policy = \"lifo\"`: choose one of \"fifo\", \"rr\", \"edf\", \"srpt\"",
        ),
        (
            format!("[node]\nreserve = 5\n{FUNCTION}"),
            "awsm.toml:2: `reserve = 5`: a share is a number and a percent sign: \"5%\", \"99.9%\"",
        ),
        (
            format!("[node]\nreserve = \"95%\"\n{FUNCTION}"),
            "awsm.toml:2: `reserve = \"95%\"` is not within 0% to 90%",
        ),
        (
            function("timeout = \"10ms\"\nslo = { deadline = \"20ms\" }"),
            "awsm.toml:6: `deadline` is 20ms but `timeout` ends the function after 10ms; \
             raise `timeout`",
        ),
        (
            function("slo = { dedline = \"20ms\" }"),
            "awsm.toml:5: unknown key `dedline` in slo; did you mean `deadline`?",
        ),
        (
            function("slo = { rate = \"0/s\" }"),
            "awsm.toml:5: `rate = \"0/s\"`: a rate is more than 0/s and at most 1000000000/s",
        ),
        (
            function("log_rate = \"64KiB\""),
            "awsm.toml:5: `log_rate = \"64KiB\"`: a size, its unit and \"/s\": \"64KiB/s\"",
        ),
        (
            function("log_lines = \"2000000/s\""),
            "awsm.toml:5: `log_lines = \"2000000/s\"` is not within 0/s to 1000000/s",
        ),
        (
            function("tenant = \"acme\""),
            "awsm.toml:5: no tenant `acme`; add a [[tenant]] table with that name",
        ),
        (
            format!("[[tenant]]\nname = \"a\"\nbudget = \"20ms\"\nperiod = \"10ms\"\n{FUNCTION}"),
            "awsm.toml:1: a budget of 20ms does not fit into a period of 10ms",
        ),
        (
            format!("[[tenant]]\nname = \"a\"\nhard = true\n{FUNCTION}"),
            "awsm.toml:1: `period` and `hard` say nothing without a `budget`",
        ),
        (
            format!("[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n{FUNCTION}"),
            "awsm.toml:3: a tenant named `a` is there already",
        ),
        (
            format!("[node]\nlisten = \"localhost\"\n{FUNCTION}"),
            "awsm.toml:2: `listen = \"localhost\"`: an address and a port are needed, such as \
             \"127.0.0.1:8080\"",
        ),
        (
            function("methods = \"GET\""),
            "awsm.toml:5: `methods` must be an array of strings, not a string",
        ),
        (
            function("methods = [\"GET\",\n \"post\"]"),
            "awsm.toml:6: `methods = \"post\"`: a method is in capitals, such as \"GET\" or \
             \"POST\"; the node is no proxy for CONNECT",
        ),
        (
            function("methods = []"),
            "awsm.toml:5: `methods` is empty: name some, or leave it out for all",
        ),
        (function("env = [1]"), "awsm.toml:5: `env` must be a table of strings, not an array"),
        (
            function("env = { A = \"1\", \"B=\" = \"2\" }"),
            "awsm.toml:5: a variable's name is not empty and has no `=`",
        ),
        (function("args = [1]"), "awsm.toml:5: `args` must be a string, not an integer"),
        (
            FUNCTION.replace("\"/a\"", "\"a\""),
            "awsm.toml:4: `route = \"a\"`: a route is a path such as \"/hello\", or \
             \"/hello/...\" with all below it",
        ),
        (
            FUNCTION.replace("\"/a\"", "\"/x/*\""),
            "awsm.toml:4: `route = \"/x/*\"`: a route has no patterns; \"/x/...\" is for \
             all below /x",
        ),
        (
            FUNCTION.replace("\"/a\"", "\"/{user}/x\""),
            "awsm.toml:4: `route = \"/{user}/x\"`: a route has no patterns; \"/...\" is for all \
             below /",
        ),
        (
            FUNCTION.replace("\"a\"", "\"a b\""),
            "awsm.toml:2: `name = \"a b\"`: a name has 1 to 64 letters, digits, `-`, `_` or `.`",
        ),
        (
            format!("{FUNCTION}\n{FUNCTION}"),
            "awsm.toml:6: a function named `a` is already at line 1",
        ),
        (
            format!("{FUNCTION}\n{}", FUNCTION.replace("\"a\"", "\"b\"")),
            "awsm.toml:6: route /a is already taken by `a` at line 1",
        ),
        (function("route = \"/b\""), "awsm.toml:5: duplicate key"),
        (
            function("= 3"),
            "awsm.toml:5: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
        ),
    ];
    for (text, expected) in cases {
        let found = error(text);
        assert_eq!(found, *expected, "for:\n{text}");
        assert!(!found.contains('\n'));
    }
}

#[test]
fn everything_can_be_said() {
    let text = r#"
        [node]
        listen = "[::1]:0"
        workers = 2
        policy = "fifo"
        quantum = "200us"
        admission = "density"
        reserve = "12.5%"
        unprofiled = 9
        state_dir = "/tmp/state"
        cache_dir = "/tmp/cache"
        cache_size = "100MiB"
        queue = 10
        sandboxes = 20
        connections = 30
        body_memory = "1MiB"
        header_bytes = "16KiB"
        header_count = 50
        header_timeout = "1s"
        body_timeout = "2s"
        idle_timeout = "3s"
        shutdown_timeout = "4s"
        watchdog = "5s"
        half_close_timeout = "6s"
        server_timing = "off"
        strict = true

        [[function]]
        name = "hello"
        module = "bin/hello.wasm"
        route = "/hello/..."
        methods = ["GET", "POST"]
        abi = "wagi"
        args = ["-v"]
        env = { LANG = "C" }
        content_type = "text/plain"
        memory = "1MiB"
        entry = "handle"
        stack = "2MiB"
        huge_pages = true
        body = "0B"
        output = "64KiB"
        timeout = "500us"
        concurrency = 7
        isolation = "checked"
        cpu_limit = "100us"
        tenant = "acme"
        log_rate = "3MiB/s"
        log_lines = "70/s"
        slo = { deadline = "400us", percentile = "99.9%", class = "best-effort", rate = "200/s" }

        [[tenant]]
        name = "acme"
        budget = "20ms"
        period = "80ms"
        hard = true
        queue = 17
        concurrency = 5
        log_rate = "0B/s"
    "#;
    let config = Config::parse(Path::new("etc/awsm.toml"), text).expect("a good configuration");
    assert_eq!((config.node.workers, config.node.queue), (2, 10));
    assert_eq!(config.node.idle_timeout, Duration::from_secs(3));
    assert_eq!(config.node.watchdog, Duration::from_secs(5));
    assert!(config.node.strict);
    assert_eq!(config.node.cache_bytes, 100 << 20);
    assert_eq!((config.node.reserve_ppm, config.node.unprofiled), (125_000, 9));
    let (tenant, slo) = (&config.tenants[0], &config.functions[0].slo);
    let budget = tenant.budget.expect("it has one");
    assert_eq!((budget.amount, budget.period), (Nanos(20_000_000), Nanos(80_000_000)));
    assert_eq!((budget.hard, tenant.queue, tenant.concurrency), (true, 17, 5));
    assert_eq!((slo.deadline, slo.percentile_ppm), (Duration::from_micros(400), 999_000));
    assert_eq!((slo.class, slo.rate_per_ks), (Class::BestEffort, Some(200_000)));
    assert_eq!(config.functions[0].cpu_limit, Some(Duration::from_micros(100)));
    assert_eq!(config.functions[0].tenant, Some(0));
    let log = config.functions[0].log;
    assert_eq!((log.bytes, log.lines, tenant.log.bytes, tenant.log.lines), (3 << 20, 70, 0, 4000));
    let function = &config.functions[0];
    assert_eq!(function.module, Path::new("etc/bin/hello.wasm"));
    assert_eq!(function.route, Route::Prefix("/hello".into()));
    assert_eq!(function.abi, Abi::Wagi);
    assert_eq!(function.args, ["hello", "-v"]);
    assert_eq!(function.timeout, Duration::from_micros(500));
    assert_eq!((function.body_bytes, function.memory_bytes), (0, 1 << 20));
    assert!(function.huge_pages);
    assert_eq!((function.entry.as_deref(), function.stack_bytes), (Some("handle"), 2 << 20));
    assert_eq!(config.node.half_close_timeout, Duration::from_secs(6));
    assert_eq!(config.node.server_timing, ServerTiming::Off);
}

#[test]
fn routes_may_share_a_path_when_their_methods_differ() {
    let with = |name: &str, methods: &str| {
        FUNCTION.replace("\"a\"", &format!("\"{name}\"")) + &format!("methods = [{methods}]\n")
    };
    let good = with("a", "\"GET\"") + &with("b", "\"POST\"");
    assert!(Config::parse(Path::new("awsm.toml"), &good).is_ok());
    let bad = with("a", "\"GET\", \"PUT\"") + &with("b", "\"PUT\"");
    assert_eq!(error(&bad), "awsm.toml:6: route /a is already taken by `a` at line 1");
}

#[test]
fn the_file_must_be_there() {
    let missing = Config::load(Path::new("no/such/awsm.toml")).expect_err("it is not there");
    assert_eq!(
        missing.to_string(),
        "no/such/awsm.toml: cannot read: No such file or directory (os error 2)"
    );
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = dir.join("missing-module.toml");
    std::fs::write(&file, FUNCTION).expect("the scratch directory is writable");
    let loaded = Config::load(&file).expect("what it leads to is looked at later");
    assert_eq!(loaded.functions[0].module, dir.join("a.wasm"));
}

#[test]
fn each_table_has_its_mistake_told() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = dir.join("many-mistakes.toml");
    let text = format!(
        "[node]\nworkers = -1\n{FUNCTION}rout = \"/x\"\n{}{FUNCTION}",
        FUNCTION.replace("\"a\"", "\"b\"").replace("\"/a\"", "\"b\"")
    );
    std::fs::write(&file, text).expect("the scratch directory is writable");
    let mistakes = Config::load_or_all(&file).expect_err("three are wrong");
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [Some(2), Some(7), Some(11)], "{mistakes:?}");
}

#[test]
fn the_examples_are_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("examples") {
        let file = entry.expect("readable").path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&file).expect("readable");
            Config::parse(&file, &text).expect("an example is good");
            count += 1;
        }
    }
    assert!(count > 0);
}
