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
fn threads() {
    check("(module (memory 1 1 shared))", "shared memories are not supported");
    check("(module (import \"a\" \"b\" (memory 1 1 shared)))", "shared memories are not supported");
}

#[test]
fn garbage_collection() {
    check("(module (type (struct)))", "without the gc feature");
    check("(module (func (param anyref)))", "without the gc feature");
    check("(module (rec (type (func)) (type (func))))", "rec group");
    check("(module (func (drop (ref.i31 (i32.const 1)))))", "support is not enabled");
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
