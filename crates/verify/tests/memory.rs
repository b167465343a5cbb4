//! Linear memory: which accesses are shown to stay inside, and what little makes them ones that are
//! not.
//!
//! At the start of the code, `rdi` is the context, the lower half of `rsi` an address and that of
//! `rdx` a count. In `checked` mode `rcx` is the memory's size.

mod support;

use std::fmt::Write;
use std::mem::offset_of;

use awsm_abi::context::{Memory, below};
use awsm_compile::{Isolation, OptLevel, Options, compile};
use support::{function, object, refusal};

/// A module whose `run` has room for code.
fn victim(isolation: Isolation) -> Vec<u8> {
    let mut body = String::from("(local.get 0)");
    for number in 0..64 {
        let add = "(i64.add (i64.load (i32.wrap_i64 (local.get 1))))";
        let _ = write!(body, "(i64.const {number}) (i64.xor) {add}");
    }
    let text = format!(
        r#"(module (memory 1 100)
        (func (export "grow") (drop (memory.grow (i32.const 1))))
        (func (export "run") (param i64 i64) (result i64) {body}))"#
    );
    object(&text, OptLevel::O1, isolation)
}

/// What is not shown if this code is in place of `run`, with returns behind it.
fn found(isolation: Isolation, code: &[u8]) -> Option<String> {
    let mut object = victim(isolation);
    let place = function(&object, ":run");
    // mov rcx, [rdi - distance]
    let mut start = vec![0x48, 0x8b, 0x8f];
    let distance = offset_of!(Memory, bytes) as i32 - below::MEMORY as i32;
    start.extend(distance.to_le_bytes());
    if isolation == Isolation::Guard {
        start.clear();
    }
    let code = [&start[..], code].concat();
    assert!(code.len() < place.len(), "{} bytes are free", place.len());
    object[place.clone()].fill(0xc3);
    object[place][..code.len()].copy_from_slice(&code);
    refusal(&object)
}

#[track_caller]
fn assert_shown(isolation: Isolation, code: &[u8]) {
    assert_eq!(found(isolation, code), None);
}

#[track_caller]
fn assert_not_shown(isolation: Isolation, code: &[u8]) {
    let found = found(isolation, code);
    let fits = found.as_ref().is_some_and(|line| line.contains("an address between"));
    assert!(fits, "{found:?}");
}

/// The same code with other bytes in place of some that are in it once.
fn with<const N: usize>(code: &[u8], old: [u8; N], new: [u8; N]) -> Vec<u8> {
    let places: Vec<_> = (0..code.len()).filter(|at| code[*at..].starts_with(&old)).collect();
    let [at] = places[..] else { panic!("{old:02x?} is there {} times", places.len()) };
    let mut code = code.to_vec();
    code[at..at + N].copy_from_slice(&new);
    code
}

/// `mov eax, esi; lea r8, [rax+8]; cmp r8, rcx; ja 1f; mov rax, [rdi+rax]; 1: ret`
const COMPARED: [u8; 16] = [
    0x89, 0xf0, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x04, 0x48, 0x8b, 0x04, 0x07, 0xc3,
];

/// An access of eight bytes behind a comparison of its end, and of less than that.
#[test]
fn what_is_compared_is_shown() {
    assert_shown(Isolation::Checked, &COMPARED);
    // lea r8, [rax + 7]
    assert_not_shown(Isolation::Checked, &with(&COMPARED, [0x40, 0x08], [0x40, 0x07]));
    // jae: also if it ends there
    assert_not_shown(Isolation::Checked, &with(&COMPARED, [0x77, 0x04], [0x90, 0x90]));
}

/// `mov eax, esi; test edx, edx; je 2f; lea r8, [rax+8]; cmp r8, rcx; ja 1f; 2: mov r9, [rdi+rax];
/// sub edx, 1; jne 2b; 1: ret`
const ENTERED: [u8; 25] = [
    0x89, 0xf0, 0x85, 0xd2, 0x74, 0x09, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x09, 0x4c,
    0x8b, 0x0c, 0x07, 0x83, 0xea, 0x01, 0x75, 0xf7, 0xc3,
];

