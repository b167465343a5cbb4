//! The eight functions of the paper's Table I, their figures there, and a mark at their first
//! instruction.
//!
//! How does one know when a sandbox has reached its first guest instruction, in the same way for
//! every runtime? Each guest is rewritten so that its `_start` first calls an imported function,
//! `bench.mark`, and the host notes the time of that call. The rewritten bytes go to every runtime
//! alike, and the call itself counts as start-up for all of them.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use awsm_sandbox::clock;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{EntityType, ExportKind, ExportSection, Function, ImportSection, Instruction};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// One of the eight.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) paper: Paper,
    /// What it reads on standard input: little, so that its run time does not bury its start-up.
    input: fn() -> Vec<u8>,
}

/// Its row of the paper's Table I: Gadepalli, Peach, Cherkasova, Aitken, Parmer, "Challenges and
/// Opportunities for Efficient Serverless Computing at the Edge", 2019; Intel i5-5200U, one core.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Paper {
    pub(crate) startup_avg_us: u32,
    pub(crate) startup_p95_us: u32,
    pub(crate) cold_us: u32,
    pub(crate) memory_kb: u32,
}

const fn paper(startup_avg_us: u32, startup_p95_us: u32, cold_us: u32, memory_kb: u32) -> Paper {
    Paper { startup_avg_us, startup_p95_us, cold_us, memory_kb }
}

/// In the paper's order.
pub(crate) const GUESTS: [Guest; 8] = [
    Guest { name: "null", paper: paper(12, 15, 193, 18), input: Vec::new },
    Guest { name: "basicmath", paper: paper(29, 39, 186, 90), input: questions },
    Guest { name: "bitcount", paper: paper(29, 39, 185, 120), input: kibibyte },
    Guest { name: "crc32", paper: paper(30, 35, 395, 103), input: kibibyte },
    Guest { name: "qsort", paper: paper(19, 22, 260, 148), input: lines },
    Guest { name: "sha", paper: paper(26, 30, 187, 103), input: kibibyte },
    Guest { name: "stringsearch", paper: paper(26, 29, 297, 179), input: haystack },
    Guest { name: "susan", paper: paper(20, 24, 209, 177), input: image },
];

fn questions() -> Vec<u8> {
    b"cubic 1 -10.5 32 -30\nisqrt 123456789\ndeg 1.5\nrad 90\n".to_vec()
}

fn kibibyte() -> Vec<u8> {
    (0..1024_u32).map(|i| (i * 167 + (i >> 3)) as u8).collect()
}

fn lines() -> Vec<u8> {
    (0..64_u32)
        .flat_map(|i| format!("{:08x}\n", i.wrapping_mul(0x9e37_79b9)).into_bytes())
        .collect()
}

fn haystack() -> Vec<u8> {
    let mut text = b"Needle\n".to_vec();
    text.extend(b"a text of words without what is looked for; ".repeat(24));
    text.extend(b"and a NEEDLE\n");
    text
}

fn image() -> Vec<u8> {
    let mut pgm = b"P5 16 16 255\n".to_vec();
    pgm.extend((0..256_u32).map(|i| if (i % 16) / 5 == (i / 16) / 6 { 200 } else { i as u8 / 4 }));
    pgm
}

/// A guest ready to be given to a runtime.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) guest: &'static Guest,
    pub(crate) input: Vec<u8>,
    /// The marked module.
    pub(crate) wasm: Vec<u8>,
    /// The file it was written to, for compilers that want one.
    pub(crate) wasm_path: PathBuf,
}

/// Reads `folder/NAME.wasm`, marks it, and writes the result into `scratch`.
pub(crate) fn prepare(guest: &'static Guest, folder: &Path, scratch: &Path) -> Result<Prepared> {
    let path = folder.join(guest.name).with_extension("wasm");
    let plain = fs::read(&path)
        .with_context(|| format!("cannot read {} (make guests builds it)", path.display()))?;
    let wasm = mark(&plain).with_context(|| format!("cannot mark {}", path.display()))?;
    let wasm_path = scratch.join(guest.name).with_extension("wasm");
    fs::write(&wasm_path, &wasm)
        .with_context(|| format!("cannot write {}", wasm_path.display()))?;
    Ok(Prepared { guest, input: (guest.input)(), wasm, wasm_path })
}

