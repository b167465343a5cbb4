//! Code that no compiler of ours writes: whatever leaves the sandbox is refused, on any processor,
//! and what is like it but stays inside is not.

mod support;

use std::fmt::Write;

use awsm_compile::{Isolation, OptLevel};
use support::{function, object, refusal};

/// A module whose `run` has room for code: at its start, `rdi` is the context, `rsi` and `rdx` are
/// numbers.
fn victim() -> Vec<u8> {
    let mut body = String::from("(local.get 0)");
    for number in 0..64 {
        let add = "(i64.add (i64.load (i32.wrap_i64 (local.get 1))))";
        let _ = write!(body, "(i64.const {number}) (i64.xor) (drop) (local.get 1) {add}");
    }
    let body = body.replace("(drop) (local.get 1) (i64.add ", "(i64.add ");
    let text = format!(
        r#"(module (import "host" "f" (func $f (param i64) (result i64))) (memory 1)
        (table $t 2 funcref) (elem (table $t) (i32.const 0) func $f)
        (func $other (export "other") (result i64) (i64.const 7))
        (func (export "run") (param i64 i64) (result i64) {body}))"#
    );
    object(&text, OptLevel::O1, Isolation::Guard)
}

/// The same with this code in place of `run`, and returns behind it.
fn with(code: &[u8]) -> Vec<u8> {
    let mut object = victim();
    let place = function(&object, ":run");
    assert!(code.len() < place.len(), "{} bytes are free", place.len());
    object[place.clone()].fill(0xc3);
    object[place][..code.len()].copy_from_slice(code);
    object
}

#[track_caller]
fn assert_refused(code: &[u8], why: &str) {
    let refusal = refusal(&with(code));
    let fits = refusal.as_ref().is_some_and(|line| line.contains(":run") && line.contains(why));
    assert!(fits, "{code:02x?}: {refusal:?}");
}

#[track_caller]
fn assert_shown(code: &[u8]) {
    assert_eq!(refusal(&with(code)), None, "{code:02x?}");
}

#[test]
fn what_stays_inside_is_shown() {
    assert_eq!(refusal(&victim()), None);
    assert_shown(&[]);
    // mov eax, esi; mov rax, [rdi + rax]
    assert_shown(&[0x89, 0xf0, 0x48, 0x8b, 0x04, 0x07]);
    // test esi, esi; je +1; nop
    assert_shown(&[0x85, 0xf6, 0x74, 0x01, 0x90]);
}

/// Processors of one maker ignore the prefix, those of the other take two bytes less for a jump's
/// distance, or keep 16 bits of where it goes.
#[test]
fn jumps_of_16_bits_are_refused() {
    let jumps: [&[u8]; 9] = [
        &[0x66, 0xc3],
        &[0x66, 0xeb, 0x00],
        &[0x66, 0xe9, 0, 0, 0, 0],
        &[0x66, 0xe8, 0, 0, 0, 0],
        &[0x66, 0x74, 0x00],
        &[0x66, 0x0f, 0x84, 0, 0, 0, 0],
        &[0x2e, 0x66, 0x0f, 0x84, 0, 0, 0, 0],
        &[0x66, 0x48, 0x0f, 0x84, 0, 0, 0, 0],
        &[0x66, 0xff, 0xe0],
    ];
    for jump in jumps {
        assert_refused(jump, "a jump of 16 bits");
    }
}

/// `xor ecx, ecx`, and a negative number in `rax`.
const NEGATIVE: [u8; 9] = [0x31, 0xc9, 0x48, 0xc7, 0xc0, 0x00, 0x00, 0xfe, 0xff];
/// `mov [rdi + rax], rax`.
const STORE: [u8; 4] = [0x48, 0x89, 0x04, 0x07];

/// Where there is no bit to find, a register stays as it is, its upper half too.
#[test]
fn a_search_for_bits_that_finds_none_changes_nothing() {
    // bsf eax, ecx; bsr eax, ecx; tzcnt eax, ecx, which is bsf where the processor lacks it.
    let searches: [&[u8]; 3] =
        [&[0x0f, 0xbc, 0xc1], &[0x0f, 0xbd, 0xc1], &[0xf3, 0x0f, 0xbc, 0xc1]];
    for search in searches {
        assert_refused(&[&NEGATIVE[..], search, &STORE].concat(), "an address between -");
        // What was there fits.
        let zero: &[u8] = &[0x31, 0xc0];
        assert_shown(&[zero, search, &STORE].concat());
        // Its lower half is taken: mov eax, eax.
        assert_shown(&[&NEGATIVE[..], search, &[0x89, 0xc0], &STORE].concat());
    }
}

