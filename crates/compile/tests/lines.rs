//! `-g`: lines of a guest's C source are found in the shared object's line table.

use std::path::Path;
use std::process::Command;

use awsm_compile::{CompileError, OptLevel, Options, compile};
use gimli::{Dwarf, EndianSlice, LittleEndian};
use object::{Object, ObjectSection};

/// Lines are counted from 1: the division is in line 3, the store in line 8.
const SOURCE: &str = "volatile int table[16];
__attribute__((noinline)) static int ratio(int a, int b) {
  return a / b;
}
__attribute__((export_name(\"run\"))) int run(int a, int b) {
  int sum = 0;
  for (int i = 0; i < a; i++) {
    table[i & 15] = sum;
    sum += ratio(a, b + i);
  }
  return sum;
}
";

/// The guest, built by clang with these flags besides.
fn guest(folder: &Path, flags: &[&str]) -> Vec<u8> {
    std::fs::write(folder.join("guest.c"), SOURCE).expect("a file");
    let output = Command::new("clang-19")
        .args(["--target=wasm32", "-nostdlib", "-Wl,--no-entry", "guest.c", "-o", "guest.wasm"])
        .args(flags)
        .current_dir(folder)
        .output()
        .expect("clang-19, see tools/setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.join("guest.wasm")).expect("a guest")
}

/// File and line of every row of an object's line table, in the order of their addresses.
fn rows(object: &[u8]) -> Vec<(u64, String, u64)> {
    let file = object::File::parse(object).expect("an object");
    let section = |id: gimli::SectionId| -> Result<EndianSlice<'_, LittleEndian>, gimli::Error> {
        let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok(EndianSlice::new(data.unwrap_or(&[]), LittleEndian))
    };
    let dwarf = Dwarf::load(section).expect("sections");
    let mut found = Vec::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next().expect("a unit") {
        let unit = dwarf.unit(header).expect("a unit");
        let Some(program) = unit.line_program.clone() else { continue };
        let mut rows = program.rows();
        while let Some((header, row)) = rows.next_row().expect("a row") {
            if let (Some(entry), Some(line), false) =
                (row.file(header), row.line(), row.end_sequence())
            {
                let name = dwarf.attr_string(&unit, entry.path_name()).expect("a name");
                found.push((row.address(), name.to_string_lossy().into_owned(), line.get()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn lines_of_a_guest_are_in_the_object() {
    let folder = tempfile::tempdir().expect("a folder");
    for flags in [&["-O0", "-g"][..], &["-O2", "-g"], &["-O2", "-gdwarf-4"]] {
        let wasm = guest(folder.path(), flags);
        for opt_level in [OptLevel::O0, OptLevel::O3] {
            let options = Options { opt_level, lines: true, ..Options::default() };
            let rows = rows(&compile(&wasm, &options).expect("a result"));
            assert!(!rows.is_empty(), "{flags:?}");
            assert!(rows.iter().all(|(_, file, _)| file.ends_with("guest.c")), "{rows:?}");
            let known = |line| rows.iter().any(|(_, _, known)| *known == line);
            for line in [3, 8, 9] {
                assert!(known(line), "{flags:?} {opt_level:?}: no line {line} in {rows:?}");
            }
            assert!(rows.iter().all(|(_, _, line)| (1..=12).contains(line)), "{rows:?}");
        }
    }
}

/// The division of a C source is on its line: what gdb would tell of the trap.
#[test]
fn an_instruction_has_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let wasm = guest(folder.path(), &["-O2", "-g"]);
    let options = Options { lines: true, ..Options::default() };
    let object = compile(&wasm, &options).expect("a result");
    let file = object::File::parse(&*object).expect("an object");
    let text = file.section_by_name("awsm_text").expect("code");
    let code = text.data().expect("bytes");
    // idivl: f7 /7.
    let division = code.windows(2).position(|pair| pair[0] == 0xf7 && pair[1] & 0xf8 == 0xf8);
    if cfg!(target_arch = "x86_64") {
        let address = text.address() + division.expect("a division") as u64;
        let rows = rows(&object);
        let behind = rows.partition_point(|(at, ..)| *at <= address);
        assert_eq!(rows[behind - 1].2, 3, "{rows:?}");
    }
}

#[test]
fn without_lines_there_is_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let wasm = guest(folder.path(), &["-O2"]);
    let asked = Options { lines: true, ..Options::default() };
    match compile(&wasm, &asked) {
        Err(CompileError::Invalid { message, .. }) => assert!(message.contains(".debug_line")),
        other => panic!("{other:?}"),
    }
    let with = guest(folder.path(), &["-O2", "-g"]);
    let object = compile(&with, &Options::default()).expect("a result");
    assert!(rows(&object).is_empty(), "nobody asked");
}

/// Whatever is in the sections, there is a result or a reason.
#[test]
fn damaged_tables_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = guest(folder.path(), &["-O1", "-g"]);
    let at = whole.windows(11).position(|window| window == b".debug_line").expect("a table");
    let options = Options { lines: true, opt_level: OptLevel::O0, ..Options::default() };
    for place in (at + 11..whole.len().min(at + 260)).step_by(5) {
        for value in [0, 0x7f, 0xff] {
            let mut damaged = whole.clone();
            damaged[place] = value;
            // A section's length may be hit: then the module is refused.
            let _: Result<Vec<u8>, CompileError> = compile(&damaged, &options);
        }
    }
}
