//! The shape of what comes out: nothing to bind, nothing to relocate, nothing to write, one symbol.

use awsm_abi::cpu::{Arch, CpuFeatures, x86_64_baseline};
use awsm_abi::desc::ModuleDesc;
use awsm_compile::{Isolation, OptLevel, Options, Target, compile};
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::mem::offset_of;

/// Every kind of thing a module can have, and all that needs help from outside on some processor.
const MODULE: &str = r#"(module
    (type $binary (func (param i32 i32) (result i32)))
    (import "host" "f" (func $imported (param i32 i64 f32 f64) (result f64)))
    (import "host" "t" (table 1 funcref))
    (import "host" "g" (global (mut i64)))
    (memory (export "memory") 1 10)
    (table $own 3 funcref)
    (global $counter (export "counter") (mut i32) (i32.const 7))
    (elem (table $own) (i32.const 0) func $add $choose)
    (data (i32.const 8) "some data")
    (data "passive")
    (func $add (type $binary) (i32.add (local.get 0) (local.get 1)))
    (func $choose (export "choose") (param i32) (result i32)
        (block (block (block (block (block (block
            (br_table 0 1 2 3 4 5 (local.get 0)))
            (return (i32.const 11))) (return (i32.const 71))) (return (i32.const 5)))
            (return (i32.const 312))) (return (i32.const 4))) (i32.const -1))
    (func (export "move") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2))
        (memory.fill (local.get 0) (local.get 1) (local.get 2))
        (memory.init 1 (local.get 0) (local.get 1) (local.get 2)))
    (func (export "round") (param f64 f32) (result f64 f32)
        (f64.nearest (f64.floor (f64.ceil (f64.trunc (local.get 0)))))
        (f32.nearest (f32.floor (f32.ceil (f32.trunc (local.get 1))))))
    (func (export "call") (param i32) (result i32)
        (global.set $counter (i32.const 1))
        (call_indirect $own (type $binary) (i32.const 1) (i32.const 2) (local.get 0)))
    (func (export "host") (result f64)
        (call $imported (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4)))
    (func (export "many") (result i32 i64 f32 f64 i32 i64 funcref)
        (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4) (i32.const 5) (i64.const 6)
        (ref.func $add))
    (func (export "float") (param f64 f32) (result i64)
        (i64.add (i64.trunc_f64_u (local.get 0)) (i64.trunc_sat_f32_u (local.get 1)))))"#;

/// Vector instructions that are lowered in different ways.
const VECTORS: &str = r#"(module
    (memory 1)
    (global $g (export "g") (mut v128) (v128.const i32x4 1 2 3 4))
    (func $mix (export "mix") (param v128 v128 i32) (result v128 i32 v128)
        (i8x16.swizzle (local.get 0) (local.get 1))
        (i32.add (i8x16.bitmask (local.get 0)) (i32x4.all_true (local.get 1)))
        (i8x16.shr_s (i16x8.q15mulr_sat_s (local.get 0) (local.get 1)) (local.get 2)))
    (func (export "narrow") (param v128 v128) (result v128)
        (v128.xor
            (v128.xor (i8x16.narrow_i16x8_s (local.get 0) (local.get 1))
                      (i8x16.narrow_i16x8_u (local.get 0) (local.get 1)))
            (v128.xor (i16x8.narrow_i32x4_s (local.get 0) (local.get 1))
                      (i16x8.narrow_i32x4_u (local.get 0) (local.get 1)))))
    (func (export "multiply") (param v128 v128) (result v128)
        (i64x2.add
            (i64x2.mul (local.get 0) (i32x4.dot_i16x8_s (local.get 0) (local.get 1)))
            (i64x2.extmul_high_i32x4_u
                (i16x8.extadd_pairwise_i8x16_s (local.get 0))
                (i16x8.avgr_u (local.get 0) (i8x16.popcnt (local.get 1))))))
    (func (export "floats") (param v128 v128) (result v128)
        (f32x4.nearest (f32x4.floor (f32x4.ceil (f32x4.trunc (f32x4.min (local.get 0)
            (f32x4.demote_f64x2_zero (f64x2.max (local.get 0) (f64x2.nearest (local.get 1))))))))))
    (func (export "convert") (param v128) (result v128)
        (v128.or (i32x4.trunc_sat_f32x4_u (f32x4.convert_i32x4_u (local.get 0)))
                 (i32x4.trunc_sat_f64x2_s_zero (f64x2.convert_low_i32x4_u (local.get 0)))))
    (func (export "memory") (param i32 v128)
        (v128.store64_lane 1 (local.get 0)
            (v128.load8_lane 3 (local.get 0) (v128.load32x2_s (local.get 0))))
        (global.set $g (v128.load16_splat (local.get 0))))
    (func (export "call") (result v128)
        (call $mix (global.get $g) (v128.const f64x2 1 2) (i32.const 3)) (drop) (drop)))"#;

