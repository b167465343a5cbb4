//! The command line: exit codes, what passes through, and one-line errors.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use common::{Scratch, awsm, function, guest, root};

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("awsm runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with exit code 1 and this line.
#[track_caller]
fn refused(command: &mut Command, expected: &str) {
    let output = output(command);
    assert_eq!(stderr(&output), format!("error: {expected}\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn every_guest_answers_as_the_table_says() {
    let data = root().join("guests/data");
    let table = fs::read_to_string(data.join("cases.tsv")).expect("the table of cases");
    let cases: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(cases.len() > 50);
    // One thread for each mode; each guest is built once.
    thread::scope(|scope| {
        for memory in ["guard", "checked"] {
            let (data, cases) = (&data, &cases);
            scope.spawn(move || {
                let scratch = Scratch::new();
                let options = ["--memory", memory];
                for case in cases {
                    let object = scratch.path().join(case[0]).with_extension("so");
                    if !object.is_file() {
                        let mut build = awsm();
                        build.arg("build").args(options).arg(guest(case[0])).arg("-o").arg(&object);
                        let built = output(&mut build);
                        assert!(built.status.success(), "{}", stderr(&built));
                    }
                    check(case, &object, data);
                }
            });
        }
    });
}

/// One line of the table.
fn check(case: &[&str], object: &Path, data: &Path) {
    let [_, args, env, stdin, stdout, exit, _] = case else {
        panic!("not seven columns: {case:?}");
    };
    let words = |text: &str| -> Vec<String> {
        text.split(' ').filter(|word| *word != "-").map(str::to_owned).collect()
    };
    let file = |name: &str| if name == "-" { Vec::new() } else { bytes(&data.join(name)) };
    let mut command = awsm();
    command.arg("run");
    for variable in words(env) {
        command.args(["--env", &variable]);
    }
    command.arg(object).args(words(args));
    let (code, out, err) = feed(&mut command, &file(stdin));
    let shown = format!("{}: {case:?}: {err}", object.display());
    assert!(out == file(stdout), "{shown}: {}", String::from_utf8_lossy(&out));
    match exit.strip_prefix("trap:") {
        Some(trap) => {
            assert_eq!(code, Some(134), "{shown}");
            let (first, callers) = err.split_once('\n').expect("whole lines");
            assert!(first.contains(&format!(": trap: {trap}")), "{shown}");
            assert!(callers.lines().all(|line| line.starts_with("    at ")), "{shown}");
        }
        None => assert_eq!(code, exit.parse().ok(), "{shown}"),
    }
}

fn bytes(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Runs a command on this input.
fn feed(command: &mut Command, input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("awsm runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A guest may end without reading it all.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("awsm ends");
    let _ = writer.join().expect("the writer ends");
    let err = stderr(&output);
    (output.status.code(), output.stdout, err)
}

#[test]
fn streams_arguments_and_exit_codes_pass_through() {
    let (code, out, err) = feed(awsm().arg("run").arg(guest("echo")), b"in and out");
    assert_eq!((code, out.as_slice(), err.as_str()), (Some(0), b"in and out".as_slice(), ""));
    let (code, ..) = feed(awsm().arg("run").arg(guest("exit")).arg("42"), b"");
    assert_eq!(code, Some(42));
    // What looks like a flag of ours is the guest's.
    let (code, ..) = feed(awsm().arg("run").arg(guest("sleep")).arg("--help"), b"");
    assert_eq!(code, Some(1));
    let (code, out, _) = feed(awsm().arg("run").arg(guest("sleep")).arg("20"), b"");
    assert_eq!((code, out.as_slice()), (Some(0), b"slept 20\n".as_slice()));
}

#[test]
fn modules_are_built_once_and_run_as_they_are() {
    let scratch = Scratch::new();
    let wasm = scratch.path().join("null.wasm");
    fs::copy(guest("null"), &wasm).expect("a copy");
    let built = output(awsm().arg("build").arg(&wasm));
    assert!(built.status.success(), "{}", stderr(&built));
    let object = scratch.path().join("null.so");
    assert!(object.is_file());
    assert_eq!(output(awsm().arg("run").arg(&object)).status.code(), Some(0));
    let elsewhere = scratch.path().join("other.so");
    let options = ["-o", elsewhere.to_str().expect("text"), "-O0", "--memory", "checked"];
    assert!(output(awsm().arg("build").arg(&wasm).args(options)).status.success());
    assert_ne!(bytes(&object), bytes(&elsewhere));

    let cache = scratch.path().join("cache");
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut command = awsm();
            command.arg("run").arg("--cache-dir").arg(&cache).arg(&wasm);
            thread::spawn(move || output(&mut command).status.code())
        })
        .collect();
    for run in runs {
        assert_eq!(run.join().expect("it runs"), Some(0));
    }
    let names: Vec<_> = fs::read_dir(&cache)
        .expect("a cache")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(names.len(), 1, "one object, no drafts: {names:?}");
    assert_eq!(names[0].len(), 64 + ".so".len());

    // An entry that was damaged or cut off is made anew.
    let entry = cache.join(&names[0]);
    let whole = bytes(&entry);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for bad in [&damaged[..], &whole[..whole.len() / 2], &[]] {
        fs::write(&entry, bad).expect("written");
        let mut command = awsm();
        command.arg("run").arg("--cache-dir").arg(&cache).arg(&wasm);
        assert_eq!(output(&mut command).status.code(), Some(0));
        assert_eq!(bytes(&entry), whole);
    }
}

#[test]
fn bad_modules_are_refused_in_one_line() {
    let scratch = Scratch::new();
    let missing = scratch.path().join("missing.wasm");
    let missing_name = missing.display();
    let message = format!("{missing_name}: cannot read: No such file or directory (os error 2)");
    refused(awsm().arg("run").arg(&missing), &message);
    refused(awsm().arg("build").arg(&missing), &format!("{missing_name}: no such file"));

    let wasm = bytes(&guest("echo"));
    let truncated = &wasm[..wasm.len() / 2];
    let cases: [(&str, &[u8]); 3] =
        [("text.wasm", b"hello, world"), ("empty.wasm", b""), ("half.wasm", truncated)];
    for (name, content) in cases {
        let file = scratch.write(name, content);
        for verb in ["run", "build"] {
            let output = output(awsm().arg(verb).arg(&file));
            let err = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{verb} {name}: {err}");
            assert!(err.starts_with(&format!("error: {}: ", file.display())), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
        }
    }

    let import = scratch.write(
        "import.wat",
        "(module (import \"env\" \"launch\" (func (param i32))) (func (export \"_start\")))",
    );
    let name = import.display();
    let run = output(awsm().arg("run").arg(&import));
    let err = stderr(&run);
    assert!(err.starts_with(&format!("error: {name}: unknown import `env.launch`")), "{err}");
    let library = scratch.write("library.wat", "(module (func (export \"f\")))");
    refused(
        awsm().arg("run").arg(&library),
        &format!(
            "{}: no function `_start` is exported: build the module as a command, or name another \
             function, such as `f` (`entry` in awsm.toml, `--invoke` of `awsm run`)",
            library.display()
        ),
    );
    let object = scratch.write("fake.so", "not an object");
    refused(
        awsm().arg("run").arg(&object),
        &format!(
            "{}: is not a shared object: compile the module with `awsm build`",
            object.display()
        ),
    );
}

/// A program of the shell.
fn script(scratch: &Scratch, name: &str, lines: &str) -> PathBuf {
    let file = scratch.write(name, format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    file
}

/// A module that cannot run is refused before the compiler has looked at it.
#[test]
fn what_cannot_run_is_not_compiled() {
    let scratch = Scratch::new();
    let compiled = scratch.path().join("compiled");
    let compiler = script(
        &scratch,
        "awsmc",
        &format!(
            "case \" $* \" in *--fingerprint*) echo f;; *) touch {}; exit 1;; esac",
            compiled.display()
        ),
    );
    let imports: String = (0..7)
        .map(|n| format!("(import \"env\" \"invoke_{n}\" (func))"))
        .chain(["(func (export \"_start\"))".to_owned()])
        .collect();
    let imports = wat::parse_str(format!("(module {imports})")).expect("it is text");
    let cases: [(&str, &[u8], &str); 4] = [
        ("component.wasm", b"\0asm\x0d\0\x01\0", "is a component"),
        ("packed.wasm", b"\x1f\x8b\x08\0", "is compressed by gzip"),
        ("page.wasm", b"<html>", "is no WebAssembly module"),
        (
            "browser.wasm",
            &imports,
            "unknown import `env.invoke_0`, `env.invoke_1`, `env.invoke_2` and 4 more: made by \
             Emscripten",
        ),
    ];
    for (name, content, says) in cases {
        let file = scratch.write(name, content);
        let cache = scratch.path().join("cache");
        let mut command = awsm();
        command.args(["run", "--awsmc"]).arg(&compiler).arg("--cache-dir").arg(cache).arg(&file);
        let output = output(&mut command);
        let err = stderr(&output);
        let says = format!("error: {}: {says}", file.display());
        assert!(err.starts_with(&says), "{err}");
        assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{err}");
    }
    assert!(!compiled.exists());
}

/// `awsm build` hands the compiler's limits on, and takes no other name for standard output.
#[test]
fn the_compiler_has_limits_that_can_be_set() {
    let scratch = Scratch::new();
    let module = guest("null");
    let compiler = script(&scratch, "awsmc", "echo \"$*\" >&2; exit 1");
    let limits = [
        ("--max-wall", "1000"),
        ("--max-cpu", "2000"),
        ("--max-memory", "300"),
        ("--max-output", "4"),
    ];
    let mut command = awsm();
    command.args(["build", "--awsmc"]).arg(&compiler).arg(&module);
    command.args(["-o"]).arg(scratch.path().join("null.so"));
    limits.iter().for_each(|(flag, value)| _ = command.args([flag, value]));
    let said = stderr(&output(&mut command));
    for (flag, value) in limits {
        assert!(said.contains(&format!(" {flag}={value} ")), "{said}");
    }
    refused(
        awsm().args(["build", "-o", "-"]).arg(&module),
        "-: standard output takes no object; name a file, such as `./-`",
    );
}

/// A stack that has grown through the beginning of memory is told from other wild addresses.
#[test]
fn a_full_stack_is_named() {
    let scratch = Scratch::new();
    let deep = scratch.write(
        "deep.wat",
        "(module (memory 1) (func (export \"_start\") (i32.store (i32.const -16) (i32.const 1))))",
    );
    let deep = output(awsm().arg("run").arg(&deep));
    assert!(stderr(&deep).contains("a stack in linear memory is full"), "{}", stderr(&deep));
    let wild = scratch.write(
        "wild.wat",
        "(module (memory 1) (func (export \"_start\") (i32.store (i32.const 0x10000000) (i32.const 1))))",
    );
    let wild = output(awsm().arg("run").arg(&wild));
    assert!(!stderr(&wild).contains("stack"), "{}", stderr(&wild));
}

#[test]
fn the_compiler_may_be_missing() {
    let scratch = Scratch::new();
    let alone = scratch.path().join("awsm");
    fs::copy(env!("CARGO_BIN_EXE_awsm"), &alone).expect("a copy");
    let run = |envs: &[(&str, &str)]| {
        let mut command = Command::new(&alone);
        command.arg("run").arg(guest("null")).env("PATH", "").envs(envs.iter().copied());
        command.env("XDG_CACHE_HOME", scratch.path().join("cache")).env_remove("AWSM_AWSMC");
        command.envs(envs.iter().copied());
        command
    };
    let null = guest("null").display().to_string();
    refused(
        &mut run(&[]),
        &format!(
            "{null}: the compiler `awsmc` is not beside `awsm` and not on the PATH: \
             build it, or name it with --awsmc or AWSM_AWSMC"
        ),
    );
    refused(
        &mut run(&[("AWSM_AWSMC", "/no/such/awsmc")]),
        &format!(
            "{null}: /no/such/awsmc: cannot run the compiler: No such file or directory (os error 2)"
        ),
    );
    refused(
        &mut run(&[("AWSM_AWSMC", "/bin/false")]),
        &format!(
            "{null}: the compiler ended without a word (exit status: 1): \
             most likely it ran out of memory or time"
        ),
    );
    let own = Path::new(env!("CARGO_BIN_EXE_awsm")).with_file_name("awsmc");
    let named = output(&mut run(&[("AWSM_AWSMC", own.to_str().expect("text"))]));
    assert!(named.status.success(), "{}", stderr(&named));
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["serve", "--workers", "many"],
        &["build", "x.wasm", "--memory", "none"],
        &["run", "--env", "novalue", "x.wasm"],
    ] {
        let output = output(awsm().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn it_tells_about_itself() {
    let version = output(awsm().arg("--version"));
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(text.starts_with(concat!("awsm ", env!("CARGO_PKG_VERSION"), " (")), "{text}");
    let help = output(awsm().args(["serve", "--help"]));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(text.contains("AWSM_LISTEN") && help.status.success(), "{text}");
    for shell in ["bash", "zsh", "fish"] {
        let completions = output(awsm().args(["completions", shell]));
        assert!(completions.status.success() && completions.stdout.len() > 1000, "{shell}");
    }
}

#[test]
fn configurations_are_checked() {
    let scratch = Scratch::new();
    let good = scratch.write("good.toml", function("null", "/", ""));
    let checked = output(awsm().arg("check").arg(&good));
    assert!(checked.status.success());
    assert_eq!(
        String::from_utf8_lossy(&checked.stdout),
        format!("{}: 1 function, no mistakes\n", good.display())
    );
    let bad = scratch.write("bad.toml", function("null", "/", "rout = \"/x\""));
    let line =
        format!("{}:5: unknown key `rout` in [[function]]; did you mean `route`?", bad.display());
    refused(awsm().arg("check").arg(&bad), &line);
    refused(awsm().arg("serve").arg(&bad), &line);
    let mismatch = scratch.write("mismatch.toml", {
        let built = output(
            awsm().arg("build").arg(guest("null")).arg("-o").arg(scratch.path().join("n.so")),
        );
        assert!(built.status.success());
        "[[function]]\nname = \"n\"\nmodule = \"n.so\"\nroute = \"/\"\nisolation = \"checked\"\n"
    });
    refused(
        awsm().arg("serve").arg(&mismatch),
        &format!(
            "{}:1: function `n`: {}: is compiled with `--memory guard`, the configuration says `checked`: \
             compile it again, or change `isolation`",
            mismatch.display(),
            scratch.path().join("n.so").display()
        ),
    );
    let tight = scratch.write("tight.toml", function("sha", "/", "memory = \"64KiB\""));
    let output = output(awsm().args(["serve", "--listen", "127.0.0.1:0"]).arg(&tight));
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("function `_`: ") && err.contains("may have 65536"), "{err}");
}

#[test]
fn benchmarks_are_elsewhere() {
    let scratch = Scratch::new();
    let alone = scratch.path().join("awsm");
    fs::copy(env!("CARGO_BIN_EXE_awsm"), &alone).expect("a copy");
    refused(
        Command::new(&alone).args(["bench", "startup"]).env("PATH", ""),
        "`awsm-bench` is not beside `awsm` and not on the PATH: `make bench-startup` builds and \
         runs it",
    );
}

/// A configuration of the `sha` function with an objective, and where its state is kept.
fn planned(scratch: &Scratch, slo: &str) -> Vec<String> {
    let text = format!(
        "[[function]]\nname = \"sha\"\nmodule = {:?}\nroute = \"/sha\"\nslo = {{ {slo} }}\n",
        guest("sha").display().to_string()
    );
    let config = scratch.write("awsm.toml", text).display().to_string();
    let state = scratch.path().join("state").display().to_string();
    vec![config, "--state-dir".to_owned(), state]
}

#[test]
fn functions_are_measured_and_planned_before_they_are_served() {
    let scratch = Scratch::new();
    let input = scratch.write("input", "a".repeat(10_000)).display().to_string();
    let plan = |slo: &str| output(awsm().arg("plan").args(planned(&scratch, slo)));
    let before = plan("deadline = \"1s\", rate = \"1/m\"");
    let said = String::from_utf8_lossy(&before.stderr).into_owned();
    assert!(said.contains("`sha` has no profile: `awsm profile sha --input FILE`"), "{said}");

    let options = planned(&scratch, "deadline = \"1s\", rate = \"1/m\"");
    let mut profile = awsm();
    profile.args(["profile", "sha", "--runs", "30", "--format", "json"]).arg("--config");
    let profile = output(profile.args(&options).args(["--input", &input]));
    let said = String::from_utf8_lossy(&profile.stdout).into_owned();
    assert!(profile.status.success(), "{}", String::from_utf8_lossy(&profile.stderr));
    for part in [
        "\"function\": \"sha\"",
        "\"runs\": 30",
        "\"pages\": ",
        "\"estimate_ns\": ",
        "\"estimate_request_bytes\": 10000",
        "\"runs_within_estimate\": ",
        "\"wall_ns\": ",
        "\"taken_by_others\": ",
    ] {
        assert!(said.contains(part), "{said}");
    }

    let fits = plan("deadline = \"1s\", rate = \"1/m\"");
    let said = String::from_utf8_lossy(&fits.stdout).into_owned();
    assert!(fits.status.success() && said.starts_with("schedulable on "), "{said}");
    let one = output(awsm().arg("plan").args(&options).args(["--cores", "1"]));
    let said = String::from_utf8_lossy(&one.stdout).into_owned();
    assert!(said.starts_with("schedulable on 1 core\n"), "{said}");
    let much = plan("deadline = \"1s\", rate = \"100000000/s\"");
    let said = String::from_utf8_lossy(&much.stdout).into_owned();
    assert_eq!(much.status.code(), Some(1), "{said}");
    assert!(said.contains("not schedulable") && said.contains("cores would do"), "{said}");
    let short = plan("deadline = \"2us\", rate = \"1/m\"");
    let said = String::from_utf8_lossy(&short.stdout).into_owned();
    assert!(said.contains("`sha` cannot keep its deadline of 2us"), "{said}");
    let silent = plan("deadline = \"1s\"");
    assert!(String::from_utf8_lossy(&silent.stderr).contains("`sha` has no rate"));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let scratch = Scratch::new();
    let options = planned(&scratch, "deadline = \"1s\"");
    let config = options[0].clone();
    refused(
        awsm().args(["profile", "shah", "--config"]).args(&options),
        &format!("{config}: no function `shah`; there are sha"),
    );
    let missing = scratch.path().join("missing").display().to_string();
    refused(
        awsm().args(["profile", "sha", "--config"]).args(&options).args(["--input", &missing]),
        &format!("{missing}: No such file or directory (os error 2)"),
    );
}

#[test]
fn simulations_are_repeatable() {
    let scratch = Scratch::new();
    let mut lines = "arrival_us,function,run,deadline\n".to_owned();
    for job in 0..400 {
        lines +=
            &format!("{},f{},1ms,{}\n", job * 700, job % 3, if job % 2 == 0 { "9ms" } else { "" });
    }
    let trace = scratch.write("trace.csv", lines);
    let plot = scratch.path().join("plot.svg");
    let simulate = |seed: &str| {
        let mut command = awsm();
        command.arg("simulate").arg(&trace).args(["--format", "json", "--cores", "2"]);
        let output = output(command.args(["--seed", seed, "--plot"]).arg(&plot));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let first = simulate("1");
    assert_eq!(first, simulate("1"));
    assert_ne!(first, simulate("2"));
    for policy in ["fifo", "rr", "edf", "srpt"] {
        assert!(first.contains(&format!("\"policy\": \"{policy}\"")), "{first}");
    }
    assert!(first.contains("\"invocations\": 400"), "{first}");
    let drawn = fs::read_to_string(plot).expect("a plot");
    assert!(drawn.starts_with("<svg") && drawn.contains("latency, microseconds"));
    let bad = scratch.write("bad.csv", "arrival,function,run\n1ms,a,soon\n");
    refused(
        awsm().arg("simulate").arg(&bad),
        &format!(
            "{}:2: `soon`: a time is a number and its unit, or the header ends in `_us`",
            bad.display()
        ),
    );
}

#[test]
fn simulations_refuse_what_says_nothing() {
    let scratch = Scratch::new();
    let trace = scratch.write("trace.csv", "arrival_us,function,run_us\n5,a,10\n6,a,3\n");
    for (option, value) in [
        ("--kind", "poisson"),
        ("--invocations", "100"),
        ("--load", "0.5"),
        ("--run", "1ms"),
        ("--slack", "2"),
        ("--size-correlation", "0.5"),
    ] {
        let output = output(awsm().arg("simulate").arg(&trace).args([option, value]));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{option}: {said}");
        assert!(said.contains("cannot be used with") && said.contains(option), "{said}");
    }
    for policy in ["fifo", "rr"] {
        refused(
            awsm().args(["simulate", "--policy", policy, "--quantum", "2us"]),
            "--quantum 2µs is over before --switching 2µs is: nothing would ever end; make it longer",
        );
    }
    // What is told and what is drawn is said, and the two seeds are two.
    let said = |options: &[&str]| {
        let fixed =
            ["--invocations", "2000", "--format", "json", "--policy", "srpt", "--cores", "4"];
        let output = output(awsm().arg("simulate").args(fixed).args(options));
        String::from_utf8(output.stdout).expect("text")
    };
    let plain = said(&[]);
    assert!(plain.contains("\"size_correlation\": 0.0"), "{plain}");
    assert_eq!(plain, said(&["--placement-seed", "1"]));
    assert_ne!(plain, said(&["--placement-seed", "2"]));
    let mut command = awsm();
    command.arg("simulate").arg(&trace).args(["--exact", "--policy", "edf"]);
    let told = String::from_utf8(output(&mut command).stdout).expect("text");
    assert!(told.contains("run times told"), "{told}");
}

#[test]
fn a_trap_says_who_was_running() {
    let scratch = Scratch::new();
    let module = scratch.path().join("traps.wat");
    let text = "(module (memory 1) (type $f (func (param i32) (result i32)))
        (table funcref (elem $parse_header))
        (func $parse_header (type $f) (i32.load (local.get 0)))
        (func $main (export \"_start\")
            (i32.store (i32.const 0) (call_indirect (type $f) (i32.const 0x10fe0) (i32.const 0)))))";
    fs::write(&module, text).expect("written");
    for memory in ["guard", "checked"] {
        let mut command = awsm();
        command.args(["run", "--memory", memory, "--cache-dir"]).arg(scratch.path()).arg(&module);
        let output = output(&mut command);
        let place = if memory == "guard" { " at 0x10fe0" } else { "" };
        let expected = format!(
            "error: {}: trap: out of bounds memory access{place} in parse_header\n    \
             at parse_header\n    at main\n",
            module.display()
        );
        let said = stderr(&output);
        assert_eq!(said.trim_start_matches("error: "), expected.trim_start_matches("error: "));
        assert_eq!(output.status.code(), Some(134));
    }
}
