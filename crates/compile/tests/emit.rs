//! Every kind of output, and what the code in it must have or must not have.

use awsm_compile::{Emit, Isolation, OptLevel, Options, emit, fingerprint};

/// The optimised IR of a module in the text format.
fn ir(wat: &str, options: &Options) -> String {
    let wasm = wat::parse_str(wat).expect("a module");
    let ir = emit(&wasm, options, Emit::Ir).expect("IR");
    String::from_utf8(ir).expect("text")
}

/// The IR of one function.
fn function<'a>(ir: &'a str, name: &str) -> &'a str {
    let start = ir.find(&format!("@\"{name}\"(")).unwrap_or_else(|| panic!("no {name} in {ir}"));
    let body = &ir[start..];
    &body[..body.find("\n}").expect("the end of a function")]
}

fn baseline() -> Options {
    Options {
        target: "x86_64-unknown-linux-gnu".parse().expect("a target"),
        cpu: Some("x86-64-v2".to_owned()),
        ..Options::default()
    }
}

const LOAD: &str = r#"(module (memory 1)
    (func (export "load") (param i32) (result i64) (i64.load offset=16 (local.get 0))))"#;

#[test]
fn kinds() {
    let wasm = wat::parse_str(LOAD).expect("a module");
    let emit = |what| emit(&wasm, &baseline(), what).expect("an output");
    assert!(emit(Emit::Ir).starts_with(b"; ModuleID"));
    let asm = String::from_utf8(emit(Emit::Asm)).expect("text");
    assert!(asm.contains(r#""wasm[0]:load":"#), "{asm}");
    for what in [Emit::Object, Emit::SharedObject] {
        assert!(emit(what).starts_with(b"\x7fELF"));
    }
}

#[test]
fn checked_mode_compares() {
    let compares = |isolation| {
        let ir = ir(LOAD, &Options { isolation, ..baseline() });
        function(&ir, "wasm[0]:load").matches("icmp").count()
    };
    assert_eq!(compares(Isolation::Checked), 1);
    assert_eq!(compares(Isolation::Guard), 0);
    assert_eq!(compares(Isolation::None), 0);
}

#[test]
fn a_load_that_nobody_needs_stays() {
    let wat = r#"(module (memory 1)
        (func $peek (param i32) (result i32) (i32.load (local.get 0)))
        (func (export "drop") (param i32) (drop (i32.load (local.get 0))))
        (func (export "times zero") (param i32) (result i32)
            (i32.mul (i32.const 0) (i32.load (local.get 0))))
        (func (export "call") (param i32) (drop (call $peek (local.get 0)))))"#;
    let ir = ir(wat, &baseline());
    for name in ["wasm[1]:drop", "wasm[2]:times_zero", "wasm[3]:call"] {
        assert!(function(&ir, name).contains("load"), "{name}: {ir}");
    }
}

#[test]
fn a_load_that_is_needed_is_an_ordinary_one() {
    assert!(!ir(LOAD, &baseline()).contains("volatile"));
}

#[test]
fn endless_recursion_stays_recursion() {
    let wat = r#"(module
        (func $runaway (export "runaway") (call $runaway))
        (func $a (export "a") (param i32) (result i32) (call $b (local.get 0)))
        (func $b (param i32) (result i32) (call $a (local.get 0))))"#;
    for opt_level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
        let wasm = wat::parse_str(wat).expect("a module");
        let asm = emit(&wasm, &Options { opt_level, ..baseline() }, Emit::Asm).expect("assembly");
        let asm = String::from_utf8(asm).expect("text");
        for name in ["wasm[0]:runaway", "wasm[1]:a"] {
            let body = &asm[asm.find(&format!("\"{name}\":")).expect("the function")..];
            let body = &body[..body.find(".Lfunc_end").expect("its end")];
            assert!(body.contains("call"), "{name} at {opt_level:?}: {body}");
        }
    }
}

#[test]
fn an_endless_loop_stays() {
    let ir = ir(r#"(module (func (export "f") (loop (br 0))))"#, &baseline());
    let body = function(&ir, "wasm[0]:f");
    assert!(body.contains("br label") && !body.contains("unreachable"), "{body}");
}

#[test]
fn signalling_nans_do_not_survive_arithmetic() {
    let wat = r#"(module
        (func $times (param f64 f64) (result f64) (f64.mul (local.get 0) (local.get 1)))
        (func (export "one") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 1)))
        (func (export "call") (param f64) (result f64) (call $times (local.get 0) (f64.const 1)))
        (func (export "divide") (param f64) (result f64) (f64.div (local.get 0) (f64.const -1)))
        (func (export "minus") (param f64) (result f64) (f64.sub (local.get 0) (f64.const 0)))
        (func (export "negative") (param f64) (result f64) (f64.sub (f64.const -0) (local.get 0)))
        (func (export "round trip") (param f32) (result f32)
            (f32.demote_f64 (f64.promote_f32 (local.get 0))))
        (func (export "select") (param f64 i32) (result f64)
            (f64.mul (local.get 0) (select (f64.const 1) (f64.const -1) (local.get 1)))))"#;
    let ir = ir(wat, &baseline());
    let wanted = [
        ("wasm[1]:one", "fmul"),
        ("wasm[2]:call", "fmul"),
        ("wasm[3]:divide", "fdiv"),
        ("wasm[4]:minus", "fsub"),
        ("wasm[5]:negative", "fsub"),
        ("wasm[6]:round_trip", "fptrunc"),
        ("wasm[7]:select", "fmul"),
    ];
    for (name, instruction) in wanted {
        let body = function(&ir, name);
        assert!(body.contains(instruction), "{body}");
    }
}

