//! Code that is made to take the verifier long, or much memory: it is refused or shown, in about
//! the time that its size takes otherwise.

mod support;

use std::fmt::Write;

use awsm_compile::{Isolation, OptLevel};
use support::{function, object, refusal};

/// Bytes that `run` has at least.
const ROOM: usize = 256 << 10;

/// Code in place of a function of many bytes.
fn with(code: &[u8]) -> Vec<u8> {
    let mut body = String::from("(local.get 0)");
    // Each is ten bytes and more of code.
    for number in 0..ROOM / 10 {
        let _ = write!(body, "(i64.const {}) (i64.xor)", 0x1234_5678_9abc_0000_u64 + number as u64);
        let _ = write!(body, "(global.set $g) (global.get $g)");
    }
    let text = format!(
        r#"(module (memory 1) (global $g (export "g") (mut i64) (i64.const 0))
        (func (export "run") (param i64 i64) (result i64) {body}))"#
    );
    let mut object = object(&text, OptLevel::O0, Isolation::Guard);
    let place = function(&object, ":run");
    assert!(code.len() < place.len(), "{} of {} bytes", code.len(), place.len());
    object[place.clone()].fill(0xc3);
    object[place][..code.len()].copy_from_slice(code);
    object
}

/// Each conditional jump ends a block.
#[test]
fn a_function_of_a_hundred_thousand_blocks() {
    // test esi, esi; je +0
    let _ = refusal(&with(&[0x85, 0xf6, 0x74, 0x00].repeat(ROOM / 4 - 16)));
}

/// As many traps, in a function that somebody could call.
#[test]
fn a_function_of_traps() {
    // test esi, esi; je +2; ud2
    let _ = refusal(&with(&[0x85, 0xf6, 0x74, 0x02, 0x0f, 0x0b].repeat(ROOM / 6 - 16)));
}

/// Words of the frame that each block adds one to: states at the ends of blocks, that have all of
/// them, would take memory by the square.
#[test]
fn a_frame_of_ten_thousand_words() {
    // sub rsp, 0x40000: more than may lie between two touches, so in steps of a page.
    let mut code = Vec::new();
    let pages = 32_u32;
    for _ in 0..pages {
        // sub rsp, 4096; mov [rsp], rsi
        code.extend([0x48, 0x81, 0xec, 0x00, 0x10, 0, 0, 0x48, 0x89, 0x34, 0x24]);
    }
    for word in 0..pages * 512 {
        // mov [rsp + 8 * word], rdx; test esi, esi; je +0
        code.extend([0x48, 0x89, 0x94, 0x24]);
        code.extend((8 * word).to_le_bytes());
        code.extend([0x85, 0xf6, 0x74, 0x00]);
    }
    // add rsp, ...; ret
    code.extend([0x48, 0x81, 0xc4]);
    code.extend((pages * 4096).to_le_bytes());
    code.push(0xc3);
    let _ = refusal(&with(&code));
}

/// Loops in loops, in which every register changes.
#[test]
fn loops_a_thousand_deep() {
    let mut code = Vec::new();
    let deep = 1000;
    for _ in 0..deep {
        // add rax, rcx; lea rdx, [rdx + rax*2]; add rcx, rdx
        code.extend([0x48, 0x01, 0xc8, 0x48, 0x8d, 0x14, 0x42, 0x48, 0x01, 0xd1]);
    }
    for _ in 0..deep {
        // cmp rax, rdx; jb to the beginning of the loop
        code.extend([0x48, 0x39, 0xd0, 0x0f, 0x82]);
        let here = code.len() as i64 + 4;
        let back = (code.len() as i64 - 5 - 10 * deep as i64) / 9;
        let to = (deep as i64 - 1 - back) * 10;
        code.extend(i32::try_from(to - here).expect("near").to_le_bytes());
    }
    code.push(0xc3);
    let _ = refusal(&with(&code));
}

/// Sums of sums: what is known of a register doubles with each.
#[test]
fn values_of_many_terms() {
    let mut code = Vec::new();
    for number in 0..2000_u32 {
        // mov eax, [rdi + number]; lea rdx, [rdx + rax*2 + 1]; imul rdx, rdx; xor rsi, rdx; mov
        // r8d, edx; mov rcx, [rdi + r8]; add rdx, rcx
        code.extend([0x8b, 0x87]);
        code.extend((number * 8).to_le_bytes());
        code.extend([0x48, 0x8d, 0x54, 0x42, 0x01, 0x48, 0x0f, 0xaf, 0xd2, 0x48, 0x31, 0xd6]);
        code.extend([0x41, 0x89, 0xd0, 0x4a, 0x8b, 0x0c, 0x07, 0x48, 0x01, 0xca]);
    }
    let _ = refusal(&with(&code));
}

/// Comparisons that each tell a little about the same registers.
#[test]
fn a_thousand_facts_about_one_access() {
    let mut code = Vec::new();
    for number in 0..2000_u32 {
        // lea rax, [rsi + rdx*4 + number]; cmp rax, rcx; ja +1; nop; lea rcx, [rcx + rsi]
        code.extend([0x48, 0x8d, 0x84, 0x96]);
        code.extend(number.to_le_bytes());
        code.extend([0x48, 0x39, 0xc8, 0x77, 0x01, 0x90, 0x48, 0x8d, 0x0c, 0x31]);
    }
    for _ in 0..200 {
        // mov rax, [rdi + rcx]
        code.extend([0x48, 0x8b, 0x04, 0x0f]);
    }
    let _ = refusal(&with(&code));
}
