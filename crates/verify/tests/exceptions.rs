//! Exceptions: what compiles is shown, at every level, and is refused without the comparisons that
//! make it so.

mod support;

use awsm_abi::context::below;
use awsm_compile::{Emit, Isolation, OptLevel, Options, Threads, Timings, emit_timed};
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use support::{function, object, refusal};

const LEVELS: [OptLevel; 4] = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];

/// Results that are never null, of calls that an exception may come back from.
const NEVER_NULL: &str = r#"(module
    (type $f (func (result i32)))
    (type $many (func (param i32) (result (ref $f) i32 (ref $f) (ref extern))))
    (tag $e (param i32))
    (import "host" "f" (func $imported (param i32) (result (ref $f))))
    (import "host" "extern" (func $extern (result (ref extern))))
    (table $t 3 (ref $f) (ref.func $g))
    (global $global (mut (ref $f)) (ref.func $g))
    (func $g (type $f) (i32.const 7))
    (func $h (type $f) (i32.const 8))
    (elem declare func $g $h)
    (func $thrower (export "thrower") (param i32) (result (ref $f))
        (if (local.get 0) (then (throw $e (local.get 0)))) (ref.func $g))
    (func $many (export "many") (type $many)
        (if (local.get 0) (then (throw $e (local.get 0))))
        (ref.func $g) (i32.const 4) (call $thrower (local.get 0)) (call $extern))
    (func $one (export "one") (param i32)
        (global.set $global (call $imported (local.get 0))))
    (func (export "several") (param i32) (result i32) (local externref)
        (block $b (result i32) (try_table (result i32) (catch $e $b)
            (call $many (local.get 0))
            (local.set 1) (call_ref $f) (drop) (drop) (call_ref $f))))
    (func (export "kept") (param i32) (result i32)
        (block $b (result i32) (try_table (result i32) (catch $e $b)
            (global.set $global (call $imported (local.get 0)))
            (table.set $t (i32.const 1) (global.get $global))
            (call_ref $f (table.get $t (local.get 0))))))
    (func (export "tail") (param i32) (result (ref $f)) (return_call $thrower (local.get 0)))
    (func (export "passed on") (param i32) (result (ref $f)) (call $thrower (local.get 0)))
    (func (export "replaced") (param i32) (result (ref $f) exnref) (local exnref)
        (block $b (result i32 exnref)
            (try_table (catch_ref $e $b)
                (call $thrower (local.get 0)) (ref.null exn) (return))
            (unreachable))
        (local.set 1) (drop) (ref.func $h) (local.get 1))
    (func $again (param i32 (ref $f)) (result (ref $f))
        (if (result (ref $f)) (local.get 0)
            (then (call $again (i32.sub (local.get 0) (i32.const 1)) (call $thrower (local.get 0))))
            (else (local.get 1))))
    (func (export "deep") (param i32) (result i32)
        (call_ref $f (call $again (local.get 0) (ref.func $h)))))"#;

