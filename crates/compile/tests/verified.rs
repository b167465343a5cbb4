//! What comes out is shown to stay in its sandbox: of the example functions, at every level.

use std::path::Path;

use awsm_compile::{Isolation, OptLevel, Options, compile};

fn guests() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let names = ["null", "echo", "exit", "sha", "qsort", "crc32-rs", "trap", "wagi-hello"];
    let read = |name: &&str| {
        let file = folder.join(name).with_extension("wasm");
        ((*name).to_owned(), std::fs::read(file).expect("`make guests` has been run"))
    };
    names.iter().map(read).collect()
}

#[test]
fn examples_are_shown_to_stay_in_their_sandboxes() {
    let levels = [OptLevel::O0, OptLevel::O3];
    for ((name, wasm), opt_level) in
        guests().into_iter().flat_map(|guest| levels.map(|level| (guest.clone(), level)))
    {
        let options = Options { opt_level, ..Options::default() };
        let object = compile(&wasm, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let report = awsm_verify::verify(&object).expect("it was verified before");
        let (accesses, shown) = report.memory_accesses();
        assert_eq!((accesses, report.unshown().count()), (shown, 0), "{name}");
        assert!(report.functions.len() > 3, "{name}");
    }
}

/// An object in which a return is no return any more does not get past.
#[test]
fn what_is_changed_is_refused() {
    let (_, wasm) = guests().swap_remove(3);
    let options = Options { isolation: Isolation::Guard, ..Options::default() };
    let object = compile(&wasm, &options).expect("it compiles");
    // Each return becomes something else: no function leaves as it must then.
    let report = awsm_verify::verify(&object).expect("shown");
    let code = report.code_bytes;
    let mut refused = 0;
    let returns: Vec<usize> =
        (0..object.len()).filter(|at| object[*at] == 0xc3).take(200).collect();
    for at in &returns {
        let mut changed = object.clone();
        changed[*at] = 0x90;
        refused += usize::from(awsm_verify::verify(&changed).is_err());
    }
    assert!(code > 1000 && refused * 10 > returns.len() * 5, "{refused} of {}", returns.len());
}

/// LLVM knows that the high half of the number is zero, which the code does not tell: compiled
/// once more, the address is extended by an instruction, at every level.
#[test]
fn an_address_known_to_be_small_is_shown() {
    let wat = r#"(module (memory 1)
        (func (export "f") (param i32) (result i32)
            (i16x8.extract_lane_u 5 (v128.load offset=166484 (i32.wrap_i64
                (i64x2.extract_lane 0 (i8x16.popcnt (v128.load32_zero (local.get 0)))))))))"#;
    let wasm = wat::parse_str(wat).expect("it is text");
    for opt_level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
        let cpu = Some("x86-64-v2".to_owned());
        let options = Options { opt_level, cpu, ..Options::default() };
        let object = compile(&wasm, &options).unwrap_or_else(|error| panic!("{error}"));
        awsm_verify::verify(&object).expect("it was verified before");
    }
}