/// A register that is searched for a bit can lie in memory as well.
#[test]
fn a_search_in_memory_is_an_access() {
    // bsf rax, [rsi]; bsr rax, [rdi - 0x20000]; tzcnt rax, [rsi]
    assert_refused(&[0x48, 0x0f, 0xbc, 0x06], "an address that begins nowhere");
    assert_refused(&[0x48, 0x0f, 0xbd, 0x87, 0x00, 0x00, 0xfe, 0xff], "from the context");
    assert_refused(&[0xf3, 0x48, 0x0f, 0xbc, 0x06], "an address that begins nowhere");
    // mov eax, esi; bsf rax, [rdi + rax]
    assert_shown(&[0x89, 0xf0, 0x48, 0x0f, 0xbc, 0x04, 0x07]);
}

/// A stack that is rounded to eight bytes is not rounded enough for those who are called.
#[test]
fn a_stack_that_is_not_rounded_enough_is_refused() {
    let object = victim();
    let other = function(&object, ":other").start as u32;
    // and rsp, -N; call other; jmp to itself
    let rounded = |by: u8| {
        let distance = other.wrapping_sub(function(&object, ":run").start as u32 + 9);
        [&[0x48, 0x83, 0xe4, by, 0xe8][..], &distance.to_le_bytes(), &[0xeb, 0xfe]].concat()
    };
    for by in [0xfe, 0xfc, 0xf8] {
        assert_refused(&rounded(by), "a stack pointer");
    }
    assert_shown(&rounded(0xf0));
}

/// The runtime cannot tell a vector at an odd address from a breach.
#[test]
fn vectors_at_odd_addresses_are_refused() {
    let why = "unless at a multiple of 16";
    // mov eax, esi; movaps xmm0, [rdi + rax], or a store, or addps; the same with and eax, -16
    // before.
    let accesses: [&[u8]; 3] =
        [&[0x0f, 0x28, 0x04, 0x07], &[0x0f, 0x29, 0x04, 0x07], &[0x0f, 0x58, 0x04, 0x07]];
    for access in accesses {
        assert_refused(&[&[0x89, 0xf0], access].concat(), why);
        // movzx eax, sil; shl rax, 4
        let rounded = [0x40, 0x0f, 0xb6, 0xc6, 0x48, 0xc1, 0xe0, 0x04];
        assert_shown(&[&rounded, access].concat());
    }
    // movups xmm0, [rdi + rax]; addsd xmm0, [rdi + rax]
    assert_shown(&[0x89, 0xf0, 0x0f, 0x10, 0x04, 0x07]);
    assert_shown(&[0x89, 0xf0, 0xf2, 0x0f, 0x58, 0x04, 0x07]);
    // movaps [rsp - 24], xmm0, and eight bytes further up.
    assert_shown(&[0x0f, 0x29, 0x44, 0x24, 0xe8]);
    assert_refused(&[0x0f, 0x29, 0x44, 0x24, 0xe0], why);
}

/// A float that an integer is made of can lie in memory.
#[test]
fn floats_in_memory_are_accesses() {
    // mov eax, esi; cvttsd2si rax, [rdi + rax], or cvttss2si eax
    assert_shown(&[0x89, 0xf0, 0xf2, 0x48, 0x0f, 0x2c, 0x04, 0x07]);
    assert_shown(&[0x89, 0xf0, 0xf3, 0x0f, 0x2c, 0x04, 0x07]);
    // cvttsd2si rax, [rsi]; cvttss2si eax, [rdi - 0x20000]
    assert_refused(&[0xf2, 0x48, 0x0f, 0x2c, 0x06], "an address that begins nowhere");
    assert_refused(&[0xf3, 0x0f, 0x2c, 0x87, 0x00, 0x00, 0xfe, 0xff], "from the context");
}

