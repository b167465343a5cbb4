//! Files of modules and of the cache, and everything that may happen to them: no function ever
//! answers with another's code, nothing ends the node, and each is told.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{Node, Scratch, awsm, eventually, refusal, wait};
use rustix::process::Signal;

/// A command that answers with this name, which stands in its code and nowhere else.
fn wat(name: &str) -> String {
    let stores: String = (16..)
        .zip(name.bytes())
        .map(|(at, byte)| format!("(i32.store8 (i32.const {at}) (i32.const {byte}))\n"))
        .collect();
    format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\"
             (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\")
             {stores}
             (i32.store (i32.const 0) (i32.const 16))
             (i32.store (i32.const 4) (i32.const {}))
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))",
        name.len()
    )
}

fn module(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.write(&format!("{name}.wat"), wat(name))
}

fn object(scratch: &Scratch, name: &str) -> PathBuf {
    let object = scratch.path().join(format!("{name}.so"));
    let built = awsm().arg("build").arg(module(scratch, name)).arg("-o").arg(&object).status();
    assert!(built.expect("it runs").success());
    object
}

fn function(name: &str, module: &Path) -> String {
    format!("[[function]]\nname = \"{name}\"\nmodule = {module:?}\nroute = \"/{name}\"\n")
}

fn functions(scratch: &Scratch, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| function(name, &module(scratch, name))).collect()
}

fn cache_dir(cache: &Path) -> String {
    format!("cache_dir = {cache:?}")
}

fn answers(node: &Node, name: &str) {
    let answer = node.get(&format!("/{name}"));
    assert_eq!((answer.status, answer.text()), (200, name), "{}", node.log());
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
}

/// Are these entries, and nothing that was left behind?
fn only_entries(dir: &Path) {
    let names = names_in(dir);
    assert!(names.iter().all(|name| name.len() == 64 + 3 && name.ends_with(".so")), "{names:?}");
}

/// Compiles each module alone: the path of its entry.
fn entries(scratch: &Scratch, cache: &Path, names: &[&str]) -> Vec<PathBuf> {
    let one = |name: &&str| {
        let before = names_in(cache);
        let module = module(scratch, name);
        let ran = awsm().args(["run", "--cache-dir"]).arg(cache).arg(module).output();
        assert_eq!(ran.expect("it runs").stdout, name.as_bytes());
        let new: Vec<_> = names_in(cache).difference(&before).cloned().collect();
        assert_eq!(new.len(), 1, "{new:?}");
        cache.join(&new[0])
    };
    names.iter().map(one).collect()
}

type Damage = fn(&Path, &Path);

/// What happens to a file, given another of its kind.
const DAMAGES: [(&str, Damage); 7] = [
    ("over", |file, other| {
        fs::copy(other, file).expect("copied");
    }),
    ("noise", |file, _| fs::write(file, vec![0xa5; 40_000]).expect("written")),
    ("flip", |file, _| {
        let mut bytes = fs::read(file).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).expect("written");
    }),
    ("empty", |file, _| fs::write(file, b"").expect("written")),
    ("cut", |file, _| {
        let file = OpenOptions::new().write(true).open(file).expect("there");
        let bytes = file.metadata().expect("there").len();
        file.set_len(bytes / 2).expect("cut off");
    }),
    ("swap", |file, other| {
        let beside = file.with_extension("new");
        fs::copy(other, &beside).expect("copied");
        fs::rename(beside, file).expect("moved");
    }),
    ("remove", |file, _| fs::remove_file(file).expect("removed")),
];

