//! Files that are not good modules: each is refused with one line that says what and what to do.

mod support;

use std::mem::offset_of;
use std::process::Command;

use awsm_abi::context::Counts;
use awsm_abi::cpu::CpuFeatures;
use awsm_abi::desc::{FuncDesc, ModuleDesc, RelSlice, TypeDesc, val_type};
use awsm_sandbox::{Isolation, Limits, Linker, LoadError, Module, Program};

const GOOD: &str = r#"(module (memory 1) (data (i32.const 0) "x") (func (export "run")))"#;

/// The message with which these bytes are refused.
fn refusal(bytes: &[u8]) -> String {
    let (_directory, path) = support::file(bytes);
    let error = Module::load(&path).expect_err("a file that is refused");
    let message = error.to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

/// A good module with some bytes of its descriptor, at this offset, replaced.
fn patched(offset: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = support::object(GOOD, Isolation::Guard);
    let magic = position(&bytes, &awsm_abi::MAGIC);
    bytes[magic + offset..][..new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn a_good_one_loads() {
    let (_directory, path) = support::file(&support::object(GOOD, Isolation::Guard));
    let module = Module::load(&path).expect("a good module");
    assert!(module.text_bytes() > 0 && module.compiler().starts_with("awsmc"));
}

#[test]
fn not_a_shared_object() {
    assert!(refusal(b"").contains("not a shared object"));
    assert!(refusal(b"\0asm\x01\0\0\0").contains("not a shared object"));
    assert!(refusal(&[0x7f; 5000]).contains("not a shared object"));
    assert!(
        refusal(&std::fs::read("/proc/self/exe").expect("this test"))
            .contains("not a module that awsmc made")
    );
}

#[test]
fn truncated_anywhere() {
    let good = support::object(GOOD, Isolation::Guard);
    for length in (0..good.len() - 1).step_by(97) {
        let (_directory, path) = support::file(&good[..length]);
        // What is cut off may be nothing that a loader looks at; then the module is whole.
        if let Err(error) = Module::load(&path) {
            assert!(!error.to_string().contains('\n'));
        } else {
            assert!(length > good.len() / 2, "{length} of {} bytes", good.len());
        }
    }
}

#[test]
fn flipped_bits_never_bring_the_loader_down() {
    let good = support::object(GOOD, Isolation::Guard);
    let head = good.len().min(3000);
    for at in 0..head {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let (_directory, path) = support::file(&bytes);
        let _ = Module::load(&path);
    }
}

#[test]
fn another_abi_version() {
    let message = refusal(&patched(8, &77_u32.to_le_bytes()));
    assert!(message.starts_with("has ABI version 77, this runtime needs"), "{message}");
}

#[test]
fn processor_features_that_are_not_here() {
    let offset = offset_of!(ModuleDesc, cpu_features);
    let message = refusal(&patched(offset, &CpuFeatures(1 << 63).0.to_le_bytes()));
    assert!(message.contains("lacks (unknown)"), "{message}");
}

#[test]
fn no_isolation() {
    let message = refusal(&support::object(GOOD, Isolation::None));
    assert!(message.contains("--memory none"), "{message}");
}

#[test]
fn a_broken_descriptor() {
    // Its own size, the compiler's name, the counts, and each table of it.
    let tables = offset_of!(ModuleDesc, types)..size_of::<ModuleDesc>();
    for (offset, bytes) in
        [(12, 4), (32, 16), (48, 8)].into_iter().chain(tables.step_by(16).map(|at| (at, 16)))
    {
        let message = refusal(&patched(offset, &vec![0x7f; bytes]));
        assert!(
            message.contains("descriptor") || message.contains("counts"),
            "{offset}: {message}"
        );
    }
}

/// Types by the thousand whose parameters are the same megabyte: to look at them all takes no
/// memory or time by the square of the file's size.
#[test]
fn tables_that_lie_at_the_same_place() {
    let mut object = support::object(TAIL_CALLS, Isolation::Guard);
    let desc = position(&object, &awsm_abi::MAGIC);
    let word = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..][..8].try_into().expect("eight bytes"))
    };
    object.resize(object.len().next_multiple_of(16), 0);
    let (params, numbers, count) = (object.len(), 200_000_u64, 20_000_u64);
    object.extend(val_type::I64.to_le_bytes().repeat(numbers as usize));
    let list = desc + offset_of!(ModuleDesc, types);
    let first = desc + word(&object, list) as usize;
    let mut ty = object[first..][..size_of::<TypeDesc>()].to_vec();
    ty[offset_of!(TypeDesc, params)..][..8]
        .copy_from_slice(&((params - desc) as u64).to_le_bytes());
    ty[offset_of!(TypeDesc, params) + 8..][..8].copy_from_slice(&numbers.to_le_bytes());
    let types = object.len();
    object.extend(ty.repeat(count as usize));
    object[list..][..8].copy_from_slice(&((types - desc) as u64).to_le_bytes());
    object[list + 8..][..8].copy_from_slice(&count.to_le_bytes());
    // The last segment takes the rest of the file.
    let mut headers = (0..usize::from(object[56])).map(|number| 64 + 56 * number);
    let text = headers.rfind(|at| object[*at..][..4] == [1, 0, 0, 0]).expect("text");
    let bytes = object.len() as u64 - word(&object, text + 8);
    for field in [32, 40] {
        object[text + field..][..8].copy_from_slice(&bytes.to_le_bytes());
    }
    assert!(refusal(&object).contains("parameters"));
}