#[test]
fn constants_that_change_nothing_are_not_hidden() {
    // The sum is never a signalling NaN.
    let wat = r#"(module (func (export "f") (param f64) (result f64)
        (f64.mul (f64.add (local.get 0) (local.get 0)) (f64.const 1))))"#;
    assert!(!ir(wat, &baseline()).contains("asm \""));
}

#[test]
fn a_store_to_memory_leaves_globals_in_registers() {
    let wat = r#"(module (memory 1) (global $g (mut i32) (i32.const 0))
        (func (export "f") (param i32) (result i32)
            (local $first i32)
            (local.set $first (global.get $g))
            (i32.store (local.get 0) (i32.const 1))
            (i32.add (local.get $first) (global.get $g))))"#;
    let ir = ir(wat, &baseline());
    assert_eq!(function(&ir, "wasm[0]:f").matches(" load ").count(), 1, "{ir}");
}

#[test]
fn a_loop_over_memory_is_vectorised() {
    let wat = r#"(module (memory 1)
        (func (export "xor") (param $from i32) (result i32)
            (local $i i32) (local $sum i32)
            (loop
                (local.set $sum (i32.xor (local.get $sum)
                    (i32.load (i32.add (local.get $from) (local.get $i)))))
                (br_if 0 (i32.ne (i32.const 4096)
                    (local.tee $i (i32.add (local.get $i) (i32.const 4))))))
            (local.get $sum)))"#;
    let ir = ir(wat, &Options { cpu: Some("x86-64-v3".to_owned()), ..baseline() });
    assert!(function(&ir, "wasm[0]:xor").contains("x i32>"), "{ir}");
}

#[test]
fn fingerprints_tell_options_apart() {
    let of = |options: &Options| fingerprint(options).expect("a fingerprint");
    let base = baseline();
    assert_eq!(of(&base), of(&base));
    assert!(of(&base).contains("LLVM 19."), "{}", of(&base));
    let others = [
        Options { opt_level: OptLevel::O1, ..base.clone() },
        Options { isolation: Isolation::Checked, ..base.clone() },
        Options { cpu: Some("x86-64-v3".to_owned()), ..base.clone() },
        Options { target: "aarch64-unknown-linux-gnu".parse().unwrap(), cpu: None, ..base.clone() },
    ];
    for other in others {
        assert_ne!(of(&base), of(&other));
    }
}

#[test]
fn unknown_names_are_refused_with_those_known() {
    let unknown = "riscv64-unknown-linux-gnu".parse::<awsm_compile::Target>();
    let message = unknown.expect_err("an unknown target").to_string();
    assert!(message.contains("x86_64-unknown-linux-gnu"), "{message}");
    let options = Options { cpu: Some("pentium".to_owned()), ..baseline() };
    let message = fingerprint(&options).expect_err("an unknown processor").to_string();
    assert!(message.contains("`pentium`") && message.contains("x86-64-v3"), "{message}");
}

/// A loop that adds one vector to another, unrolled `k` times as clang unrolls. The third parameter
/// is the length below zero, for a `k` that is no power of two a constant; the other vector is
/// `back` bytes behind the first, or anywhere.
fn unrolled(k: usize, back: Option<usize>) -> String {
    let other = |i: usize| match back {
        Some(back) => format!("(local.get $p) (i32.const {})", (8 * i) as i64 - back as i64),
        None => format!("(local.get $q) (i32.const {})", 8 * i),
    };
    let segment = |i: usize| {
        format!(
            "(f64.store (i32.add (local.get $p) (i32.const {at}))
                (f64.add (f64.load (i32.add (local.get $p) (i32.const {at})))
                         (f64.load (i32.add {other}))))",
            at = 8 * i,
            other = other(i)
        )
    };
    let (segments, step) = ((0..k).map(segment).collect::<String>(), 8 * k);
    let length = match k.is_power_of_two() {
        true => String::new(),
        false => format!("(local.set $c (i32.const -{}))", 100 * k),
    };
    format!(
        r#"(module (memory 1) (func (export "add") (param $p i32) (param $q i32) (param $c i32)
            {length}
            (loop $again {segments}
                (local.set $p (i32.add (local.get $p) (i32.const {step})))
                (local.set $q (i32.add (local.get $q) (i32.const {step})))
                (br_if $again (local.tee $c (i32.add (local.get $c) (i32.const {k})))))))"#,
    )
}

/// Vector additions in the optimised code of [`unrolled`].
fn vector_sums(k: usize, back: Option<usize>, isolation: Isolation) -> usize {
    let ir = ir(&unrolled(k, back), &Options { isolation, ..baseline() });
    function(&ir, "wasm[0]:add").matches("fadd <2 x double>").count()
}

#[test]
fn loops_become_vector_code_however_they_were_unrolled() {
    for isolation in [Isolation::Guard, Isolation::Checked] {
        for k in [1, 2, 3, 4, 5, 8] {
            assert!(vector_sums(k, None, isolation) > 0, "unrolled {k} times, {isolation:?}");
        }
    }
}

#[test]
fn loops_that_need_what_they_stored_become_no_vector_code() {
    assert_eq!(vector_sums(4, Some(8), Isolation::Guard), 0);
    // Two at once need nothing that they store.
    for back in [16, 64] {
        assert!(vector_sums(4, Some(back), Isolation::Guard) > 0, "{back} bytes back");
    }
}

#[test]
fn addresses_of_loops_count_in_64_bits() {
    let ir = ir(&unrolled(4, None), &baseline());
    let add = function(&ir, "wasm[0]:add");
    let sum = add.find("fadd <2 x double>").unwrap_or_else(|| panic!("{ir}"));
    let start = add[..sum].rfind("phi i64").unwrap_or_else(|| panic!("{ir}"));
    assert!(!add[start..sum].contains("zext"), "{ir}");
}