/// What was compared on every way into a loop holds in it, of what it leaves as it is.
#[test]
fn loops_know_what_was_compared_before_them() {
    // One way leads around the comparison: jump nowhere instead.
    assert_not_shown(Isolation::Checked, &ENTERED);
    let compared = with(&ENTERED, [0x74, 0x09], [0x74, 0x00]);
    assert_shown(Isolation::Checked, &compared);
    // sub eax, 1: the loop changes it
    assert_not_shown(Isolation::Checked, &with(&compared, [0x83, 0xea, 0x01], [0x83, 0xe8, 0x01]));
}

/// `mov eax, esi; test edx, edx; je 2f; lea r8, [rax+8]; cmp r8, rcx; ja 1f; jmp 3f; 2: lea r8,
/// [rax+16]; cmp r8, rcx; ja 1f; 3: mov rax, [rdi+rax]; 1: ret`
const WAYS: [u8; 31] = [
    0x89, 0xf0, 0x85, 0xd2, 0x74, 0x0b, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x0f, 0xeb,
    0x09, 0x4c, 0x8d, 0x40, 0x10, 0x49, 0x39, 0xc8, 0x77, 0x04, 0x48, 0x8b, 0x04, 0x07, 0xc3,
];

/// Two ways with a comparison each say what the weaker one says.
#[test]
fn comparisons_meet() {
    assert_shown(Isolation::Checked, &WAYS);
    // lea r8, [rax + 4] on the second way
    assert_not_shown(Isolation::Checked, &with(&WAYS, [0x40, 0x10], [0x40, 0x04]));
}

/// `mov eax, esi; add eax, 16; lea r8, [rax+8]; cmp r8, rcx; ja 1f; cmp esi, 0xffffffef; ja 1f;
/// mov ecx, esi; mov rax, [rdi+rcx+16]; 1: ret`
const NEIGHBOUR: [u8; 27] = [
    0x89, 0xf0, 0x83, 0xc0, 0x10, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x0c, 0x83, 0xfe,
    0xef, 0x77, 0x07, 0x89, 0xf1, 0x48, 0x8b, 0x44, 0x0f, 0x10, 0xc3,
];

/// A sum of 32 bits is compared, and the same of 64 bits accessed: they are the same if neither
/// turned round.
#[test]
fn sums_that_turn_round_are_told_from_others() {
    assert_shown(Isolation::Checked, &NEIGHBOUR);
    // cmp esi, 0xffffffff: the sum may have turned round
    let unbounded = with(&NEIGHBOUR, [0xfe, 0xef], [0xfe, 0xff]);
    assert_not_shown(Isolation::Checked, &unbounded);
    // mov rax, [rdi + rcx + 17]
    assert_not_shown(Isolation::Checked, &with(&NEIGHBOUR, [0x0f, 0x10], [0x0f, 0x11]));
}

/// `mov eax, esi; and edx, 7; je 1f; lea r8, [rax+rdx*4]; cmp r8, rcx; ja 1f; cmp edx, 1; je 1f;
/// mov ecx, [rdi+rax+4]; 1: ret`
const COUNT: [u8; 26] = [
    0x89, 0xf0, 0x83, 0xe2, 0x07, 0x74, 0x12, 0x4c, 0x8d, 0x04, 0x90, 0x49, 0x39, 0xc8, 0x77, 0x09,
    0x83, 0xfa, 0x01, 0x74, 0x04, 0x8b, 0x4c, 0x07, 0x04, 0xc3,
];

/// A count that is neither zero nor one is two at least.
#[test]
fn numbers_that_are_not_some_are_others() {
    assert_shown(Isolation::Checked, &COUNT);
    // cmp edx, 2
    assert_not_shown(Isolation::Checked, &with(&COUNT, [0xfa, 0x01], [0xfa, 0x02]));
    // mov ecx, [rdi + rax + 8]
    assert_not_shown(Isolation::Checked, &with(&COUNT, [0x07, 0x04], [0x07, 0x08]));
}