#[test]
fn whatever_happens_to_the_files_under_load_each_function_answers_as_itself() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let compiled: Vec<String> =
        DAMAGES.iter().map(|(name, _)| format!("compiled-{name}")).collect();
    let compiled: Vec<&str> = compiled.iter().map(String::as_str).collect();
    let objects: Vec<String> = DAMAGES.iter().map(|(name, _)| format!("object-{name}")).collect();
    let other = entries(&scratch, &cache, &["other"]).remove(0);
    let other_object = object(&scratch, "other");
    let entries = entries(&scratch, &cache, &compiled);
    let object_files: Vec<_> = objects.iter().map(|name| object(&scratch, name)).collect();
    let of_modules = functions(&scratch, &compiled);
    let mut served = of_modules.clone();
    served.extend(objects.iter().zip(&object_files).map(|(name, file)| function(name, file)));
    let mut node = Node::start_workers(2, &cache_dir(&cache), &served);

    let names: Vec<&str> = objects.iter().map(String::as_str).chain(compiled).collect();
    let over = AtomicBool::new(false);
    let rounds = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        let callers: Vec<_> = rounds
            .iter()
            .map(|rounds| {
                let (node, names, over) = (&node, &names, &over);
                scope.spawn(move || {
                    let mut client = node.connect();
                    while !over.load(Ordering::Relaxed) {
                        for name in names {
                            let answer = client.request("GET", &format!("/{name}"), &[], b"");
                            assert_eq!((answer.status, answer.text()), (200, *name));
                        }
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Each caller calls each function before and after anything happens.
        let go_on = |what: &str| {
            for (caller, rounds) in callers.iter().zip(&rounds) {
                let now = rounds.load(Ordering::Relaxed);
                eventually(what, || {
                    rounds.load(Ordering::Relaxed) > now + 1 || caller.is_finished()
                });
                assert!(!caller.is_finished(), "{what}: {}", node.log());
            }
        };
        go_on("at first");
        for (at, (what, damage)) in DAMAGES.iter().enumerate() {
            damage(&object_files[at], &other_object);
            go_on(what);
            damage(&entries[at], &other);
            go_on(what);
        }
        let aside = scratch.path().join("aside");
        fs::rename(&cache, &aside).expect("moved");
        go_on("the cache is moved");
        fs::write(&cache, "no directory").expect("written");
        go_on("the cache is a file");
        fs::remove_file(&cache).expect("removed");
        fs::rename(&aside, &cache).expect("moved");
        over.store(true, Ordering::Relaxed);
    });
    let is_told =
        |log: &str, file: &Path| log.contains(&format!("{}: has changed", file.display()));
    let changed: Vec<_> = object_files.iter().chain(&entries).chain([&cache]).collect();
    let log = node.log_when(|log| changed.iter().all(|file| is_told(log, file)));
    assert!(!log.contains("panicked"), "{log}");
    node.signal(Signal::TERM);
    assert!(node.wait().success(), "{}", node.log());

    // The next node believes no entry that was damaged, and says so of each; then all is as it was.
    for damaged in [DAMAGES.len() - 1, 0] {
        let node = Node::start(&cache_dir(&cache), &of_modules);
        for name in names.iter().filter(|name| name.starts_with("compiled")) {
            answers(&node, name);
        }
        let log = node.log();
        let told = log.lines().filter(|line| line.contains("compiled again")).count();
        assert_eq!(told, damaged, "{log}");
        for (file, (what, _)) in entries.iter().zip(DAMAGES) {
            let lines = log.lines().filter(|line| line.contains(&file.display().to_string()));
            assert_eq!(
                lines.count(),
                usize::from(damaged > 0 && what != "remove"),
                "{what}: {log}"
            );
        }
    }
    only_entries(&cache);
}

/// A program that stands in for the compiler, or for what that calls.
fn script(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let script = scratch.write(name, format!("#!/bin/sh\n{text}"));
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("its own");
    script
}

fn awsmc() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_awsm")).with_file_name("awsmc")
}

/// Can this user have namespaces of this kind?
fn may_unshare(kind: &str) -> bool {
    let tried = Command::new("unshare").args([kind, "--fork", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("not shown: `unshare {kind}` is not permitted here");
    }
    may
}

/// The program in namespaces of its own.
fn awsm_unshared(arguments: &[&str]) -> Command {
    let plain = awsm();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--kill-child"]).args(arguments);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// As in two containers that share a volume: each node is process 1, and both compile at the same
/// time.
#[test]
fn nodes_with_the_same_process_number_never_mix_what_they_compile() {
    if !may_unshare("--pid") {
        return;
    }
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    // Nobody goes on before both have come to that point.
    let meet = |point: &str| {
        format!(
            ": > \"$MEET/{point}-$WHO\"\n\
             while [ -d \"$MEET\" ] && ! [ -e \"$MEET/{point}-one\" -a -e \"$MEET/{point}-two\" ]; \
             do sleep 0.01; done\n"
        )
    };
    let compiler = script(
        &scratch,
        "compiler",
        &format!(
            "case \"$*\" in *--fingerprint*) exec \"$AWSMC\" \"$@\";; esac\n\
             {}\"$AWSMC\" \"$@\"\ncode=$?\n{}exit $code\n",
            meet("begun"),
            meet("done")
        ),
    );
    let start = |who: &str| {
        let mut command = awsm_unshared(&["--pid", "--", env!("CARGO_BIN_EXE_awsm")]);
        command.envs([("WHO", who), ("AWSM_AWSMC", compiler.to_str().expect("text"))]);
        command.env("MEET", scratch.path()).env("AWSMC", awsmc());
        Node::start_by(command, 1, &cache_dir(&cache), &functions(&scratch, &[who]))
    };
    thread::scope(|scope| {
        let nodes = ["one", "two"].map(|who| (who, scope.spawn(move || start(who))));
        for (who, node) in nodes {
            answers(&node.join().expect("it serves"), who);
        }
    });
    only_entries(&cache);
    assert_eq!(names_in(&cache).len(), 2);
    // What they have left for others is right, too.
    let node = Node::start(&cache_dir(&cache), &functions(&scratch, &["one", "two"]));
    ["one", "two"].iter().for_each(|name| answers(&node, name));
    assert!(!node.log().contains("compiled again"), "{}", node.log());
}

#[test]
fn a_module_that_is_replaced_while_it_is_compiled_poisons_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let file = module(&scratch, "before");
    let other = module(&scratch, "after");
    let compiler = script(
        &scratch,
        "compiler",
        "case \"$*\" in *--fingerprint*) ;; *) cp \"$OTHER\" \"$FILE\";; esac\nexec \"$AWSMC\" \"$@\"\n",
    );
    let run = |compiler: &Path| {
        let mut command = awsm();
        command.args(["run", "--cache-dir"]).arg(&cache).arg(&file);
        command.env("AWSM_AWSMC", compiler).env("AWSMC", awsmc());
        let output = command.env("FILE", &file).env("OTHER", &other).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    // What was read is what runs; and what is kept is of that, not of what is there by now.
    assert_eq!(run(&compiler), "before");
    assert_eq!(run(&awsmc()), "after");
    fs::write(&file, wat("before")).expect("written");
    assert_eq!(run(&awsmc()), "before");
}

/// Is there a process that has inherited this variable?
fn lives(marker: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is there").flatten();
    let mut environments =
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|bytes| bytes.windows(marker.len()).any(|part| part == marker.as_bytes()))
}

#[test]
fn a_node_that_is_killed_leaves_no_compiler_and_the_next_one_no_draft() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let bin = scratch.path().join("bin");
    fs::create_dir(&bin).expect("made");
    // A linker that does not end before the test does.
    let linker = "while [ -e \"$LINKING\" ]; do sleep 0.01; done\n";
    script(&scratch, "bin/ld.lld-19", &format!(": > \"$LINKING\"\n{linker}"));
    let config =
        format!("[node]\n{}\n{}", cache_dir(&cache), functions(&scratch, &["one"]).concat());
    let config = scratch.write("awsm.toml", config);
    let linking = scratch.path().join("linking");
    let marker = format!("killed-node-{}", std::process::id());
    let path = std::env::var("PATH").expect("a path");
    let mut node = awsm();
    node.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(scratch.path().join("state"));
    node.arg(config).env("PATH", format!("{}:{path}", bin.display()));
    node.env("LINKING", &linking).env("MARKER", &marker);
    let mut node = node.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs");
    eventually("it links", || linking.exists());
    assert!(lives(&marker) && names_in(&cache).len() == 1, "at work in a draft");
    node.kill().expect("it is there");
    wait(&mut node);
    eventually("compiler and linker are gone", || !lives(&marker));

    // One that another node works in stays.
    let held = scratch.path().join("cache").join(format!("draft-{:032x}", 1));
    fs::create_dir(&held).expect("made");
    let held_dir = File::open(&held).expect("there");
    rustix::fs::flock(&held_dir, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let node = Node::start(&cache_dir(&cache), &functions(&scratch, &["one"]));
    answers(&node, "one");
    assert!(held.exists());
    fs::remove_dir(&held).expect("removed");
    only_entries(&cache);
}

#[test]
fn what_is_used_least_goes_first_and_what_is_served_stays() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    let names = ["one", "two", "three", "four"];
    let entries = entries(&scratch, &cache, &names);
    let bytes = fs::metadata(&entries[0]).expect("there").len();
    let used = |hours_ago: u64, entry: &Path| {
        let at = SystemTime::now() - Duration::from_secs(3600 * hours_ago);
        File::open(entry).and_then(|file| file.set_modified(at)).expect("its own");
    };
    let there = || entries.iter().map(|entry| entry.exists()).collect::<Vec<_>>();
    let size = |entries: u64| {
        format!("{}\ncache_size = \"{}B\"", cache_dir(&cache), entries * bytes + bytes / 2)
    };
    // The oldest is served.
    let first = Node::start(&size(8), &functions(&scratch, &["one"]));
    for (entry, hours_ago) in entries.iter().zip([9, 2, 8, 1]) {
        used(hours_ago, entry);
    }
    // A fifth is made, and there is room for three.
    let mut second = Node::start(&size(3), &functions(&scratch, &["five"]));
    assert_eq!(there(), [true, false, false, true], "{}", second.log());
    answers(&second, "five");
    assert!(second.log().contains("compiled modules evicted: 2"), "{}", second.log());
    assert_eq!(names_in(&cache).len(), 3);
    // Nothing of what is served goes, even if there is no room at all.
    let no_room = Node::start(&size(0), &functions(&scratch, &["six"]));
    assert_eq!(there(), [true, false, false, false], "{}", no_room.log());
    assert_eq!(names_in(&cache).len(), 3);
    assert!(no_room.log().contains("raise `cache_size`"), "{}", no_room.log());
    // A use makes an entry the youngest: `five` goes now, though made later than `one` was used
    // before.
    drop((first, no_room));
    second.signal(Signal::TERM);
    second.wait();
    entries.iter().filter(|entry| entry.exists()).for_each(|entry| used(9, entry));
    let run = awsm().args(["run", "--cache-dir"]).arg(&cache).arg(module(&scratch, "one")).output();
    assert_eq!(run.expect("it runs").stdout, b"one");
    drop(Node::start(&size(2), &functions(&scratch, &["six"])));
    assert_eq!((there()[0], names_in(&cache).len()), (true, 2));
}

#[test]
fn directories_that_others_may_write_to_are_refused() {
    let scratch = Scratch::new();
    let open = scratch.path().join("open");
    fs::create_dir(&open).expect("made");
    let (link, own) = (scratch.path().join("link"), scratch.path().join("own"));
    symlink(&open, &link).expect("made");
    let config = scratch.write("awsm.toml", functions(&scratch, &["one"]).concat());
    for mode in [0o777, 0o775, 0o1777, 0o702] {
        fs::set_permissions(&open, Permissions::from_mode(mode)).expect("its own");
        for dir in [&open, &link] {
            let mut serve = awsm();
            serve.args(["serve", "--listen", "127.0.0.1:0"]).arg(&config);
            let mut run = awsm();
            run.arg("run").arg(module(&scratch, "one"));
            let wanted =
                format!("error: {}: others may write to this directory (mode", dir.display());
            let mut serve_state = awsm();
            serve_state.args(["serve", "--listen", "127.0.0.1:0", "--cache-dir"]).arg(&own);
            let refusals = [
                refusal(&scratch, serve.arg("--cache-dir").arg(dir).arg("--state-dir").arg(&own)),
                refusal(&scratch, serve_state.arg(&config).arg("--state-dir").arg(dir)),
                refusal(&scratch, run.env("AWSM_CACHE_DIR", dir)),
            ];
            for refusal in refusals {
                assert!(refusal.contains(&wanted) && refusal.contains("`chmod go-w "), "{refusal}");
            }
        }
    }
    assert_eq!(names_in(&open), BTreeSet::new());
}

/// A node whose cache cannot be written: it serves all the same, and says so once.
fn serves_without_a_cache(node: &Node, cache: &Path) {
    ["one", "two"].iter().for_each(|name| answers(node, name));
    let log = node.log();
    let complaint = format!("{}: cannot write the cache: ", cache.display());
    assert_eq!(log.lines().filter(|line| line.contains(&complaint)).count(), 1, "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("WARN")).count(), 1, "{log}");
}

#[test]
fn a_cache_that_cannot_be_written_costs_no_function() {
    let scratch = Scratch::new();
    let functions = functions(&scratch, &["one", "two"]);
    let file = scratch.write("file", "no directory");
    let below = file.join("cache");
    serves_without_a_cache(&Node::start(&cache_dir(&below), &functions), &below);
    if !may_unshare("--mount") {
        return;
    }
    let cache = scratch.path().join("cache");
    for options in ["size=16k", "ro"] {
        fs::create_dir_all(&cache).expect("made");
        fs::set_permissions(&cache, Permissions::from_mode(0o700)).expect("its own");
        let mount = format!("mount -t tmpfs -o mode=700,{options} none {cache:?} && exec \"$@\"");
        let program = env!("CARGO_BIN_EXE_awsm");
        let command = awsm_unshared(&["--mount", "--", "sh", "-c", &mount, "sh", program]);
        let node = Node::start_by(command, 1, &cache_dir(&cache), &functions);
        serves_without_a_cache(&node, &cache);
    }
}

/// What others could write to would be refused the next time.
#[test]
fn entries_are_their_makers_whatever_files_are_by_default() {
    let scratch = Scratch::new();
    let cache = scratch.path().join("cache");
    for _ in 0..2 {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 0 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_awsm")]);
        command.args(["run", "--cache-dir"]).arg(&cache).arg(module(&scratch, "one"));
        let output = command.output().expect("it runs");
        assert_eq!((output.stdout, output.stderr), (b"one".to_vec(), Vec::new()));
    }
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let entry = cache.join(names_in(&cache).first().expect("an entry"));
    assert_eq!((mode(&cache), mode(&entry)), (0o700, 0o600));
}
