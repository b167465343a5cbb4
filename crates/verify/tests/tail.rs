//! Calls in tail position: what compiles is shown, and code that lets a reference be another thing,
//! or that does anything to cells or the stack that it must not, is refused.

use std::mem::{offset_of, size_of};

use awsm_abi::MAGIC;
use awsm_abi::context::Counts;
use awsm_abi::desc::{FuncDesc, ModuleDesc};
use awsm_abi::tail::cell_below;
use awsm_compile::{Isolation, OptLevel, Options, compile};

/// Functions that only the module itself calls, and some that it gives out: directly, through a
/// table and by reference, with references in cells.
const REFERENCES: &str = r#"(module
    (type $answer (func (result i64)))
    (type $turn (func (param i64 i64 i64 i64 i64 i64 funcref (ref $answer) externref) (result i64)))
    (type $plain (func (param i64) (result i64)))
    (import "host" "f" (func $imported (type $plain)))
    (table $asked 1 funcref)
    (table $t 3 funcref)
    (elem (table $t) (i32.const 0) func $direct $through $seven)
    (func $seven (type $answer) (i64.const 7))
    (func $eight (type $answer) (i64.const 8))
    (elem declare func $eight $direct)
    (func $direct (type $turn)
        (if (i64.eqz (local.get 0)) (then (return (call_ref $answer (local.get 7)))))
        (return_call $hidden (i64.sub (local.get 0) (i64.const 1)) (local.get 2) (local.get 3)
            (local.get 4) (local.get 5) (local.get 1) (local.get 6) (local.get 7) (local.get 8)))
    (func $hidden (type $turn)
        (table.set $asked (i32.const 0) (local.get 6))
        (if (i64.gt_u (local.get 5) (i64.const 9)) (then (return_call $imported (local.get 5))))
        (return_call_indirect $t (type $turn) (local.get 0) (local.get 1) (local.get 2)
            (local.get 3) (local.get 4) (i64.const 5) (ref.func $seven) (local.get 7)
            (local.get 8) (i32.const 1)))
    (func $through (type $turn)
        (return_call_ref $turn (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)
            (local.get 5) (ref.null func) (ref.func $eight) (ref.null extern) (ref.func $direct)))
    (func $even (param i64) (result i32)
        (if (i64.eqz (local.get 0)) (then (return (i32.const 1))))
        (return_call $odd (i64.sub (local.get 0) (i64.const 1))))
    (func $odd (param i64) (result i32)
        (if (i64.eqz (local.get 0)) (then (return (i32.const 0))))
        (return_call $even (i64.sub (local.get 0) (i64.const 1))))
    (func (export "null") (param i64) (result i64)
        (return_call_ref $plain (local.get 0) (ref.null $plain)))
    (func (export "run") (param i64 externref) (result i64)
        (drop (call $even (local.get 0)))
        (call $direct (local.get 0) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)
            (i64.const 5) (ref.null func) (ref.func $seven) (local.get 1))))"#;

/// Several results with references among them, which exceptions go past.
const RESULTS: &str = r#"(module
    (type $answer (func (result i64)))
    (type $many (func (param i64) (result funcref i64 (ref null $answer) f32 externref exnref f64)))
    (tag $e (param i64))
    (table $t 1 funcref)
    (elem (table $t) (i32.const 0) func $many)
    (func $seven (type $answer) (i64.const 7))
    (elem declare func $seven)
    (func $many (export "many") (type $many)
        (if (i64.eq (local.get 0) (i64.const 100)) (then (throw $e (i64.const 5))))
        (if (i64.gt_u (local.get 0) (i64.const 3))
            (then (return_call_indirect $t (type $many) (i64.sub (local.get 0) (i64.const 1))
                (i32.const 0))))
        (ref.func $seven) (local.get 0) (ref.func $seven) (f32.const 1) (ref.null extern)
        (ref.null exn) (f64.const 2))
    (func (export "use") (param i64) (result i64)
        (local $f funcref) (local $a (ref null $answer)) (local $n i64)
        (block $caught (result i64)
            (try_table (catch $e $caught)
                (call $many (local.get 0))
                (drop) (drop) (drop) (drop) (local.set $a) (local.set $n) (local.set $f))
            (table.set $t (i32.const 0) (local.get $f))
            (return (i64.add (local.get $n) (call_ref $answer (local.get $a)))))))"#;