/// What the later versions of the language add.
const LANGUAGE: &str = r#"(module
    (type $f (func (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i64 v128)))
    (type $unary (func (param i64) (result i64)))
    (import "host" "f" (func $imported (param i64) (result i64)))
    (import "host" "e" (tag $imported_tag (param i32)))
    (memory $a 1)
    (memory $b i64 1 2)
    (memory $c 10 20 (pagesize 1))
    (tag $own (export "own") (param i64 v128))
    (table $t 2 (ref $unary) (ref.func $spin))
    (table $exceptions i64 1 exnref)
    (global $offset i32 (i32.add (i32.const 1) (i32.mul (i32.const 2) (i32.const 3))))
    (data (memory $b) (i64.add (i64.const 1) (i64.const 2)) "wide")
    (func $spin (type $unary) (return_call $imported (local.get 0)))
    (func $many (export "many") (type $f)
        (return_call_ref $f (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)
            (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 0) (ref.func $many)))
    (func (export "indirect") (param i64) (result i64)
        (return_call_indirect $t (type $unary) (local.get 0) (i32.const 0)))
    (func (export "call") (param i64 (ref null $unary)) (result i64)
        (call_ref $unary (local.get 0) (ref.as_non_null (local.get 1))))
    (func (export "catch") (param i32) (result i64 v128 exnref)
        (block $h (result i64 v128 exnref)
            (try_table (catch_ref $own $h)
                (throw $own (call_ref $unary (i64.const 1) (ref.func $spin)) (v128.const i64x2 1 2)))
            (unreachable)))
    (func (export "rethrow") (param exnref)
        (table.set $exceptions (i64.const 0) (local.get 0))
        (throw_ref (table.get $exceptions (i64.const 0))))
    (func (export "legacy") try (throw $imported_tag (i32.const 1)) catch_all rethrow 0 end)
    (func (export "memories") (param i64 i32) (result i64)
        (memory.copy $b $a (local.get 0) (local.get 1) (local.get 1))
        (i32.store8 $c (local.get 1) (memory.grow $c (i32.const 1)))
        (i64.load $b offset=0x100000000 (local.get 0)))
    (func (export "wide") (param i64 i64) (result i64 i64)
        (i64.add128 (i64.mul_wide_s (local.get 0) (local.get 1))
                    (i64.mul_wide_u (local.get 0) (local.get 1))))
    (func (export "relaxed") (param v128 v128 v128) (result v128)
        (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get 0)
            (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)) (local.get 2))))"#;

fn module() -> Vec<u8> {
    wat::parse_str(MODULE).expect("a module")
}

/// Checks everything that the loader relies on, in an object's own words.
fn check(bytes: &[u8], arch: Arch) {
    let file = ElfFile64::<Endianness>::parse(bytes).expect("an ELF object");
    let endian = file.endian();
    let header = file.elf_header();
    let machine = match arch {
        Arch::X86_64 => elf::EM_X86_64,
        Arch::Aarch64 => elf::EM_AARCH64,
    };
    assert_eq!(header.e_type(endian), elf::ET_DYN);
    assert_eq!(header.e_machine(endian), machine);

    let page = if arch == Arch::Aarch64 { 65_536 } else { 4096 };
    for segment in file.elf_program_headers() {
        let (kind, flags) = (segment.p_type(endian), segment.p_flags(endian));
        assert!(kind != elf::PT_INTERP && kind != elf::PT_TLS && kind != elf::PT_GNU_RELRO);
        if kind == elf::PT_LOAD {
            assert_eq!(flags & elf::PF_W, 0, "a writable segment");
            assert_eq!(segment.p_memsz(endian), segment.p_filesz(endian), "zeroed memory");
            assert_eq!(segment.p_vaddr(endian) % page, segment.p_offset(endian) % page);
        }
        if kind == elf::PT_GNU_STACK {
            assert_eq!(flags & elf::PF_X, 0, "an executable stack");
        }
        for entry in segment.dynamic(endian, bytes).ok().flatten().into_iter().flatten() {
            let tag = entry.d_tag(endian);
            let harmless = [
                elf::DT_NULL,
                elf::DT_SYMTAB,
                elf::DT_SYMENT,
                elf::DT_STRTAB,
                elf::DT_STRSZ,
                elf::DT_GNU_HASH,
            ];
            assert!(harmless.contains(&tag), "a dynamic entry {tag:#x}");
        }
    }
    for section in file.sections() {
        let name = section.name().expect("a name");
        assert!(!name.contains("init") && !name.contains("fini"), "{name}");
        assert!(!name.starts_with(".rel") && !name.starts_with(".data"), "{name}");
        assert!(!name.starts_with(".got"), "{name}");
    }
    // Frames of all code can be taken apart.
    let has = |name| file.section_by_name(name).is_some();
    assert_eq!(has("awsm_text"), has(".eh_frame") && has(".eh_frame_hdr"));
    assert_eq!(file.dynamic_relocations().into_iter().flatten().count(), 0);
    let symbols: Vec<_> = file.dynamic_symbols().collect();
    let names: Vec<_> = symbols.iter().map(|symbol| symbol.name().expect("a name")).collect();
    assert_eq!(names, [awsm_abi::DESC_SYMBOL]);
    assert_eq!(symbols[0].kind(), SymbolKind::Data);
    assert!(!file.symbols().any(|symbol| symbol.is_undefined()));
}