/// `lea r8d, [rdx-1]; mov eax, esi; lea r9, [rax+r8*8+8]; cmp r9, rcx; ja 1f; lea rcx,
/// [rax+r8*8]; shr rcx, 32; jne 1f; cmp r8d, 7; jb 1f; lea rsi, [rax+rdi]; mov r8d, edx; and
/// r8d, -8; xor ecx, ecx; 2: mov r9, [rsi+rcx*8+0x38]; add rcx, 8; cmp r8d, ecx; jne 2b; 1: ret`
const LOOP: [u8; 60] = [
    0x44, 0x8d, 0x42, 0xff, 0x89, 0xf0, 0x4e, 0x8d, 0x4c, 0xc0, 0x08, 0x49, 0x39, 0xc9, 0x77, 0x2b,
    0x4a, 0x8d, 0x0c, 0xc0, 0x48, 0xc1, 0xe9, 0x20, 0x75, 0x21, 0x41, 0x83, 0xf8, 0x07, 0x72, 0x1b,
    0x48, 0x8d, 0x34, 0x38, 0x41, 0x89, 0xd0, 0x41, 0x83, 0xe0, 0xf8, 0x31, 0xc9, 0x4c, 0x8b, 0x4c,
    0xce, 0x38, 0x48, 0x83, 0xc1, 0x08, 0x41, 0x39, 0xc8, 0x75, 0xf2, 0xc3,
];

/// Eight words each round, as often as the count has room for; all were compared before.
#[test]
fn loops_are_shown_by_their_rounds() {
    assert_shown(Isolation::Checked, &LOOP);
    // mov r9, [rsi + rcx * 8 + 0x40]: beyond the last
    assert_not_shown(Isolation::Checked, &with(&LOOP, [0xce, 0x38], [0xce, 0x40]));
    // and r8d, -4: the counter may pass it by
    assert_not_shown(Isolation::Checked, &with(&LOOP, [0xe0, 0xf8], [0xe0, 0xfc]));
    // cmp r8d, 6: no round is one too many
    assert_not_shown(Isolation::Checked, &with(&LOOP, [0xf8, 0x07], [0xf8, 0x06]));
    // add rcx, 9
    assert_not_shown(Isolation::Checked, &with(&LOOP, [0xc1, 0x08], [0xc1, 0x09]));
}

/// `mov eax, esi; cmp eax, 0xfffffff0; ja 1f; cmp edx, 0x10000000; ja 1f; cmp edx, 8; jb 1f; lea
/// rsi, [rax+rdi]; mov r8d, edx; and r8d, -2; mov r9d, edx; and r9d, 6; sub r8d, r9d; xor ecx,
/// ecx; 2: mov r9, [rsi+rcx*8]; add rcx, 8; cmp r8d, ecx; jne 2b; 1: ret`
const MASKED: [u8; 57] = [
    0x89, 0xf0, 0x83, 0xf8, 0xf0, 0x77, 0x31, 0x81, 0xfa, 0x00, 0x00, 0x00, 0x10, 0x77, 0x29, 0x83,
    0xfa, 0x08, 0x72, 0x24, 0x48, 0x8d, 0x34, 0x38, 0x41, 0x89, 0xd0, 0x41, 0x83, 0xe0, 0xfe, 0x41,
    0x89, 0xd1, 0x41, 0x83, 0xe1, 0x06, 0x45, 0x29, 0xc8, 0x31, 0xc9, 0x4c, 0x8b, 0x0c, 0xce, 0x48,
    0x83, 0xc1, 0x08, 0x41, 0x39, 0xc8, 0x75, 0xf3, 0xc3,
];

/// A count without its low three bits, that are taken away one after the other.
#[test]
fn bits_that_are_masked_off_are_put_together() {
    assert_shown(Isolation::Guard, &MASKED);
    // and r9d, 4: one bit stays
    assert_not_shown(Isolation::Guard, &with(&MASKED, [0xe1, 0x06], [0xe1, 0x04]));
    // cmp edx, 7: there may be none
    assert_not_shown(Isolation::Guard, &with(&MASKED, [0xfa, 0x08], [0xfa, 0x07]));
}

/// `mov eax, esi; cmp edx, 0x10000000; ja 1f; cmp edx, 8; jb 1f; xor ecx, ecx; test esi, 1; je
/// 2f; mov ecx, edx; and ecx, -8; 2: mov r8d, edx; cmp ecx, r8d; je 1f; 3: mov r9, [rdi+rcx*8];
/// inc rcx; cmp rcx, r8; jne 3b; 1: ret`
const REST: [u8; 51] = [
    0x89, 0xf0, 0x81, 0xfa, 0x00, 0x00, 0x00, 0x10, 0x77, 0x28, 0x83, 0xfa, 0x08, 0x72, 0x23, 0x31,
    0xc9, 0xf7, 0xc6, 0x01, 0x00, 0x00, 0x00, 0x74, 0x05, 0x89, 0xd1, 0x83, 0xe1, 0xf8, 0x41, 0x89,
    0xd0, 0x44, 0x39, 0xc1, 0x74, 0x0c, 0x4c, 0x8b, 0x0c, 0xcf, 0x48, 0xff, 0xc1, 0x4c, 0x39, 0xc1,
    0x75, 0xf4, 0xc3,
];

