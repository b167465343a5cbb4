//! The hostile guests, in the text format: each does one thing that a node must not let its
//! neighbours feel.

use std::fmt::Write as _;

const POLL: &str = r#"(import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))"#;
const WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))"#;

/// Sleeps for so many milliseconds: one subscription at the address 0, of the monotonic clock.
fn sleep(ms: u64) -> String {
    format!(
        "(i64.store (i32.const 0) (i64.const 0)) (i32.store (i32.const 8) (i32.const 0))
         (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {}))
         (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
        ms * 1_000_000
    )
}

/// Repeats `body` so often; the module declares the local `$i`.
fn repeat(times: u32, body: &str) -> String {
    format!(
        "(local.set $i (i32.const 0)) (loop $again {body}
         (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                 (i32.const {times}))))"
    )
}

fn module(imports: &str, items: &str, start: &str) -> String {
    format!(
        "(module {imports} {items}
         (func (export \"_start\") (local $i i32) (local $r i32) {start}))"
    )
}

const MEMORY: &str = r#"(memory (export "memory") 2)"#;

/// Computes.
pub(super) fn computes() -> String {
    let step =
        "(local.set $r (i32.xor (i32.mul (local.get $r) (i32.const 1664525)) (local.get $i)))";
    let start = format!("{} (i32.store (i32.const 0) (local.get $r))", repeat(10_000_000, step));
    module("", MEMORY, &start)
}

/// A megabyte of empty lines to stderr, 16 KiB at a time.
pub(super) fn logs() -> String {
    let write = "(drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let start = format!(
        "(memory.fill (i32.const 1024) (i32.const 10) (i32.const 16384))
         (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 16384)) {}",
        repeat(64, write)
    );
    module(WRITE, MEMORY, &start)
}

/// Sleeps for two seconds.
pub(super) fn sleeps() -> String {
    module(POLL, MEMORY, &sleep(2000))
}

/// 256 subscriptions of one socket that nobody connects to.
pub(super) fn polls() -> String {
    let subscribe = "
        (i32.store8 (i32.add (i32.const 8) (i32.mul (local.get $i) (i32.const 48))) (i32.const 1))
        (i32.store (i32.add (i32.const 16) (i32.mul (local.get $i) (i32.const 48))) (i32.const 3))";
    let start = format!(
        "{} (drop (call $poll (i32.const 0) (i32.const 65536) (i32.const 256) (i32.const 130000)))",
        repeat(256, subscribe)
    );
    module(POLL, MEMORY, &start)
}

/// An answer of four megabytes.
pub(super) fn answers() -> String {
    let write = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let start = format!(
        "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536)) {}",
        repeat(64, write)
    );
    module(WRITE, MEMORY, &start)
}

/// Nothing.
pub(super) fn nothing() -> String {
    module("", MEMORY, "")
}

/// An empty answer with a header field, as a WAGI program writes it.
pub(super) fn answers_nothing() -> String {
    let write = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 26))
         (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let items = format!(r#"{MEMORY} (data (i32.const 64) "Content-Type: text/plain\n\n")"#);
    module(WRITE, &items, write)
}

/// Opens its directory until it may not, and stays for half a second.
pub(super) fn opens() -> String {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let start = format!(
        "(loop $more (br_if $more (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 256)
            (i32.const 1) (i32.const 2) (i64.const 0x4000) (i64.const 0x4000) (i32.const 0)
            (i32.const 512))))) {}",
        sleep(500)
    );
    let items = format!(r#"{MEMORY} (data (i32.const 256) ".")"#);
    module(&format!("{POLL} {open}"), &items, &start)
}

/// A hundred small memories, and sleeps for a second.
pub(super) fn maps() -> String {
    let mut items = MEMORY.to_owned();
    (0..99).for_each(|n| write!(items, " (memory $m{n} i64 1 1)").expect("a string takes it"));
    module(POLL, &items, &sleep(1000))
}

/// Reads all of its directory.
pub(super) fn lists() -> String {
    let list = r#"(import "wasi_snapshot_preview1" "fd_readdir"
        (func $list (param i32 i32 i32 i64 i32) (result i32)))"#;
    let start = "(drop (call $list (i32.const 3) (i32.const 1024) (i32.const 64)
                 (i64.const 0x7fffffffffff) (i32.const 16)))";
    module(list, MEMORY, start)
}

/// Keeps 10,000 exceptions, beside a million elements that refer to one; then throws 1,000 more.
pub(super) fn throws() -> String {
    let items = format!(
        "{MEMORY} (tag $x) (table $kept 10000 exnref) (table $many 0 exnref)
         (func $make (result exnref)
           (block $caught (result exnref)
             (try_table (catch_all_ref $caught) (throw $x)) (unreachable)))"
    );
    let keep = repeat(10_000, "(table.set $kept (local.get $i) (call $make))");
    let start = format!(
        "(drop (table.grow $many (call $make) (i32.const 1000000))) {keep} {}",
        repeat(1000, "(drop (call $make))")
    );
    module("", &items, &start)
}

/// Writes both ends of eight tables of 250,000 elements.
pub(super) fn tables() -> String {
    let mut items = format!("{MEMORY} (func $f) (elem declare func $f)");
    let mut start = String::new();
    for n in 0..8 {
        write!(items, " (table $t{n} 250000 funcref)").expect("a string takes it");
        for at in [0, 249_999] {
            write!(start, "(table.set $t{n} (i32.const {at}) (ref.func $f))")
                .expect("a string takes it");
        }
    }
    module("", &items, &start)
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_are_modules() {
        for attack in super::super::attacks::ATTACKS {
            let text = (attack.guest)();
            assert!(wat::parse_str(&text).is_ok(), "{}: {text}", attack.name);
        }
    }
}