#[test]
fn instructions_for_others_are_refused() {
    let refused: [&[u8]; 38] = [
        &[0x0f, 0x05],                               // syscall
        &[0x0f, 0x34],                               // sysenter
        &[0xcd, 0x80],                               // int 0x80
        &[0xcc],                                     // int3
        &[0xf1],                                     // int1
        &[0xf4],                                     // hlt
        &[0xcf],                                     // iret
        &[0xcb],                                     // retf
        &[0xff, 0x1f],                               // call far [rdi]
        &[0xff, 0x2f],                               // jmp far [rdi]
        &[0x48, 0xcf],                               // iretq
        &[0xe2, 0x00],                               // loop
        &[0xe3, 0x00],                               // jrcxz
        &[0xfd],                                     // std
        &[0x9d],                                     // popf
        &[0x9c],                                     // pushf
        &[0x9e],                                     // sahf
        &[0xd7],                                     // xlatb
        &[0xa4],                                     // movsb
        &[0xac],                                     // lodsb
        &[0xaf],                                     // scasd
        &[0xf3, 0x48, 0xa5],                         // rep movsq
        &[0x67, 0xf3, 0xa4],                         // rep movsb by 32-bit registers
        &[0xf3, 0x64, 0xa4],                         // rep movsb from fs
        &[0x8e, 0xe0],                               // mov fs, eax
        &[0x0f, 0xa1],                               // pop fs
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov rax, fs:[0]
        &[0xf3, 0x48, 0x0f, 0xae, 0xd0],             // wrfsbase rax
        &[0x0f, 0xa2],                               // cpuid
        &[0x0f, 0x31],                               // rdtsc
        &[0x0f, 0x01, 0xd0],                         // xgetbv
        &[0x0f, 0xae, 0x17],                         // ldmxcsr [rdi]
        &[0x0f, 0xae, 0x07],                         // fxsave [rdi]
        &[0x0f, 0xb3, 0x37],                         // btr [rdi], esi
        &[0xf0, 0x0f, 0xb1, 0x37],                   // lock cmpxchg [rdi], esi
        &[0xd9, 0xe8],                               // fld1
        &[0x0f, 0x77],                               // emms
        &[0x66, 0x0f, 0xf7, 0xc1],                   // maskmovdqu
    ];
    for code in refused {
        assert_refused(code, "");
    }
}

/// Jumps and calls that lead elsewhere than to an instruction, or to a function.
#[test]
fn wrong_ways_are_refused() {
    // jmp +1 into the second byte of mov eax, esi; je the same; jmp past the end; call into itself.
    assert_refused(&[0xeb, 0x01, 0x89, 0xf0], "no function begins");
    assert_refused(&[0x85, 0xf6, 0x74, 0x01, 0x89, 0xf0], "no function begins");
    assert_refused(&[0xe9, 0xff, 0xff, 0xff, 0x7f], "no function begins");
    assert_refused(&[0x50, 0xe8, 0, 0, 0, 0, 0x58], "not known");
    // jmp rsi; call rsi; call [rdi - 0x10010]; jmp [rsp]
    assert_refused(&[0xff, 0xe6], "bounded table");
    assert_refused(&[0x50, 0xff, 0xd6, 0x58], "not known");
    assert_refused(&[0x50, 0xff, 0x97, 0xf0, 0xff, 0xfe, 0xff, 0x58], "");
    assert_refused(&[0xff, 0x24, 0x24], "outside of its frame");
    // push rsi; ret: another return address. pop rax; push rax; ret: the same one, but written.
    assert_refused(&[0x56, 0xc3], "stack pointer");
    assert_refused(&[0x58, 0x50, 0xc3], "outside of its frame");
    // mov [rsp], rsi; ret. mov rbx, rsi; ret.
    assert_refused(&[0x48, 0x89, 0x34, 0x24, 0xc3], "outside of its frame");
    assert_refused(&[0x48, 0x89, 0xf3, 0xc3], "saved register");
}

