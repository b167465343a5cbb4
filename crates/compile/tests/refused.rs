//! What is not compiled is refused in one line that names it and says where.

use awsm_compile::{CompileError, Options, compile};

/// The refusal of a module in the text format.
fn refusal(wat: &str) -> String {
    let wasm = wat::parse_str(wat).expect("the text format knows the feature");
    refusal_of(&wasm)
}

fn refusal_of(wasm: &[u8]) -> String {
    let error = compile(wasm, &Options::default()).expect_err("a module that is refused");
    assert!(matches!(error, CompileError::Invalid { .. }), "{error:?}");
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// Checks that the refusal names the feature and an offset.
fn check(wat: &str, feature: &str) {
    let message = refusal(wat);
    assert!(message.contains(feature), "{message}");
    assert!(message.contains("(at offset 0x"), "{message}");
}

#[test]
fn relaxed_vectors() {
    let wat = "(module (func (result i32) (i32.const 0) (i8x16.splat) (i8x16.splat (i32.const 1))
        (i8x16.relaxed_swizzle) (i8x16.extract_lane_s 0)))";
    check(wat, "support is not enabled");
}

#[test]
fn threads() {
    check("(module (memory 1 1 shared))", "threads must be enabled");
    let wat = "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))";
    check(wat, "threads support is not enabled");
}

#[test]
fn exceptions() {
    check("(module (tag))", "exceptions proposal not enabled");
    check("(module (func (try_table)))", "exceptions support is not enabled");
}

#[test]
fn legacy_exceptions() {
    check("(module (func try catch_all end))", "legacy_exceptions feature required");
}

#[test]
fn tail_calls() {
    check("(module (func (return_call 0)))", "tail calls support is not enabled");
}

#[test]
fn memory64() {
    check("(module (memory i64 1))", "memory64 must be enabled");
}

#[test]
fn several_memories() {
    check("(module (memory 1) (memory 1))", "multiple memories");
}

#[test]
fn custom_page_sizes() {
    check("(module (memory 1 (pagesize 1)))", "custom page sizes proposal must be enabled");
}

#[test]
fn typed_function_references() {
    check("(module (type $t (func)) (func (param (ref $t))))", "function references required");
    check(
        "(module (func (param (ref null func)) (ref.as_non_null (local.get 0)) drop))",
        "support is not enabled",
    );
}

#[test]
fn garbage_collection() {
    check("(module (type (struct)))", "without the gc feature");
    check("(module (func (param anyref)))", "without the gc feature");
}

#[test]
fn wide_arithmetic() {
    let wat = "(module (func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0)
        (i64.const 0))))";
    check(wat, "wide arithmetic support is not enabled");
}

#[test]
fn stack_switching() {
    check("(module (type $f (func)) (type (cont $f)))", "stack switching");
}

#[test]
fn components() {
    let message = refusal("(component)");
    assert!(message.contains("component"), "{message}");
}

#[test]
fn garbage() {
    assert!(refusal_of(b"").contains("unexpected end"), "{}", refusal_of(b""));
    assert!(refusal_of(b"\x7fELF\x02\x01\x01\0\0\0\0\0").contains("magic"));
    assert!(refusal_of(b"\0asm\x02\0\0\0").contains("version"));
}

/// What 64-bit memories allow must not be read for 32-bit ones: a minimum of 1 in six bytes.
#[test]
fn an_overlong_number() {
    let wasm = b"\0asm\x01\0\0\0\x05\x08\x01\0\x81\x80\x80\x80\x80\0";
    let message = refusal_of(wasm);
    assert!(message.contains("integer representation too long"), "{message}");
}

#[test]
fn truncated_anywhere() {
    let wasm = wat::parse_str(
        r#"(module (import "a" "b" (func (param i32))) (memory 1) (data (i32.const 0) "abc")
            (table 1 funcref) (elem (i32.const 0) 0)
            (func (export "f") (call 0 (i32.load (i32.const 3)))))"#,
    )
    .expect("a module");
    // Without its last sections a module may be valid; it is never anything but valid or refused.
    let valid = (0..wasm.len()).filter(|len| compile_none(&wasm[..*len])).count();
    assert!(valid < 8, "{valid} prefixes are modules");
}

/// Is it a module? Cheaply: IR without optimisation.
fn compile_none(wasm: &[u8]) -> bool {
    let options = Options { opt_level: awsm_compile::OptLevel::O0, ..Options::default() };
    awsm_compile::emit(wasm, &options, awsm_compile::Emit::Ir).is_ok()
}

#[test]
fn an_invalid_body() {
    // Its only instruction leaves an integer behind that nobody asked for.
    let wasm = wat::parse_str("(module (func i32.const 1))").expect("text is not validated");
    assert_eq!(
        refusal_of(&wasm),
        "type mismatch: values remaining on stack at end of block (at offset 0x19)"
    );
}
