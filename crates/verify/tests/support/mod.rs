//! Objects for tests: what the compiler makes, and what hostile hands make of it.
#![allow(dead_code)]

use std::ops::Range;

use awsm_abi::MAGIC;
use awsm_compile::{Isolation, OptLevel, Options, compile};
use object::{Object, ObjectSection, ObjectSymbol};

/// The shared object of a module in the text format, for any x86-64 processor.
pub(crate) fn object(text: &str, opt_level: OptLevel, isolation: Isolation) -> Vec<u8> {
    let wasm = wat::parse_str(text).expect("a module");
    let cpu = Some("x86-64".to_owned());
    compile(&wasm, &Options { opt_level, isolation, cpu, ..Options::default() })
        .expect("it compiles")
}

/// Where the code of a function lies in the file, by the end of its symbol.
pub(crate) fn function(object: &[u8], name: &str) -> Range<usize> {
    let file = object::File::parse(object).expect("an object");
    let mut symbols = file.symbols();
    let symbol = symbols.find(|symbol| symbol.name().is_ok_and(|found| found.ends_with(name)));
    let symbol = symbol.unwrap_or_else(|| panic!("no function {name}"));
    // Addresses are places in the file.
    let start = symbol.address() as usize;
    start..start + symbol.size() as usize
}

/// Where the descriptor begins.
pub(crate) fn root(object: &[u8]) -> usize {
    object.windows(MAGIC.len()).position(|bytes| bytes == MAGIC).expect("it has a descriptor")
}

/// Where a list of the descriptor begins, whose record is at this offset, and how many things are
/// in it.
pub(crate) fn list(object: &[u8], offset: usize) -> (usize, u64) {
    let at = root(object) + offset;
    (root(object).wrapping_add(word(object, at) as usize), word(object, at + 8))
}

/// A number of eight bytes.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Writes bytes.
pub(crate) fn put(object: &mut [u8], at: usize, bytes: &[u8]) {
    object[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where the program header of a kind is whose flags have these bits: kinds and flags as in the
/// file.
pub(crate) fn program_header(object: &[u8], kind: u32, flags: u32) -> usize {
    let count = u16::from_le_bytes([object[56], object[57]]);
    let half = |at: usize| u32::from_le_bytes(object[at..at + 4].try_into().expect("four bytes"));
    let mut all = (0..usize::from(count)).map(|number| 64 + 56 * number);
    let found = all.find(|at| half(*at) == kind && half(at + 4) & flags == flags);
    found.expect("such a program header")
}

/// Where the header of a section is.
pub(crate) fn section_header(object: &[u8], name: &str) -> usize {
    let file = object::File::parse(object).expect("an object");
    let section = file.section_by_name(name).expect("such a section");
    word(object, 40) as usize + 64 * section.index().0
}

/// The line with which an object is refused, be it for an access to memory that is not shown.
pub(crate) fn refusal(object: &[u8]) -> Option<String> {
    match awsm_verify::verify(object) {
        Err(refusal) => {
            let line = refusal.to_string();
            assert!(!line.contains('\n') && line.len() < 1000, "one line: {line}");
            Some(line)
        }
        Ok(report) => {
            let function = report.unshown().next()?;
            let access = &function.unshown[0];
            Some(format!("`{}` at {:#x}: {}", function.name, access.offset, access.what))
        }
    }
}