/// A frame whose start is rounded down ends before its function does.
#[test]
fn rounded_frames() {
    // push rbp; mov rbp, rsp; and rsp, -32; sub rsp, 64; mov [rsp], rsi
    let begin = [
        0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xe0, 0x48, 0x83, 0xec, 0x40, 0x48, 0x89, 0x34,
        0x24,
    ];
    let with = |rest: &[u8]| [&begin, rest].concat();
    // mov rax, [rsp]; mov rsp, rbp; pop rbp; ret
    assert_shown(&with(&[0x48, 0x8b, 0x04, 0x24, 0x48, 0x89, 0xec, 0x5d, 0xc3]));
    // leave; ret
    assert_shown(&with(&[0xc9, 0xc3]));
    // lea rsp, [rbp - 8]; pop rax; pop rbp; ret
    assert_shown(&with(&[0x48, 0x8d, 0x65, 0xf8, 0x58, 0x5d, 0xc3]));
    // pop rbp; ret, from inside of it
    assert_refused(&with(&[0x5d, 0xc3]), "stack pointer");
    // mov rax, rsp; mov rsp, rbp; mov [rax], rsi; pop rbp; ret: the frame is gone
    let late = [0x48, 0x89, 0xe0, 0x48, 0x89, 0xec, 0x48, 0x89, 0x30, 0x5d, 0xc3];
    assert_refused(&with(&late), "a frame that reaches over the guard");
    // mov rsp, rbp; and rsp, -64; mov rsp, rbp; pop rbp; ret: only once
    let twice = [0x48, 0x89, 0xec, 0x48, 0x83, 0xe4, 0xc0, 0x48, 0x89, 0xec, 0x5d, 0xc3];
    assert_refused(&with(&twice), "stack pointer");
}

/// Large frames are touched page by page, in a loop.
#[test]
fn probes_of_large_frames() {
    // mov r11, rsp; sub r11, 0x9000; sub rsp, 0x1000; mov qword [rsp], 0; cmp rsp, r11; jne back
    const PROBES: [u8; 30] = [
        0x49, 0x89, 0xe3, 0x49, 0x81, 0xeb, 0x00, 0x90, 0x00, 0x00, 0x48, 0x81, 0xec, 0x00, 0x10,
        0x00, 0x00, 0x48, 0xc7, 0x04, 0x24, 0x00, 0x00, 0x00, 0x00, 0x4c, 0x39, 0xdc, 0x75, 0xec,
    ];
    // add rsp, 0x9000; ret
    const BACK: [u8; 8] = [0x48, 0x81, 0xc4, 0x00, 0x90, 0x00, 0x00, 0xc3];
    let with = |at: usize, bytes: &[u8]| {
        let mut code = [&PROBES[..], &BACK].concat();
        code[at..at + bytes.len()].copy_from_slice(bytes);
        code
    };
    assert_shown(&with(0, &[]));
    // Frames that are no multiple, negative, or empty; steps over two pages.
    let why = "a stack pointer";
    assert_refused(&with(6, &[0x08, 0x90]), why);
    assert_refused(&with(6, &[0x00, 0x90, 0xff, 0xff]), why);
    assert_refused(&with(6, &[0, 0]), why);
    assert_refused(&with(13, &[0x00, 0x20]), why);
    // It goes up; another register is compared; another word is touched, or none; it ends when they
    // differ.
    assert_refused(&with(10, &[0x48, 0x81, 0xc4]), why);
    assert_refused(&with(25, &[0x4c, 0x39, 0xd4]), why);
    assert_refused(&with(19, &[0x04, 0x25]), "");
    assert_refused(&with(17, &[0x90; 8]), why);
    assert_refused(&with(28, &[0x74]), why);
    // Somebody jumps into it: to `sub rsp, 0x1000`.
    assert_refused(&[&[0xeb, 0x0a][..], &with(0, &[])].concat(), "no function begins");
    // Far below what was touched: sub rsp, 0x1f80 before, and add behind.
    let far = |first: [u8; 4]| {
        let open = [&[0x48, 0x81, 0xec][..], &first].concat();
        let close = [&[0x48, 0x81, 0xc4][..], &first].concat();
        [&open, &PROBES[..], &[0x48, 0x81, 0xc4, 0x00, 0x90, 0x00, 0x00], &close, &[0xc3]].concat()
    };
    assert_shown(&far([0x00, 0x0f, 0, 0]));
    assert_refused(&far([0x80, 0x1f, 0, 0]), "over the guard");
}