/// What two ways leave of a count, none or a multiple of eight, is where a loop goes on.
#[test]
fn the_rest_of_a_loop_is_shown() {
    assert_shown(Isolation::Guard, &REST);
    // Without the comparison before it the loop may begin at its end.
    assert_not_shown(Isolation::Guard, &with(&REST, [0x74, 0x0c], [0x90, 0x90]));
}

/// `mov eax, esi; mov ecx, edx; lea r8, [rax+rcx*8]; mov r9, r8; shr r9, 12; cmp r9, 0xfffff; ja
/// 1f; mov rax, [rdi+rcx*8]; 1: ret`
const SHIFTED: [u8; 29] = [
    0x89, 0xf0, 0x89, 0xd1, 0x4c, 0x8d, 0x04, 0xc8, 0x4d, 0x89, 0xc1, 0x49, 0xc1, 0xe9, 0x0c, 0x49,
    0x81, 0xf9, 0xff, 0xff, 0x0f, 0x00, 0x77, 0x04, 0x48, 0x8b, 0x04, 0xcf, 0xc3,
];

/// Something shifted is bounded, and so is what it was shifted from.
#[test]
fn bounds_of_what_is_shifted_are_used() {
    assert_shown(Isolation::Guard, &SHIFTED);
    // cmp r9, 0xffffff
    assert_not_shown(Isolation::Guard, &with(&SHIFTED, [0xff, 0xff, 0x0f], [0xff, 0xff, 0xff]));
}

/// `mov eax, [rsp-16]; lea r8, [rax+8]; cmp r8, rcx; ja 1f; mov eax, [rsp-16]; mov rax,
/// [rdi+rax]; 1: ret`
const WORD: [u8; 22] = [
    0x8b, 0x44, 0x24, 0xf0, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x08, 0x8b, 0x44, 0x24,
    0xf0, 0x48, 0x8b, 0x04, 0x07, 0xc3,
];

/// `mov eax, [rsp-16]; lea r8, [rax+8]; cmp r8, rcx; ja 1f; mov [rsp-16], rdx; mov eax,
/// [rsp-16]; mov rax, [rdi+rax]; 1: ret`
const STORED: [u8; 27] = [
    0x8b, 0x44, 0x24, 0xf0, 0x4c, 0x8d, 0x40, 0x08, 0x49, 0x39, 0xc8, 0x77, 0x0d, 0x48, 0x89, 0x54,
    0x24, 0xf0, 0x8b, 0x44, 0x24, 0xf0, 0x48, 0x8b, 0x04, 0x07, 0xc3,
];

/// A word of the frame of which nothing is known is the same until something is stored.
#[test]
fn words_of_the_frame_have_names() {
    assert_shown(Isolation::Checked, &WORD);
    assert_not_shown(Isolation::Checked, &STORED);
}

/// A bit of memory is looked at in its operand, or anywhere around it.
#[test]
fn bits_in_memory_are_looked_at_in_their_operand() {
    // bt dword ptr [rsp - 16], 7
    assert_shown(Isolation::Guard, &[0x0f, 0xba, 0x64, 0x24, 0xf0, 0x07]);
    // bt dword ptr [rsp - 16], esi; bt dword ptr [rsi], 7
    let others: [&[u8]; 2] = [&[0x0f, 0xa3, 0x74, 0x24, 0xf0], &[0x0f, 0xba, 0x26, 0x07]];
    for other in others {
        assert!(found(Isolation::Guard, other).is_some(), "{other:02x?}");
    }
}

