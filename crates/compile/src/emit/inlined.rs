//! Which functions LLVM has put into which others, for people who read what a trap says: the
//! machine's stack knows only those that are left.
//!
//! Before optimisation each access to memory and each call is marked with the function that it
//! belongs to. Where such a mark is found after it, in another function, that one holds it; and so
//! it does those between the two, of which nothing may be left but that they called. (Not taken: the
//! debugging information by which debuggers tell inlined frames apart, for each instruction, which
//! would have to be made for every module and kept with it.)

use std::collections::{BTreeMap, BTreeSet, HashMap};

use inkwell::context::Context;
use inkwell::module::Module as LlvmModule;
use inkwell::values::{InstructionOpcode, InstructionValue};

use crate::error::CompileError;
use crate::ir::alias::refused;
use crate::ir::walk::{callee, instructions};
use crate::job::Job;
use crate::options::OptLevel;
use crate::wasm::units::Unit;

/// The kind of the marks.
const MARK: &str = "awsm.function";

/// A defined function, and those that its code holds as well.
pub(crate) type Inlined = (u32, Vec<u32>);

/// Who calls whom by name, before optimisation.
#[derive(Default)]
pub(super) struct Calls(HashMap<u32, BTreeSet<u32>>);

/// Marks what may fault or be called from.
pub(super) fn mark<'ctx>(
    context: &'ctx Context,
    job: &Job<'_>,
    unit: &Unit,
    llvm: &LlvmModule<'ctx>,
) -> Result<Calls, CompileError> {
    let mut calls = Calls::default();
    if unit.level == OptLevel::O0 {
        return Ok(calls);
    }
    let (kind, symbols) = (context.get_kind_id(MARK), Symbols::of(job, unit));
    for (own, instruction) in marked(job, unit, llvm) {
        let number = context.i32_type().const_int(own.into(), false);
        let node = context.metadata_node(&[number.into()]);
        instruction.set_metadata(node, kind).map_err(refused)?;
        calls.0.entry(own).or_default().extend(symbols.called(instruction));
    }
    Ok(calls)
}

/// Which functions hold others.
pub(super) fn find(
    context: &Context,
    job: &Job<'_>,
    unit: &Unit,
    llvm: &LlvmModule<'_>,
    calls: &Calls,
) -> Vec<Inlined> {
    if unit.level == OptLevel::O0 {
        return Vec::new();
    }
    let (kind, symbols) = (context.get_kind_id(MARK), Symbols::of(job, unit));
    // Of each function: marks of others, and whom it still calls.
    let mut found: BTreeMap<u32, (BTreeSet<u32>, BTreeSet<u32>)> = BTreeMap::new();
    for (own, instruction) in marked(job, unit, llvm) {
        let (marks, called) = found.entry(own).or_default();
        marks.extend(mark_of(instruction, kind).filter(|other| *other != own));
        called.extend(symbols.called(instruction));
    }
    found.retain(|_, (marks, _)| !marks.is_empty());
    let holds = |(own, (marks, called))| (own, calls.between(own, marks, &called));
    found.into_iter().map(holds).collect()
}

fn mark_of(instruction: InstructionValue<'_>, kind: u32) -> Option<u32> {
    let values = instruction.get_metadata(kind)?.get_node_values()?;
    let number = values.first()?.into_int_value().get_zero_extended_constant()?;
    u32::try_from(number).ok()
}

impl Calls {
    /// Those whose marks are found in a function, and those by way of which they came there: called
    /// by it before, and not any more.
    fn between(&self, own: u32, marks: BTreeSet<u32>, called: &BTreeSet<u32>) -> Vec<u32> {
        let of = |function: &u32| self.0.get(function).into_iter().flatten().copied();
        let (mut gone, mut open) = (BTreeSet::new(), vec![own]);
        while let Some(function) = open.pop() {
            let dissolved = |callee: &u32| !called.contains(callee) || marks.contains(callee);
            for callee in of(&function).filter(dissolved) {
                if callee != own && gone.insert(callee) {
                    open.push(callee);
                }
            }
        }
        let mut held = marks;
        loop {
            let leads = |function: &u32| of(function).any(|callee| held.contains(&callee));
            let more: Vec<u32> = gone
                .iter()
                .filter(|function| !held.contains(function) && leads(function))
                .copied()
                .collect();
            if more.is_empty() {
                return held.into_iter().collect();
            }
            held.extend(more);
        }
    }
}

/// The functions of a unit by their symbols.
struct Symbols<'j>(HashMap<&'j str, u32>);

impl<'j> Symbols<'j> {
    fn of(job: &'j Job<'_>, unit: &Unit) -> Self {
        let all = unit
            .functions
            .iter()
            .flat_map(|own| job.code.functions[*own as usize].all().map(|symbol| (symbol, *own)));
        Self(all.collect())
    }

    /// The function of the unit that an instruction calls by name.
    fn called(&self, instruction: InstructionValue<'_>) -> Option<u32> {
        let name = callee(instruction)?.get_name().to_str().ok()?.to_owned();
        self.0.get(name.as_str()).copied()
    }
}

/// The accesses and calls of each function of a unit.
fn marked<'ctx>(
    job: &Job<'_>,
    unit: &Unit,
    llvm: &LlvmModule<'ctx>,
) -> impl Iterator<Item = (u32, InstructionValue<'ctx>)> {
    let functions = unit.functions.iter().flat_map(|own| {
        let symbols = job.code.functions[*own as usize].all();
        symbols.filter_map(|symbol| Some((*own, llvm.get_function(symbol)?)))
    });
    functions.flat_map(|(own, function)| {
        let marks = |instruction: &InstructionValue<'_>| {
            use InstructionOpcode::{Call, Load, Store};
            matches!(instruction.get_opcode(), Call | Load | Store)
        };
        instructions(function).filter(marks).map(move |instruction| (own, instruction))
    })
}