/// More exceptions than there are registers, and handlers in which ways meet.
const EXCEPTIONS: &str = r#"(module
    (tag $t (param i64))
    (func $make (param i64) (result exnref) (local $e exnref)
        (block $h (result i64 exnref)
            (try_table (catch_ref $t $h) (throw $t (local.get 0)))
            (unreachable))
        (local.set $e) (drop) (local.get $e))
    (func $value (param exnref) (result i64)
        (block $h (result i64)
            (try_table (catch $t $h) (throw_ref (local.get 0)))
            (unreachable)))
    (func $rotate (param i64 exnref exnref exnref exnref exnref exnref exnref) (result i64)
        (if (i64.eqz (local.get 0)) (then (return (call $value (local.get 7)))))
        (drop (call $make (i64.const 77)))
        (return_call $rotate (i64.sub (local.get 0) (i64.const 1)) (local.get 2) (local.get 3)
            (local.get 4) (local.get 5) (local.get 6) (local.get 7) (local.get 1)))
    (func $throws (param i64) (result i64)
        (if (i64.lt_s (local.get 0) (i64.const 0)) (then (throw $t (local.get 0))))
        (return_call $rotate (local.get 0) (call $make (i64.const 1)) (call $make (i64.const 2))
            (call $make (i64.const 3)) (call $make (i64.const 4)) (call $make (i64.const 5))
            (call $make (i64.const 6)) (call $make (i64.const 7))))
    (func (export "run") (param i64) (result i64)
        (block $caught (result i64)
            (try_table (catch $t $caught)
                (if (i64.eqz (local.get 0)) (then (throw_ref (call $make (local.get 0)))))
                (return (call $throws (local.get 0))))
            (unreachable))))"#;

/// Vectors and floats in cells, and references that are null, which compilers store two at a time.
const VECTORS: &str = r#"(module
    (type $wide (func (param v128 v128 v128 v128 v128 v128 v128 v128 v128 f64 f32 i64 i64 i64 i64 i64 i64
                             funcref)
                      (result i64 v128)))
    (type $nulls (func (param i64 i64 i64 i64 i64 i64 funcref funcref) (result i64)))
    (table $t 2 funcref)
    (elem (table $t) (i32.const 0) func $wide)
    (func $wide (export "wide") (type $wide)
        (if (i64.eqz (local.get 11)) (then (return (local.get 16) (local.get 8))))
        (return_call_indirect $t (type $wide) (local.get 1) (local.get 2) (local.get 3) (local.get 4)
            (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 0) (local.get 9)
            (local.get 10) (i64.sub (local.get 11) (i64.const 1)) (local.get 13) (local.get 14)
            (local.get 15) (local.get 16) (local.get 12) (ref.null func) (i32.const 0)))
    (func (export "nulls") (param i64) (result i64)
        (call_indirect $t (type $nulls) (local.get 0) (local.get 0) (local.get 0) (local.get 0)
            (local.get 0) (local.get 0) (ref.null func) (ref.null func) (i32.const 1))))"#;

fn object(text: &str, opt_level: OptLevel, isolation: Isolation, cpu: Option<&str>) -> Vec<u8> {
    let wasm = wat::parse_str(text).expect("a module");
    let cpu = cpu.map(str::to_owned);
    let options = Options { opt_level, isolation, cpu, ..Options::default() };
    compile(&wasm, &options).expect("it compiles")
}

#[track_caller]
fn assert_shown(text: &str) {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
        for isolation in [Isolation::Guard, Isolation::Checked] {
            for cpu in [Some("x86-64"), None] {
                let object = object(text, level, isolation, cpu);
                let report = awsm_verify::verify(&object);
                let report = report
                    .unwrap_or_else(|refusal| panic!("{level:?} {isolation:?} {cpu:?}: {refusal}"));
                assert_eq!(report.unshown().count(), 0, "{level:?} {isolation:?} {cpu:?}");
            }
        }
    }
}

#[test]
fn references_in_cells_are_shown() {
    assert_shown(REFERENCES);
}

#[test]
fn references_among_several_results_are_shown() {
    assert_shown(RESULTS);
}

#[test]
fn exceptions_in_cells_are_shown() {
    assert_shown(EXCEPTIONS);
}

#[test]
fn vectors_in_cells_are_shown() {
    assert_shown(VECTORS);
}

const DIRECTLY: &str = "return_call $f";
const THROUGH_A_TABLE: &str = "return_call_indirect $t (type $f)";

/// A function that is known to the outside jumps to itself with a reference to a function in the
/// second of its two cells.
fn jumping(leave: &str) -> Vec<u8> {
    let element = if leave == DIRECTLY { "" } else { "(i32.const 0)" };
    let text = format!(
        r#"(module
        (type $f (func (param i64 i64 i64 i64 i64 i64 funcref) (result i64)))
        (table $t 1 funcref)
        (global (export "fixed") i64 (i64.const 0))
        (elem (table $t) (i32.const 0) func $f)
        (func $f (export "f") (type $f)
            (if (i64.eqz (local.get 0)) (then (return (local.get 5))))
            (table.set $t (i32.const 0) (local.get 6))
            ({leave} (i64.sub (local.get 0) (i64.const 1)) (local.get 2) (local.get 3)
                (local.get 4) (local.get 5) (local.get 1) (local.get 6) {element})))"#
    );
    object(&text, OptLevel::O0, Isolation::Guard, Some("x86-64"))
}

/// Bytes of `mov [register + displacement], register` with 64 bits and a displacement of 32.
const STORE_BYTES: usize = 7;