/// References that exceptions carry.
const CARRIED: &str = r#"(module
    (type $f (func (result i64)))
    (tag $refs (param i64 funcref (ref $f) exnref))
    (tag $numbers (param i64 i64 i64 i64))
    (import "host" "f" (func $imported))
    (table $t 3 funcref)
    (func $g (type $f) (i64.const 7))
    (elem declare func $g)
    (func $throws (param i32)
        (if (local.get 0) (then (throw $refs (i64.const 1) (ref.func $g) (ref.func $g) (ref.null exn))))
        (throw $numbers (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
    (func $catches (export "catches") (param i32) (result i64)
        (local $number i64) (local $any funcref) (local $exception exnref)
        (block $numbers (result i64 i64 i64 i64)
            (block $refs (result i64 funcref (ref $f) exnref)
                (try_table (catch $refs $refs) (catch $numbers $numbers) (call $imported))
                (return (i64.const 0)))
            (local.set $exception)
            (local.set $number (call_ref $f))
            (local.set $any)
            (drop)
            (table.set $t (i32.const 1) (local.get $any))
            (if (ref.is_null (local.get $exception)) (then (return (local.get $number))))
            (throw_ref (local.get $exception)))
        (i64.add) (i64.add) (i64.add))
    (func (export "run") (param i32) (result i64)
        (call $throws (local.get 0)) (i64.const 0)))"#;

/// One piece of code for several tags: which it was is known no more closely.
const EITHER: &str = r#"(module
    (type $f (func (result i64)))
    (import "host" "f" (func $imported (param i32)))
    (tag $any (param i64 funcref))
    (tag $some (param i64 (ref $f)))
    (tag $number (param i64 i64))
    (table $t 4 funcref)
    (elem declare func $g)
    (func $g (type $f) (i64.const 7))
    (func (export "throws") (param i32)
        (if (i32.eqz (local.get 0)) (then (throw $any (i64.const 5) (ref.func $g))))
        (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $some (i64.const 5) (ref.func $g))))
        (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $number (i64.const 5) (i64.const 6))))
        (call $imported (local.get 0)))
    (func (export "catches") (param i32) (result i64) (local $r funcref) (local $n i64)
        (block $done
            (block $any (result i64 funcref)
                (block $some (result i64 (ref $f))
                    (try_table (catch $any $any) (catch $some $some) (call $imported (local.get 0)))
                    (br $done))
                (br $any))
            (local.set $r)
            (local.set $n)
            (table.set $t (i32.const 1) (local.get $r)))
        (local.get $n))
    (func $step (param i64)
        (if (i64.gt_u (local.get 0) (i64.const 5)) (then (throw $any (local.get 0) (ref.func $g))))
        (if (i64.eq (local.get 0) (i64.const 3)) (then (throw $number (i64.const 1) (i64.const 2)))))
    (func (export "inlined") (param i64) (result i64) (local $r funcref) (local $n i64)
        (block $number (result i64 i64)
            (block $any (result i64 funcref)
                (try_table (catch $any $any) (catch $number $number) (call $step (local.get 0)))
                (return (i64.const 1)))
            (local.set $r)
            (table.set $t (i32.const 2) (local.get $r))
            (return))
        (i64.add)))"#;

#[test]
fn all_of_them_are_shown() {
    for text in [NEVER_NULL, CARRIED, EITHER] {
        let wasm = wat::parse_str(text).expect("a module");
        for cpu in ["x86-64", "x86-64-v4"] {
            for isolation in [Isolation::Guard, Isolation::Checked] {
                for opt_level in LEVELS {
                    let cpu = Some(cpu.to_owned());
                    let options = Options { opt_level, isolation, cpu, ..Options::default() };
                    let (threads, mut timings) = (Threads::default(), Timings::default());
                    let what = Emit::SharedObject;
                    emit_timed(&wasm, &options, what, threads, &mut timings).expect("it is shown");
                    let again = timings.functions_recompiled();
                    assert!(again.is_empty(), "{opt_level:?}: shown as it is: {again:?}");
                }
            }
        }
    }
}

/// The same object with the conditional branch number `skipped` of a function behind its first call
/// never taken, and always.
fn without_branch(object: &[u8], name: &str, skipped: usize) -> Option<[Vec<u8>; 2]> {
    let place = function(object, name);
    let mut called = false;
    let branches = Decoder::with_ip(64, &object[place.clone()], 0, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| {
            called |= instruction.flow_control() == FlowControl::IndirectCall;
            called && instruction.flow_control() == FlowControl::ConditionalBranch
        });
    let branch = branches.into_iter().nth(skipped)?;
    let at = place.start + branch.ip() as usize;
    let (mut never, mut always) = (object.to_vec(), object.to_vec());
    never[at..at + branch.len()].fill(0x90);
    match branch.len() {
        2 => always[at] = 0xeb,
        _ => always[at..at + 2].copy_from_slice(&[0x90, 0xe9]),
    }
    Some([never, always])
}

/// Whoever does not look for an exception takes null for a reference.
#[test]
fn results_are_not_believed_before_the_exception_is_looked_at() {
    for opt_level in LEVELS {
        let object = object(NEVER_NULL, opt_level, Isolation::Guard);
        assert_eq!(refusal(&object), None);
        let changed = without_branch(&object, ":one", 0).expect("it looks");
        let refused = changed.iter().filter_map(|object| refusal(object)).collect::<Vec<_>>();
        let shown = |line: &String| line.contains(":one") && line.contains("no reference");
        assert!(refused.iter().any(shown), "{opt_level:?}: {refused:?}");
    }
}