/// A module with functions in the tail convention, one of which needs argument cells.
const TAIL_CALLS: &str = r#"(module
    (func $inner (param i64 i64 i64 i64 i64 i64 i64) (result i64)
        (return_call $inner (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
            (i64.const 1) (local.get 0)))
    (func (export "run") (result i64)
        (return_call $inner (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
            (i64.const 1) (i64.const 1))))"#;

#[test]
fn argument_cells_that_would_not_suffice() {
    let good = support::object(TAIL_CALLS, Isolation::Guard);
    let desc = position(&good, &awsm_abi::MAGIC);
    let at = desc + offset_of!(ModuleDesc, counts) + offset_of!(Counts, argument_cells);
    assert!(good[at] > 0, "the module needs argument cells");
    for lie in [0, good[at] - 1, good[at] + 1] {
        let mut bytes = good.clone();
        bytes[at] = lie;
        assert!(refusal(&bytes).contains("argument cells"), "{lie}");
    }
}

#[test]
fn an_exported_function_that_has_no_code_for_its_callers() {
    let good = support::object(TAIL_CALLS, Isolation::Guard);
    let desc = position(&good, &awsm_abi::MAGIC);
    let functions = desc + offset_of!(ModuleDesc, functions) + offset_of!(RelSlice, start);
    let functions = i64::from_le_bytes(good[functions..][..8].try_into().expect("eight bytes"));
    let run = desc + functions as usize + size_of::<FuncDesc>();
    // Either code of the exported function, and both of the other.
    let inner = desc + functions as usize;
    assert_eq!(good[inner + offset_of!(FuncDesc, code)..][..8], [0; 8], "only the module calls it");
    for at in [run + offset_of!(FuncDesc, code), inner + offset_of!(FuncDesc, tail)] {
        let mut bytes = good.clone();
        bytes[at..][..8].fill(0);
        assert!(refusal(&bytes).contains("function"), "{at}");
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}

/// What clang makes of a C file.
fn c_library(source: &str, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (input, output) = (directory.path().join("a.c"), directory.path().join("a.so"));
    std::fs::write(&input, source).expect("a writable directory");
    let built = Command::new("clang-19")
        .args([
            "-shared",
            "-nostdlib",
            "-O1",
            "-fPIC",
            "-fuse-ld=lld",
            "-Wl,-z,rodynamic,-z,norelro,-z,separate-code,-z,max-page-size=4096",
        ])
        .args(options)
        .arg("-o")
        .arg(&output)
        .arg(&input)
        .status();
    assert!(built.expect("clang-19").success());
    std::fs::read(&output).expect("an output")
}

#[test]
fn somebody_elses_shared_object() {
    let message = refusal(&c_library("int f(void) { return 1; }", &[]));
    assert!(message.contains("no symbol `awsm_module`"), "{message}");
    let message = refusal(&c_library("int counter = 1; int *f(void) { return &counter; }", &[]));
    assert!(message.contains("writable"), "{message}");
}

#[test]
fn an_undefined_symbol() {
    let source = "extern int g(void); int f(void) { return g() + 1; }";
    let message = refusal(&c_library(source, &["-fno-plt", "-Wl,-z,undefs"]));
    assert!(message.contains("awsmc made"), "{message}");
    let weak = "extern int strange_thing __attribute__((weak)); const char f[] = \"x\";
        int h(void) { return sizeof f; } __asm__(\".weak strange_symbol\\n.reloc ., R_X86_64_NONE, strange_symbol\");";
    let message = refusal(&c_library(weak, &["-Wl,-z,undefs"]));
    assert!(message.contains("undefined symbol `strange_symbol`"), "{message}");
}

#[test]
fn a_constructor() {
    let source = "__attribute__((used, section(\".init_array\"))) static const long at = 0; int f(void) { return 1; }";
    let message = refusal(&c_library(source, &[]));
    assert!(message.contains("constructor") || message.contains("writable"), "{message}");
}

#[test]
fn another_processor() {
    let options = awsm_compile::Options {
        target: "aarch64-unknown-linux-gnu".parse().expect("a known target"),
        ..awsm_compile::Options::default()
    };
    let wasm = wat::parse_str(GOOD).expect("a module");
    let object = awsm_compile::compile(&wasm, &options).expect("a cross compilation");
    let message = refusal(&object);
    assert!(message.starts_with("is compiled for aarch64, this machine is"), "{message}");
}

#[test]
fn unknown_imports_are_named() {
    let wat = r#"(module (import "env" "secret" (func (param i32) (result i64)))
        (import "env" "other" (func)) (import "env" "memory" (memory 1)))"#;
    let module = support::load(wat, Isolation::Guard);
    let error = Program::link(module, &Linker::<()>::new(), Limits::default())
        .err()
        .expect("unknown imports");
    let message = error.to_string();
    assert!(message.contains("unknown import `env.secret` of type [i32] -> [i64]"), "{message}");
    assert!(
        message.contains("`env.other`") && message.contains("the memory `env.memory`"),
        "{message}"
    );
    assert!(!message.contains('\n'));
}

#[test]
fn errors_are_values() {
    let error =
        Module::load(std::path::Path::new("/nonexistent/module.so")).expect_err("no such file");
    assert!(matches!(error, LoadError::Io(_)));
}
