//! What functions are given that only this object calls: LLVM hands over whatever suits it, which
//! is shown as it is at every level; and what one caller does not give, nobody has.

mod support;

use std::fmt::Write;

use awsm_compile::{Emit, Isolation, OptLevel, Options, Threads, Timings, emit_timed};
use support::{function, object, refusal};

const LEVELS: [OptLevel; 4] = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];

/// An expression so often, with numbers from 0 on in place of `#`: too much for LLVM to put it
/// where it is called.
fn many_times(count: u32, expression: &str) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", expression.replace('#', &number.to_string()));
        text
    })
}

/// Functions that are called from two places each, and get by with what the context leads to.
fn imports() -> String {
    let functions = [
        ("load", 60, "(i32.load offset=# (local.get 1))"),
        ("size", 60, "(i32.xor (memory.size) (i32.load offset=# (local.get 1)))"),
        ("far", 40, "(i32.load $far offset=# (local.get 1))"),
        ("wide", 40, "(i32.load $wide offset=# (i64.extend_i32_u (local.get 1)))"),
        ("length", 40, "(i32.xor (table.size $t) (i32.const #))"),
        ("null", 40, "(ref.is_null (table.get $t (i32.xor (local.get 1) (i32.const #))))"),
        ("call", 30, "(call_indirect (type $f) (i32.const #) (local.get 1))"),
        ("global", 40, "(i32.shr_u (i32.xor (global.get $g) (global.get $c)) (i32.const #))"),
        ("who", 40, "(i32.mul (ref.is_null (global.get $who)) (local.get 1))"),
    ];
    let mut text = String::from(
        r#"(module
        (type $f (func (param i32) (result i32)))
        (import "e" "memory" (memory $m 1))
        (import "e" "far" (memory $far 1 8))
        (import "e" "wide" (memory $wide i64 1 8))
        (import "e" "table" (table $t 1 funcref))
        (import "e" "global" (global $g (mut i32)))
        (import "e" "constant" (global $c i32))
        (import "e" "who" (global $who (mut funcref)))"#,
    );
    for (name, count, expression) in functions {
        let step =
            format!("(local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 3)) {expression}))");
        let body = many_times(count, &step);
        let write = "(global.set $g (local.get 1)) (i32.store (i32.const 8) (local.get 1))";
        let _ = writeln!(
            text,
            r#"(func ${name} (param i32) (result i32) (local i32)
                (local.set 1 (local.get 0)) {body} {write} (local.get 1))
            (func (export "{name}") (param i32) (result i32)
                (i32.add (call ${name} (local.get 0)) (call ${name} (i32.const 7))))"#
        );
    }
    text + ")"
}

/// Arguments and results that nobody uses, of functions that the outside calls as well.
const UNUSED: &str = r#"(module
    (type $f (func (param i32 funcref i32) (result f32 externref v128)))
    (import "host" "f" (func $imported (param i32)))
    (table $t (export "t") 4 funcref)
    (global $who funcref (ref.func $calls))
    (func $calls (export "calls") (param i32 funcref i32) (result f32 externref v128)
        (call $imported (local.get 0))
        (call $calls (local.get 0) (global.get $who) (i32.const 1))
        (call $many (local.get 2) (local.get 1))
        (drop) (drop) (drop) (drop) (table.set $t))
    (func $many (param i32 funcref) (result i32 funcref f32 f64 i64 externref)
        (if (local.get 0) (then (drop (call $calls (i32.const 5) (local.get 1) (local.get 0))) (drop) (drop)))
        (i32.const 1) (global.get $who) (f32.const 2) (f64.const 3) (i64.const 4) (ref.null extern))
    (func $returns (export "returns") (type $f)
        (return_call $returns (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (local.get 2)))
    (func (export "several") (result i32 funcref f32 f64 i64 externref)
        (call $many (i32.const 3) (ref.null func))))"#;

#[test]
fn what_llvm_hands_over_is_shown_as_it_is() {
    for text in [&imports(), UNUSED] {
        let wasm = wat::parse_str(text).expect("a module");
        for isolation in [Isolation::Guard, Isolation::Checked] {
            for opt_level in LEVELS {
                let options = Options { opt_level, isolation, ..Options::default() };
                let (threads, mut timings) = (Threads::default(), Timings::default());
                emit_timed(&wasm, &options, Emit::SharedObject, threads, &mut timings)
                    .expect("it is shown");
                let again = timings.functions_recompiled();
                assert!(again.is_empty(), "{isolation:?} {opt_level:?}: shown as it is: {again:?}");
            }
        }
    }
}