/// Whoever does not look at the tag takes a number for a reference.
#[test]
fn values_are_not_believed_before_the_tag_is_looked_at() {
    for opt_level in LEVELS {
        let object = object(CARRIED, opt_level, Isolation::Guard);
        assert_eq!(refusal(&object), None);
        let mut refused = 0;
        for skipped in 0.. {
            let Some(changed) = without_branch(&object, ":catches", skipped) else { break };
            let lines = changed.iter().filter_map(|object| refusal(object));
            refused += lines.filter(|line| line.contains("an exception's values")).count();
        }
        // One comparison for each tag.
        assert!(refused >= 2, "{opt_level:?}: {refused}");
    }
}

/// Of two comparisons at once each counts: neither is the other way round, and the branch is taken.
#[test]
fn tags_are_one_of_those_that_are_looked_for() {
    let object = object(EITHER, OptLevel::O2, Isolation::Guard);
    assert_eq!(refusal(&object), None);
    let place = function(&object, ":catches");
    // setne of a register
    let is_setne = |at: &usize| object[*at..].starts_with(&[0x0f, 0x95]);
    let all: Vec<usize> = place.filter(is_setne).collect();
    assert_eq!(all.len(), 2, "one for each tag");
    for at in all {
        let mut changed = object.clone();
        changed[at + 1] = 0x94; // sete
        let line = refusal(&changed).expect("refused");
        assert!(line.contains("an exception's values"), "{line}");
    }
    let branches = (0..).map_while(|skipped| without_branch(&object, ":catches", skipped));
    let lines = branches.flatten().filter_map(|object| refusal(&object));
    assert!(lines.into_iter().any(|line| line.contains("an exception's values")));
}

/// What a call may give back is not computed from a number that nobody could see.
#[test]
fn exceptions_are_not_hidden_over_calls() {
    let room = "(local.set 0 (i64.mul (local.get 0) (i64.load (i32.wrap_i64 (local.get 0)))))";
    let text = format!(
        r#"(module (memory 1) (tag $e (param i64))
        (func (export "other") (result i64) (i64.const 7))
        (func (export "throw") (param i64) (throw $e (local.get 0)))
        (func (export "run") (param i64) (result i64) {} (local.get 0)))"#,
        room.repeat(40)
    );
    let victim = object(&text, OptLevel::O1, Isolation::Guard);
    let (place, other) = (function(&victim, ":run"), function(&victim, ":other"));
    let with = |hide: &[u8], find: &[u8]| {
        let mut code = vec![0x55, 0x53, 0x50]; // push rbp; push rbx; push rax
        code.extend([0x48, 0x8b, 0x87]); // mov rax, [rdi - EXCEPTIONS]
        code.extend((-(below::EXCEPTIONS as i32)).to_le_bytes());
        code.extend([0x48, 0x8b, 0x28]); // mov rbp, [rax]
        code.extend([0x48, 0x85, 0xed, 0x74]); // test rbp, rbp; je over the rest
        code.push((hide.len() + 5 + find.len() + 4) as u8);
        code.extend(hide);
        code.push(0xe8); // call other
        let next = place.start + code.len() + 4;
        code.extend((other.start as i32 - next as i32).to_le_bytes());
        code.extend(find);
        code.extend([0x48, 0x8b, 0x45, 0x00]); // mov rax, [rbp]
        code.extend([0x58, 0x5b, 0x5d, 0xc3]); // pop rax; pop rbx; pop rbp; ret
        let mut object = victim.clone();
        object[place.clone()].fill(0xc3);
        object[place.clone()][..code.len()].copy_from_slice(&code);
        object
    };
    assert_eq!(refusal(&with(&[], &[])), None);
    // add rbp, 2^30, and back
    let (hide, find) = ([0x48, 0x81, 0xc5, 0, 0, 0, 0x40], [0x48, 0x81, 0xed, 0, 0, 0, 0x40]);
    let line = refusal(&with(&hide, &find)).expect("refused");
    assert!(line.contains(":run") && line.contains("begins nowhere"), "{line}");
}