/// How the displacement to a place below a context is written.
fn below(distance: u32) -> [u8; 4] {
    distance.cast_signed().wrapping_neg().to_le_bytes()
}

/// Where such stores to a place below a context are: the function's, and those of its wrapper.
fn stores_below(object: &[u8], distance: u32) -> Vec<usize> {
    let is_store = |bytes: &[u8]| {
        let [prefix, code, places, rest @ ..] = bytes else { return false };
        let has_base = places >> 6 == 0b10 && places & 0b111 != 0b100;
        prefix & 0xf8 == 0x48 && *code == 0x89 && has_base && *rest == below(distance)
    };
    let all = object.windows(STORE_BYTES).enumerate();
    all.filter(|(_, bytes)| is_store(bytes)).map(|(at, _)| at).collect()
}

/// Changes an object and tells why it is refused then.
fn refusal(object: &[u8], change: impl FnOnce(&mut [u8])) -> String {
    awsm_verify::verify(object).expect("as it was, it is shown");
    let mut changed = object.to_vec();
    change(&mut changed);
    awsm_verify::verify(&changed).expect_err("it is refused").to_string()
}

#[track_caller]
fn assert_refused(object: &[u8], change: impl FnOnce(&mut [u8]), why: &str) {
    let refusal = refusal(object, change);
    assert!(refusal.contains(why), "{refusal}");
}

/// Changes each store to the second cell by itself: all are refused, one of them for this reason.
#[track_caller]
fn assert_each_is_refused(object: &[u8], change: impl Fn(&mut [u8]), why: &str) {
    let stores = stores_below(object, cell_below(1));
    let change =
        |store: &usize| refusal(object, |bytes| change(&mut bytes[*store..*store + STORE_BYTES]));
    let refusals: Vec<_> = stores.iter().map(change).collect();
    assert!(refusals.iter().any(|refusal| refusal.contains(why)), "{refusals:?}");
}

#[test]
fn a_cell_for_a_reference_has_one() {
    let ways = [
        // Who does not get a reference has none.
        (DIRECTLY, "with the wrong argument (tablevalue)"),
        (THROUGH_A_TABLE, "a jump with an argument that is no reference"),
    ];
    for (leave, why) in ways {
        let object = jumping(leave);
        // Nothing is written.
        assert_each_is_refused(&object, |store| store.fill(0x90), why);
        // The stack pointer is written, or a half, or it is four bytes further on.
        let number = |store: &mut [u8]| {
            store[0] &= !0b100;
            store[2] = store[2] & !(0b111 << 3) | 0b100 << 3;
        };
        assert_each_is_refused(&object, number, why);
        assert_each_is_refused(&object, |store| store[0] &= !0b1000, why);
        assert_each_is_refused(&object, |store| store[3] += 4, why);
        // It is written to the cell of a number.
        let other = |store: &mut [u8]| store[3..].copy_from_slice(&below(cell_below(0)));
        assert_each_is_refused(&object, other, why);
    }
}

#[test]
fn no_more_cells_are_written_than_there_are() {
    for (leave, why) in [(DIRECTLY, "from the context"), (THROUGH_A_TABLE, "from another context")]
    {
        let object = jumping(leave);
        // Behind the last one, across both, and above the first one, where the header lies.
        for distance in [cell_below(2), cell_below(1) - 12, cell_below(0) - 16] {
            let elsewhere = |store: &mut [u8]| store[3..].copy_from_slice(&below(distance));
            assert_each_is_refused(&object, elsewhere, why);
        }
    }
}

#[test]
fn a_return_takes_nothing_off_the_stack() {
    let text = r#"(module (func (export "zero") (result i64) (i64.const 0)))"#;
    let object = object(text, OptLevel::O1, Isolation::Guard, Some("x86-64"));
    // `xor eax, eax` and a return give way to a return that takes eight bytes.
    let zero = [0x31, 0xc0, 0xc3];
    let at = object.windows(3).position(|bytes| bytes == zero).expect("it returns zero");
    let why = "a return that takes arguments off the stack";
    assert_refused(&object, |bytes| bytes[at..at + 3].copy_from_slice(&[0xc2, 8, 0]), why);
}

#[test]
fn the_description_tells_of_all_cells_and_entries() {
    let object = jumping(DIRECTLY);
    let root = object.windows(MAGIC.len()).position(|bytes| bytes == MAGIC).expect("it begins so");
    let cells = root + offset_of!(ModuleDesc, counts) + offset_of!(Counts, argument_cells);
    assert_eq!(object[cells], 2);
    for count in [0, 1, 3] {
        assert_refused(&object, |bytes| bytes[cells] = count, "argument cells");
    }
    let list = root + offset_of!(ModuleDesc, functions);
    let distance = u64::from_le_bytes(object[list..list + 8].try_into().expect("eight bytes"));
    let code = root.wrapping_add(distance as usize) + offset_of!(FuncDesc, code);
    let none = |bytes: &mut [u8]| bytes[code..code + size_of::<u64>()].fill(0);
    assert_refused(&object, none, "without code for the outside");
}