/// Without optimisation, everything is shown in every mode: there is nothing else to fall back
/// upon.
#[test]
fn all_is_shown_without_optimisation() {
    let text = r#"(module (memory 1 100) (memory $wide i64 1 100)
        (data $data "abc")
        (func (export "sum") (param $at i32) (param $count i32) (result i64) (local $sum i64)
            (loop $next
                (local.set $sum (i64.add (local.get $sum)
                    (i64.load offset=16 (local.get $at))))
                (i32.store8 offset=1 (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (drop (memory.grow (i32.const 1)))
                (br_if $next (local.get $count)))
            (local.get $sum))
        (func (export "bulk") (param i32 i32 i32)
            (memory.copy (local.get 0) (local.get 1) (local.get 2))
            (memory.fill (local.get 0) (local.get 1) (local.get 2))
            (memory.init $data (local.get 0) (local.get 1) (local.get 2)))
        (func (export "wide") (param i64 i64 i64) (result i32)
            (memory.copy $wide $wide (local.get 0) (local.get 1) (local.get 2))
            (memory.fill $wide (local.get 0) (i32.const 1) (local.get 2))
            (i32.load8_u $wide offset=0xffffffffffffffff (local.get 0))
            (i32.load $wide offset=8 (local.get 1)) (i32.add)))"#;
    for isolation in [Isolation::Guard, Isolation::Checked] {
        for opt_level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
            assert_eq!(refusal(&object(text, opt_level, isolation)), None, "{opt_level:?}");
        }
    }
}

#[test]
fn counts_of_bits_are_small() {
    // mov eax, 64; tzcnt (or rep bsf) rax, rsi; movzx eax, word [rdi + rax]
    let counted =
        [&[0xb8, 0x40, 0, 0, 0][..], &[0xf3, 0x48, 0x0f, 0xbc, 0xc6], &[0x0f, 0xb7, 0x04, 0x07]];
    assert_shown(Isolation::Guard, &counted.concat());
    // bsf leaves what was there if no bit is set: mov rax, rdx before it.
    let left = [&[0x48, 0x89, 0xd0][..], &[0x48, 0x0f, 0xbc, 0xc6], &[0x0f, 0xb7, 0x04, 0x07]];
    assert_not_shown(Isolation::Guard, &left.concat());
}

/// `or esi, 1; lzcnt eax, esi; add eax, eax; mov edx, 62; sub edx, eax; mov eax, [rdi+rdx*4+79784]`
const ZEROS: [u8; 23] = [
    0x83, 0xce, 0x01, 0xf3, 0x0f, 0xbd, 0xc6, 0x01, 0xc0, 0xba, 0x3e, 0x00, 0x00, 0x00, 0x29, 0xc2,
    0x8b, 0x84, 0x97, 0xa8, 0x37, 0x01, 0x00,
];

/// A number that is not zero has not only zeros above its highest bit.
#[test]
fn zeros_above_the_highest_bit_are_counted() {
    let room = "(i64.mul (i64.load (i32.wrap_i64 (local.get 0))))".repeat(20);
    let text = format!(
        r#"(module (memory 1)
        (func (export "run") (param i64) (result i64) (local.get 0) {room}))"#
    );
    let wasm = wat::parse_str(text).expect("a module");
    let cpu = Some("x86-64-v3".to_owned());
    let options = Options { opt_level: OptLevel::O1, cpu, ..Options::default() };
    let object = compile(&wasm, &options).expect("it compiles");
    let found = |code: &[u8]| {
        let mut object = object.clone();
        let place = function(&object, ":run");
        object[place.clone()].fill(0xc3);
        object[place][..code.len()].copy_from_slice(code);
        refusal(&object)
    };
    assert_eq!(found(&ZEROS), None);
    // or esi, 0; mov edx, 61
    for code in [with(&ZEROS, [0xce, 0x01], [0xce, 0x00]), with(&ZEROS, [0xba, 0x3e], [0xba, 0x3d])]
    {
        let line = found(&code).expect("refused");
        assert!(line.contains("an address between"), "{line}");
    }
}

/// `movsx eax, sil; movsxd rax, eax; imul rax, rax, 7; mov eax, [rdi+rax+1024]`
const SIGNED: [u8; 18] = [
    0x40, 0x0f, 0xbe, 0xc6, 0x48, 0x63, 0xc0, 0x48, 0x6b, 0xc0, 0x07, 0x8b, 0x84, 0x07, 0x00, 0x04,
    0x00, 0x00,
];

/// A sum of few bits is what its low half with sign is.
#[test]
fn small_sums_with_sign_stay_what_they_are() {
    assert_shown(Isolation::Guard, &SIGNED);
    // Without movsxd, a negative number is a large one.
    let unsigned = with(&SIGNED, [0x48, 0x63, 0xc0], [0x89, 0xc0, 0x90]);
    assert_not_shown(Isolation::Guard, &unsigned);
}