/// A module whose function `load` gets the first byte of the first memory instead of the context,
/// and `many` the place of its results; `run` has room for code.
fn victim() -> Vec<u8> {
    let step = |what: &str| {
        format!("(local.set 1 (i64.add (i64.mul (local.get 1) (i64.const 3)) {what}))")
    };
    let load = many_times(60, &step("(i64.load offset=# (i32.wrap_i64 (local.get 1)))"));
    let turn =
        many_times(40, &step("(i64.rotl (local.get 0) (i64.xor (local.get 1) (i64.const #)))"));
    let room = many_times(64, "(i64.const #) (i64.xor) (local.get 1) (i64.mul)");
    let sum = "(i64.mul) (i64.mul) (i64.mul) (i64.mul)";
    let text = format!(
        r#"(module (import "e" "m" (memory 1)) (import "e" "n" (memory 1))
        (func $load (param i64) (result i64) (local i64)
            (local.set 1 (local.get 0)) {load} (local.get 1))
        (func $many (param i64) (result i64 i64 i64 i64 i64) (local i64)
            (local.set 1 (local.get 0)) {turn}
            (i64.add (local.get 1) (i64.const 3)) (i64.shr_u (local.get 1) (i64.const 2))
            (i64.xor (local.get 1) (local.get 0)) (local.get 1) (local.get 0))
        (func (export "other") (param i64) (result i64)
            (i64.add (call $load (local.get 0)) (call $load (i64.const 7))))
        (func (export "several") (param i64) (result i64)
            (call $many (local.get 0)) {sum}
            (call $many (i64.rotl (local.get 0) (i64.const 7))) {sum} (i64.add))
        (func (export "run") (param i64 i64) (result i64) (local.get 0) {room}))"#
    );
    object(&text, OptLevel::O3, Isolation::Guard)
}

