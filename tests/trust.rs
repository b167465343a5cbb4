//! Shared objects that a node did not compile: shown, refused, taken on trust or not taken, as
//! `[trust]` says.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Node, Scratch, awsm, refusal};

/// A command that answers "fine", from a memory of its own.
const FINE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "fine")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 4))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// An object that somebody else's compiler has made: it is in no cache.
fn object(scratch: &Scratch) -> PathBuf {
    let (module, object) = (scratch.write("fine.wat", FINE), scratch.path().join("fine.so"));
    let built = awsm().arg("build").arg(module).arg("-o").arg(&object).status();
    assert!(built.expect("it runs").success());
    object
}

/// The same with an instruction of the system in a function of the guest's.
fn patched(scratch: &Scratch, object: &Path) -> PathBuf {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let good = fs::read(object).expect("there");
    let text = (0..good.len() - 1).find_map(|at| {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&SYSCALL);
        let refusal = awsm_verify::verify(&bytes).err()?.to_string();
        (refusal.starts_with("`wasm[") && refusal.contains("syscall")).then_some(bytes)
    });
    scratch.write("patched.so", text.expect("a place where it would be run"))
}

fn config(scratch: &Scratch, object: &Path, trust: &str) -> PathBuf {
    let text =
        format!("{trust}\n[[function]]\nname = \"fine\"\nmodule = {object:?}\nroute = \"/fine\"\n");
    scratch.write("awsm.toml", text)
}

/// The one line with which a node refuses to start.
fn refused(scratch: &Scratch, object: &Path, trust: &str) -> String {
    let mut serve = awsm();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]);
    serve.arg(scratch.path().join("state")).arg("--cache-dir").arg(scratch.path().join("cache"));
    refusal(scratch, serve.arg(config(scratch, object, trust)))
}

/// A node with that object; what it answers.
fn served(scratch: &Scratch, object: &Path, trust: &str) -> Node {
    let cache = scratch.path().join("cache");
    let function =
        format!("[[function]]\nname = \"fine\"\nmodule = {object:?}\nroute = \"/fine\"\n");
    let node = Node::start(&format!("cache_dir = {cache:?}\n\n{trust}"), &[function]);
    let answer = node.get("/fine");
    assert_eq!((answer.status, answer.text()), (200, "fine"), "{}", node.log());
    node
}

fn verdicts(scratch: &Scratch) -> usize {
    fs::read_dir(scratch.path().join("cache")).into_iter().flatten().count()
}

#[test]
fn a_strangers_object_is_served_when_it_is_shown_and_its_verdict_is_kept() {
    let scratch = Scratch::new();
    let object = object(&scratch);
    drop(served(&scratch, &object, ""));
    assert_eq!(verdicts(&scratch), 1, "a verdict and no object");
    drop(served(&scratch, &object, "[trust]\nobjects = \"verify\"\n"));
    assert_eq!(verdicts(&scratch), 1, "the same content, the same verdict");
}

#[test]
fn an_object_that_is_not_shown_is_refused_with_its_function_and_offset() {
    let scratch = Scratch::new();
    let object = patched(&scratch, &object(&scratch));
    for trust in ["", "[trust]\nobjects = \"verify\"\n"] {
        let error = refused(&scratch, &object, trust);
        for part in [&*object.to_string_lossy(), "`wasm[", " at 0x", "syscall", "[trust]"] {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
    }
    assert_eq!(verdicts(&scratch), 0, "only what is shown is kept");
}

/// A verdict is of the content, not of the file's name or place.
#[test]
fn a_verdict_does_not_pass_to_what_takes_the_files_place() {
    let scratch = Scratch::new();
    let object = object(&scratch);
    drop(served(&scratch, &object, ""));
    let worse = patched(&scratch, &object);
    fs::rename(worse, &object).expect("both are there");
    assert!(refused(&scratch, &object, "").contains("syscall"));
}

#[test]
fn own_takes_webassembly_and_no_objects() {
    let scratch = Scratch::new();
    let object = object(&scratch);
    let own = "[trust]\nobjects = \"own\"\n";
    let error = refused(&scratch, &object, own);
    assert!(error.contains(&*object.to_string_lossy()) && error.contains("\"own\""), "{error}");
    drop(served(&scratch, &scratch.path().join("fine.wat"), own));
}

#[test]
fn none_asks_nothing() {
    let scratch = Scratch::new();
    drop(served(&scratch, &object(&scratch), "[trust]\nobjects = \"none\"\n"));
    assert_eq!(verdicts(&scratch), 0);
}

#[test]
fn an_unknown_word_of_trust_is_refused_with_those_that_there_are() {
    let scratch = Scratch::new();
    let object = object(&scratch);
    let error = refused(&scratch, &object, "[trust]\nobjects = \"verfy\"\n");
    for part in ["verfy", "verify", "own", "none"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
}