/// A descriptor's bytes, found by its symbol.
fn descriptor(bytes: &[u8]) -> &[u8] {
    let file = ElfFile64::<Endianness>::parse(bytes).expect("an ELF object");
    let symbol = file.dynamic_symbols().next().expect("a symbol");
    let section = file.section_by_index(symbol.section_index().expect("a section"));
    let section = section.expect("a section");
    let start = (symbol.address() - section.address()) as usize;
    &section.data().expect("its bytes")[start..start + symbol.size() as usize]
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn every_processor() {
    let x86_64: Target = "x86_64-unknown-linux-gnu".parse().expect("a target");
    let aarch64: Target = "aarch64-unknown-linux-gnu".parse().expect("a target");
    let processors = [
        (x86_64, "x86-64"),
        (x86_64, "x86-64-v2"),
        (x86_64, "x86-64-v3"),
        (x86_64, "x86-64-v4"),
        (aarch64, "generic"),
    ];
    for (target, cpu) in processors {
        let options = Options { target, cpu: Some(cpu.to_owned()), ..Options::default() };
        let bytes = compile(&module(), &options).expect("an object");
        check(&bytes, target.0);
        for more in [VECTORS, LANGUAGE] {
            let more = wat::parse_str(more).expect("a module");
            check(&compile(&more, &options).expect("an object"), target.0);
        }
        let wanted = x86_64_baseline(cpu)
            .unwrap_or_else(|| CpuFeatures::from_names(Arch::Aarch64, ["neon"]));
        let features = u64_at(descriptor(&bytes), offset_of!(ModuleDesc, cpu_features));
        assert_eq!(features, wanted.0, "{cpu}");
    }
}

#[test]
fn every_mode_and_level() {
    for isolation in [Isolation::Guard, Isolation::Checked, Isolation::None] {
        for opt_level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
            let options = Options { opt_level, isolation, ..Options::default() };
            let bytes = compile(&module(), &options).expect("an object");
            check(&bytes, Arch::HOST);
            let mode = u64_at(descriptor(&bytes), offset_of!(ModuleDesc, isolation)) as u32;
            assert_eq!(mode, isolation as u32);
        }
    }
}

#[test]
fn the_descriptor_says_where_the_code_is() {
    let bytes = compile(&module(), &Options::default()).expect("an object");
    let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).expect("an ELF object");
    let text = file.section_by_name("awsm_text").expect("code");
    let symbol = file.dynamic_symbols().next().expect("a symbol");
    let at = offset_of!(ModuleDesc, text);
    let desc = descriptor(&bytes);
    assert_eq!(symbol.address().wrapping_add(u64_at(desc, at)), text.address());
    assert_eq!(u64_at(desc, at + 8), text.size());
}

#[test]
fn functions_keep_their_names() {
    let bytes = compile(&module(), &Options::default()).expect("an object");
    let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).expect("an ELF object");
    let names: Vec<_> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(names.contains(&"wasm[2]:choose"), "{names:?}");
}

#[test]
fn an_empty_module() {
    let wasm = wat::parse_str("(module)").expect("a module");
    let bytes = compile(&wasm, &Options::default()).expect("an object");
    check(&bytes, Arch::HOST);
    assert_eq!(u64_at(descriptor(&bytes), offset_of!(ModuleDesc, text) + 8), 0);
    assert!(bytes.len() < 4096, "{} bytes", bytes.len());
}

#[test]
fn a_small_module_is_small() {
    let wasm = wat::parse_str(r#"(module (func (export "f")))"#).expect("a module");
    let bytes = compile(&wasm, &Options::default()).expect("an object");
    check(&bytes, Arch::HOST);
    assert!(bytes.len() < 10_000, "{} bytes", bytes.len());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let once = compile(&module(), &Options::default()).expect("an object");
    assert_eq!(once, compile(&module(), &Options::default()).expect("an object"));
}