/// A part of code.
#[derive(Clone, Copy)]
enum Part {
    Bytes(&'static [u8]),
    /// `mov rax, [rdi - list]`: the record of an imported memory.
    Record(i32),
    /// `call` of a function.
    Call(&'static str),
}

use Part::{Bytes, Call, Record};

/// The same object with this code in place of `run`, and returns behind it.
fn with(parts: &[Part]) -> Vec<u8> {
    let mut object = victim();
    // `mov rax, [rdi - list]`, where `other` begins to look for the memory.
    let other = &object[function(&object, ":other")];
    let at = other.windows(3).position(|bytes| bytes == [0x48, 0x8b, 0x87]).expect("a load");
    let list = i32::from_le_bytes(other[at + 3..at + 7].try_into().expect("four bytes"));
    let place = function(&object, ":run");
    let mut code = Vec::new();
    for part in parts {
        match part {
            Bytes(bytes) => code.extend(*bytes),
            Record(memory) => {
                code.extend([0x48, 0x8b, 0x87]);
                code.extend((list + 8 * memory).to_le_bytes());
            }
            Call(name) => {
                let to = function(&object, name).start as i32;
                code.push(0xe8);
                code.extend((to - (place.start + code.len() + 4) as i32).to_le_bytes());
            }
        }
    }
    assert!(code.len() < place.len(), "{} bytes are free", place.len());
    object[place.clone()].fill(0xc3);
    object[place][..code.len()].copy_from_slice(&code);
    object
}

#[track_caller]
fn assert_shown(parts: &[Part]) {
    assert_eq!(refusal(&with(parts)), None);
}

#[track_caller]
fn assert_refused(parts: &[Part], function: &str, why: &str) {
    let refusal = refusal(&with(parts));
    let fits = refusal.as_ref().is_some_and(|line| line.contains(function) && line.contains(why));
    assert!(fits, "{refusal:?}");
}

/// `push rdi`, and `pop rdi`.
const KEEP: Part = Bytes(&[0x57]);
const BACK: Part = Bytes(&[0x5f]);
/// `mov rdi, [rax]`: the first byte of a memory by its record.
const BASE: Part = Bytes(&[0x48, 0x8b, 0x38]);

#[test]
fn a_memory_is_given_by_all_callers() {
    assert_eq!(refusal(&victim()), None);
    assert_shown(&[KEEP, Record(0), BASE, Call(":load"), BACK]);
    let wrong: [&[Part]; 7] = [
        // The context, a number, nothing, the record itself.
        &[],
        &[Bytes(&[0x89, 0xf7])],
        &[Bytes(&[0x31, 0xff])],
        &[Record(0), Bytes(&[0x48, 0x89, 0xc7])],
        // Another memory, whose first byte is another.
        &[Record(1), BASE],
        // Further on: inc rdi, or add rdi, rsi.
        &[Record(0), BASE, Bytes(&[0x48, 0xff, 0xc7])],
        &[Record(0), BASE, Bytes(&[0x48, 0x01, 0xf7])],
    ];
    for parts in wrong {
        // Alone, behind a right call, and before.
        let right = [KEEP, Record(0), BASE, Call(":load"), BACK];
        let wrong = [&[KEEP], parts, &[Call(":load"), BACK]].concat();
        for parts in [wrong.clone(), [&right, &wrong[..]].concat(), [&wrong[..], &right].concat()] {
            assert_refused(&parts, ":load", "begins nowhere");
        }
    }
}

/// `sub rsp, 40`, and `add rsp, 40`.
const OPEN: Part = Bytes(&[0x48, 0x83, 0xec, 0x28]);
const CLOSE: Part = Bytes(&[0x48, 0x83, 0xc4, 0x28]);

#[test]
fn results_go_where_there_is_room() {
    let many = Call(":many");
    // mov rdi, rsp
    assert_shown(&[OPEN, Bytes(&[0x48, 0x89, 0xe7]), many, CLOSE]);
    // lea rdi, [rsp + 8]: the return address is among them then.
    let above = Bytes(&[0x48, 0x8d, 0x7c, 0x24, 0x08]);
    assert_refused(&[OPEN, above, many, CLOSE], ":run", "another return address");
    let refused = |parts: &[Part]| assert_refused(parts, ":many", "begins nowhere");
    // lea rdi, [rsp - 8]: below.
    refused(&[OPEN, Bytes(&[0x48, 0x8d, 0x7c, 0x24, 0xf8]), Call(":many"), CLOSE]);
    // sub rsp, 24; mov rdi, rsp; ...; add rsp, 24
    let open = Bytes(&[0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xe7]);
    let close = Bytes(&[0x48, 0x83, 0xc4, 0x18]);
    assert_refused(&[open, many, close], ":run", "another return address");
    // The context, a number.
    refused(&[OPEN, Call(":many"), CLOSE]);
    refused(&[OPEN, Bytes(&[0x89, 0xf7]), Call(":many"), CLOSE]);
}

/// What lay where results go is not there any more.
#[test]
fn results_take_the_place_of_what_was_there() {
    // mov [rsp + offset], rdi; mov rdi, rsp; call; mov rdi, [rsp + offset]; mov rax, [rdi - list]
    let around = |store: Part, load: Part| {
        let call = [OPEN, store, Bytes(&[0x48, 0x89, 0xe7]), Call(":many"), load];
        call.into_iter().chain([Record(0), CLOSE]).collect::<Vec<_>>()
    };
    let first = around(Bytes(&[0x48, 0x89, 0x3c, 0x24]), Bytes(&[0x48, 0x8b, 0x3c, 0x24]));
    assert_refused(&first, ":run", "begins nowhere");
    let last =
        around(Bytes(&[0x48, 0x89, 0x7c, 0x24, 0x20]), Bytes(&[0x48, 0x8b, 0x7c, 0x24, 0x20]));
    assert_refused(&last, ":run", "begins nowhere");
    // Behind them, with eight bytes more: sub rsp, 56; mov [rsp + 40], rdi; ...; add rsp, 56
    assert_shown(&[
        Bytes(&[0x48, 0x83, 0xec, 0x38, 0x48, 0x89, 0x7c, 0x24, 0x28, 0x48, 0x89, 0xe7]),
        Call(":many"),
        Bytes(&[0x48, 0x8b, 0x7c, 0x24, 0x28]),
        Record(0),
        Bytes(&[0x48, 0x83, 0xc4, 0x38]),
    ]);
}

/// Numbers that all callers give, and that a function answers, are known on the other side: what
/// LLVM makes of them is shown, and is not if one of them is large.
#[test]
fn small_numbers_are_handed_over() {
    let load = "(local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 3)) (i32.load offset=100#
        (i32.shl (local.get 0) (i32.const 2)))))";
    let load = many_times(40, load);
    let turn = many_times(
        40,
        "(local.set 0 (i32.rotl (i32.mul (local.get 0) (i32.const 77)) (i32.const #)))",
    );
    let calls = |name: &str, number: u32| {
        format!(
            r#"(func (export "{name}") (param i32) (result i32)
                (i32.add (call $pick (i32.const {number})) (local.get 0)))"#
        )
    };
    let text = format!(
        r#"(module (memory 1)
        (func $pick (param i32) (result i32) (local i32) {load} (local.get 1))
        (func $answer (param i32) (result i32) {turn}
            (select (i32.const 5) (i32.const 9) (i32.and (local.get 0) (i32.const 64))))
        (func (export "use") (param i32) (result i32)
            (i32.load offset=3000 (i32.shl (call $answer (local.get 0)) (i32.const 2))))
        (func (export "again") (param i32) (result i32)
            (i32.load offset=4000 (i32.shl (call $answer (local.get 0)) (i32.const 2))))
        {} {} {})"#,
        calls("one", 1),
        calls("two", 2),
        calls("four", 4),
    );
    let object = object(&text, OptLevel::O2, Isolation::Guard);
    assert_eq!(refusal(&object), None);
    // mov esi, 4, and lea eax, [4 * rax + 5]: a large number instead.
    let changes: [(&str, &[u8]); 2] =
        [(":four", &[0xbe, 4, 0, 0]), (":answer", &[0x8d, 0x04, 0x85, 5, 0, 0])];
    for (name, bytes) in changes {
        let place = function(&object, name);
        let found = object[place.clone()].windows(bytes.len()).position(|found| found == bytes);
        let at = place.start + found.expect("it is there");
        let mut changed = object.clone();
        changed[at + bytes.len()] = 0x7f;
        let line = refusal(&changed).expect("refused");
        assert!(line.contains("an address between"), "{line}");
    }
}