/// What [`prepare`] left in `scratch` of the guest of that name.
pub(crate) fn prepared(name: &str, scratch: &Path) -> Result<Prepared> {
    let guest = GUESTS.iter().find(|guest| guest.name == name).context("not one of the eight")?;
    let wasm_path = scratch.join(name).with_extension("wasm");
    let wasm =
        fs::read(&wasm_path).with_context(|| format!("cannot read {}", wasm_path.display()))?;
    Ok(Prepared { guest, input: (guest.input)(), wasm, wasm_path })
}

/// The import that [`mark`] adds.
pub(crate) const MARK: (&str, &str) = ("bench", "mark");

thread_local! {
    static MARKED: Cell<u64> = const { Cell::new(0) };
}

/// What `bench.mark` does on the host's side, whatever the runtime.
#[inline]
pub(crate) fn note_first_instruction() {
    MARKED.set(clock::ticks());
}

/// When this thread's last guest called `bench.mark`, in ticks.
#[inline]
pub(crate) fn first_instruction() -> u64 {
    MARKED.get()
}

/// The module with an import `bench.mark` more, and an exported `_start` that calls it and then
/// what was `_start` before.
fn mark(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut marker = Marker::of(wasm)?;
    let mut module = wasm_encoder::Module::new();
    marker.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

/// Copies a module and adds to it on the way. Indices are those of the original.
struct Marker {
    types: u32,
    imported_functions: u32,
    own_functions: u32,
    start: u32,
}

impl Marker {
    fn of(wasm: &[u8]) -> Result<Self> {
        let mut marker =
            Self { types: 0, imported_functions: 0, own_functions: 0, start: u32::MAX };
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => marker.types = section.count(),
                Payload::FunctionSection(section) => marker.own_functions = section.count(),
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        marker.imported_functions +=
                            u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func && export.name == "_start" {
                            marker.start = export.index;
                        }
                    }
                }
                _ => {}
            }
        }
        if marker.start == u32::MAX || marker.imported_functions == 0 {
            bail!("it is no WASI command: no function `_start`, or no import");
        }
        Ok(marker)
    }

    /// Index of the new import, in the new module.
    fn mark_index(&self) -> u32 {
        self.imported_functions
    }

    /// Index of the new `_start`, in the new module.
    fn wrapper_index(&self) -> u32 {
        self.imported_functions + 1 + self.own_functions
    }
}

type Outcome = Result<(), reencode::Error<Infallible>>;

impl Reencode for Marker {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error<Infallible>> {
        Ok(if index < self.imported_functions { index } else { index + 1 })
    }

    fn parse_type_section(
        &mut self,
        types: &mut wasm_encoder::TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_type_section(self, types, section)?;
        types.ty().function([], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_import_section(self, imports, section)?;
        imports.import(MARK.0, MARK.1, EntityType::Function(self.types));
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut wasm_encoder::FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        Ok(())
    }

    fn parse_export(
        &mut self,
        exports: &mut ExportSection,
        export: wasmparser::Export<'_>,
    ) -> Outcome {
        if export.kind == ExternalKind::Func && export.name == "_start" {
            exports.export("_start", ExportKind::Func, self.wrapper_index());
            return Ok(());
        }
        reencode::utils::parse_export(self, exports, export)
    }

    fn parse_code_section(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Outcome {
        reencode::utils::parse_code_section(self, code, section)?;
        let start = self.function_index(self.start)?;
        let mut wrapper = Function::new([]);
        wrapper.instruction(&Instruction::Call(self.mark_index()));
        wrapper.instruction(&Instruction::Call(start));
        wrapper.instruction(&Instruction::End);
        code.function(&wrapper);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_module_calls_the_mark_first() {
        let wat = r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (table funcref (elem 1))
            (func (export "_start") (call 2))
            (func (call 0 (i32.const 7))))"#;
        let marked = mark(&wat::parse_str(wat).expect("the text is right")).expect("a command");
        wasmparser::validate(&marked).expect("still valid");
        let again = Marker::of(&marked).expect("still a command");
        assert_eq!((again.imported_functions, again.own_functions, again.start), (2, 3, 4));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert!(mark(&wat::parse_str("(module)").expect("the text is right")).is_err());
    }
}
