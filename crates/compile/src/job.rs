//! A compilation job: module, options, symbols and codegen units, fixed before any IR is written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::options::Options;
use crate::target::Processor;
use crate::wasm::dwarf::Lines;
use crate::wasm::module::Module;
use crate::wasm::units::Units;

/// All native code goes into this section: being a C identifier, its name makes the linker provide
/// `__start_` and `__stop_` symbols around it.
pub const TEXT_SECTION: &str = "awsm_text";

/// A compilation: what all units have in common.
pub(crate) struct Job<'a> {
    /// The parsed module.
    pub module: Module<'a>,
    /// The options.
    pub options: &'a Options,
    /// The target processor.
    pub processor: Processor,
    /// Symbols of the functions.
    pub code: Code,
    /// The codegen units.
    pub units: Units,
    /// The guest's line table, if the options ask for it.
    pub lines: Option<Lines>,
    /// Who is told how far it is.
    pub progress: Progress,
}

/// How much of a module is compiled.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Is told the bytes of the bodies that are done, and of all.
    pub tell: Option<fn(u64, u64)>,
    done: AtomicU64,
}

impl Progress {
    /// Of a compilation that has just begun.
    pub(crate) fn new(tell: Option<fn(u64, u64)>) -> Self {
        Self { tell, done: AtomicU64::new(0) }
    }

    /// A unit of so many bytes is done; of `all` units.
    pub(crate) fn did(&self, bytes: usize, all: &Units) {
        let Some(tell) = self.tell else { return };
        let total: usize = all.all.iter().map(|unit| unit.bytes).sum();
        let before = self.done.fetch_add(bytes as u64, Ordering::Relaxed);
        // What is compiled once more was counted.
        tell((before + bytes as u64).min(total as u64), total as u64);
    }
}

/// Symbols of code that the descriptor refers to.
#[derive(Debug)]
pub(crate) struct Code {
    /// Symbols of the defined functions.
    pub functions: Vec<Symbols>,
    /// Symbols of the entry thunks of the types; `None` for types that no function has.
    pub entries: Vec<Option<String>>,
}

/// A defined function's symbols; it has one of them at least.
#[derive(Debug)]
pub(crate) struct Symbols {
    /// Code in the ordinary convention.
    pub code: Option<String>,
    /// Code in the tail convention, which is then the function's own.
    pub tail: Option<String>,
}

impl Symbols {
    /// Those of a function in the tail convention: with a wrapper if it is called from outside.
    fn in_tail_convention(name: String, wrapped: bool) -> Self {
        Self { code: wrapped.then(|| format!("{name}[entry]")), tail: Some(name) }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        [&self.code, &self.tail].into_iter().flatten().map(String::as_str)
    }

    /// The symbol of the function's own code.
    pub(crate) fn body(&self) -> &str {
        self.tail.as_ref().or(self.code.as_ref()).expect("every function has code")
    }
}

impl Code {
    /// Names the functions and thunks of a module.
    pub(crate) fn of(module: &Module<'_>) -> Self {
        let first = module.imported.functions;
        let mut code = Self { functions: Vec::new(), entries: vec![None; module.types.len()] };
        for index in first..module.functions.len() as u32 {
            let name = symbol(index, module.names[index as usize]);
            let tail = module.behaviour.has_tail_calls(index - first);
            code.functions.push(match tail {
                true => Symbols::in_tail_convention(name, is_called_from_outside(module, index)),
                false => Symbols { code: Some(name), tail: None },
            });
        }
        let mut by_type = HashMap::new();
        for ty in &module.functions {
            let shape = &module.types[*ty as usize];
            let symbol = by_type.entry(shape).or_insert_with(|| format!("entry[{ty}]"));
            code.entries[*ty as usize] = Some(symbol.clone());
        }
        code
    }
}

/// A function's symbol: unique by its number, readable in a profile by its name.
fn symbol(index: u32, name: &str) -> String {
    let readable = |c: char| if c.is_ascii_graphic() && c != '@' && c != '"' { c } else { '_' };
    let name: String = name.chars().take(limits::SYMBOL_CHARS).map(readable).collect();
    if name.is_empty() { format!("wasm[{index}]") } else { format!("wasm[{index}]:{name}") }
}

/// May a function be called other than directly?
pub(crate) fn is_called_from_outside(module: &Module<'_>, index: u32) -> bool {
    module.func_ref_index(index).is_some() || module.start == Some(index)
}
