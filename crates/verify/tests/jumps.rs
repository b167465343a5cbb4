//! Jumps through tables: what a jump tells of the number that it was made with is used by the next
//! one.

mod support;

use std::fmt::Write;

use awsm_compile::{Isolation, OptLevel};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use support::{function, object, refusal};

/// The first number of the second table, and how many it has.
const SECOND: std::ops::Range<usize> = 4..12;

/// A choice by a number, and one between some of the same numbers behind calls: no comparison is
/// left of the second one.
fn nested() -> Vec<u8> {
    // Labels of blocks from the outermost to the innermost, a jump, and what is behind each.
    let choice = |numbers: &[usize], labels: &str, number: &str| {
        let open: String = numbers.iter().rev().map(|n| format!("(block $c{n} ")).collect();
        let behind = numbers.iter().fold(String::new(), |mut text, n| {
            let square = n * n;
            let _ =
                write!(text, ") (return (i64.add (call $f (i64.const {square})) (local.get 1)))");
            text
        });
        format!("{open} (br_table {labels} $none {number}) {behind}")
    };
    let others: Vec<usize> = (0..16).filter(|number| !SECOND.contains(number)).collect();
    let inner: String = SECOND.map(|number| format!("$c{number} ")).collect();
    let outer = |number: usize| match SECOND.contains(&number) {
        true => "$second ".to_owned(),
        false => format!("$c{number} "),
    };
    let outer: String = (0..16).map(outer).collect();
    let first = choice(&others, &outer, "(local.get 0)");
    let second =
        choice(&SECOND.collect::<Vec<_>>(), &inner, "(i32.sub (local.get 0) (i32.const 4))");
    let text = format!(
        r#"(module (import "host" "f" (func $f (param i64) (result i64)))
        (func (export "run") (param i32 i64) (result i64)
            (block $none
                (block $second {first})
                (local.set 1 (call $f (local.get 1)))
                {second})
            (local.get 1)))"#
    );
    object(&text, OptLevel::O3, Isolation::Guard)
}

/// Where the tables of a function lie that it loads the addresses of, in the order in which it
/// does.
fn tables(object: &[u8], name: &str) -> Vec<usize> {
    let place = function(object, name);
    let (code, start) = (&object[place.clone()], place.start as u64);
    let loads = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .into_iter()
        .filter(|raw| raw.mnemonic() == Mnemonic::Lea && raw.is_ip_rel_memory_operand());
    loads.into_iter().map(|raw| raw.ip_rel_memory_address() as usize).collect()
}

#[test]
fn a_jump_tells_of_its_number() {
    let object = nested();
    assert_eq!(refusal(&object), None);
    let [first, second] = tables(&object, ":run")[..] else { panic!("two tables") };
    let entry = |table: usize, number: usize| table + 4 * number..table + 4 * number + 4;
    // Another number leads to the second table as well: one below, one above.
    for other in [SECOND.start - 1, 0, SECOND.end, 15] {
        let mut changed = object.clone();
        changed.copy_within(entry(first, SECOND.start), entry(first, other).start);
        let line = refusal(&changed).expect("refused");
        assert!(line.contains("the object's") || line.contains("bounded table"), "{line}");
    }
    // It leads elsewhere than to an instruction.
    for table in [first, second] {
        let mut changed = object.clone();
        changed[entry(table, 5).start] += 1;
        assert!(refusal(&changed).is_some());
    }
}
