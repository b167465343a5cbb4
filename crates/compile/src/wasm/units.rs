//! Codegen units: the division of a module's functions.
//!
//! The division depends on the module alone and never on the machine, so the same module gives the
//! same object everywhere. LLVM sees one unit at a time, and cannot inline from one into another;
//! so a module that compiles quickly anyway is one unit. Neighbours stay together: what belongs
//! together lies together in a module that a linker has made. (Not taken: copies of small functions
//! in every unit that calls them. Toolchains inline before they write a module; there was nothing
//! to gain.)
//!
//! A huge function is a unit of its own and gets less effort: the time of several of LLVM's passes
//! grows with the square of a function's size.

use wasmparser::Operator;

use crate::error::CompileError;
use crate::options::OptLevel;
use crate::wasm::module::Module;

/// Bytes of function bodies in a unit, about.
const UNIT_BYTES: usize = 512 << 10;

/// Bytes of a body from which on it gets no more than [`OptLevel::O1`].
const HUGE_BYTES: usize = 96 << 10;

/// Bytes of a body from which on it is translated and no more.
const ENORMOUS_BYTES: usize = 768 << 10;

/// Functions that are compiled together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its index among all units.
    pub number: usize,
    /// Numbers of the defined functions, ascending, counted without imports.
    pub functions: Vec<u32>,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// Optimisation level.
    pub level: OptLevel,
    /// Are these compiled once more, since the read-back did not show them? Then nothing that LLVM
    /// knows of a guest's number reaches the address that is made of it.
    pub apart: bool,
}

impl Unit {
    /// Are its loops prepared for LLVM? Else nobody looks for the calls that check accesses.
    pub(crate) fn prepares_loops(&self) -> bool {
        matches!(self.level, OptLevel::O2 | OptLevel::O3)
    }
}

/// A module's units. There is one at least.
#[derive(Debug)]
pub(crate) struct Units {
    /// All of them, in the order in which their code lies in the object.
    pub all: Vec<Unit>,
    /// Which defined functions are called by other units; empty if there is one only.
    called_across: Vec<bool>,
}

impl Units {
    /// Divides a module that is to be compiled at `level`.
    pub(crate) fn of(module: &Module<'_>, level: OptLevel) -> Result<Self, CompileError> {
        let sizes: Vec<_> = module.bodies.iter().map(|body| body.as_bytes().len()).collect();
        let all = divide(&sizes, level);
        let called_across = match all.len() {
            1 => Vec::new(),
            _ => called_across(module, &all)?,
        };
        Ok(Self { all, called_across })
    }

    /// Puts functions into a unit of their own, without optimisation. Answers the numbers of the
    /// units that are to be compiled, again or for the first time: nothing else changes in the
    /// others, since whatever the functions call in them was called from another unit before.
    pub(crate) fn set_apart(
        &mut self,
        module: &Module<'_>,
        functions: &[u32],
    ) -> Result<Vec<usize>, CompileError> {
        let bytes = |own: &u32| module.bodies[*own as usize].as_bytes().len();
        let mut changed = Vec::new();
        for unit in &mut self.all {
            let before = unit.functions.len();
            unit.functions.retain(|own| functions.binary_search(own).is_err());
            if unit.functions.len() < before {
                unit.bytes = unit.functions.iter().map(bytes).sum();
                changed.push(unit.number);
            }
        }
        let number = self.all.len();
        changed.push(number);
        let bytes = functions.iter().map(bytes).sum();
        let level = OptLevel::O0;
        let functions = functions.to_vec();
        self.all.push(Unit { number, functions, bytes, level, apart: true });
        self.called_across = called_across(module, &self.all)?;
        Ok(changed)
    }

    /// Has this function been set apart?
    pub(crate) fn is_apart(&self, own: u32) -> bool {
        let unit = self.all.iter().find(|unit| unit.functions.contains(&own));
        unit.is_some_and(|unit| unit.apart)
    }

    /// The nearest functions that have not been set apart and call `own` or are called by it,
    /// directly or through others that have.
    pub(crate) fn around(&self, module: &Module<'_>, own: u32) -> Result<Vec<u32>, CompileError> {
        let mut apart = vec![false; module.bodies.len()];
        for unit in self.all.iter().filter(|unit| unit.apart) {
            unit.functions.iter().for_each(|own| apart[*own as usize] = true);
        }
        let mut beside = vec![Vec::new(); module.bodies.len()];
        each_call(module, |caller, callee| {
            beside[caller as usize].push(callee);
            beside[callee as usize].push(caller);
        })?;
        let mut seen = vec![false; module.bodies.len()];
        let (mut open, mut found) = (vec![own], Vec::new());
        while let Some(own) = open.pop() {
            if std::mem::replace(&mut seen[own as usize], true) {
                continue;
            }
            match apart[own as usize] {
                true => open.extend(&beside[own as usize]),
                false => found.push(own),
            }
        }
        Ok(found)
    }

    /// Do other units call the defined function number `own`?
    pub(crate) fn is_called_across(&self, own: u32) -> bool {
        self.called_across.get(own as usize).copied().unwrap_or(false)
    }
}

/// The optimisation level of a body of this size.
fn effort(bytes: usize, level: OptLevel) -> OptLevel {
    match (bytes, level) {
        (ENORMOUS_BYTES.., _) => OptLevel::O0,
        (HUGE_BYTES.., OptLevel::O2 | OptLevel::O3) => OptLevel::O1,
        _ => level,
    }
}

fn divide(sizes: &[usize], level: OptLevel) -> Vec<Unit> {
    let unit = |functions, bytes, level| Unit { number: 0, functions, bytes, level, apart: false };
    let ordinary: usize = sizes.iter().filter(|bytes| effort(**bytes, level) == level).sum();
    // Of equal size, or the last one would be a remainder.
    let target = ordinary.div_ceil(ordinary.div_ceil(UNIT_BYTES).max(1));
    let mut all = Vec::new();
    let (mut functions, mut bytes) = (Vec::new(), 0);
    for (own, size) in sizes.iter().enumerate() {
        let effort = effort(*size, level);
        if effort != level {
            all.push(unit(vec![own as u32], *size, effort));
            continue;
        }
        functions.push(own as u32);
        bytes += size;
        if bytes >= target {
            all.push(unit(std::mem::take(&mut functions), std::mem::take(&mut bytes), level));
        }
    }
    if all.is_empty() || !functions.is_empty() {
        all.push(unit(functions, bytes, level));
    }
    all.iter_mut().enumerate().for_each(|(number, unit)| unit.number = number);
    all
}

fn called_across(module: &Module<'_>, all: &[Unit]) -> Result<Vec<bool>, CompileError> {
    let mut unit_of = vec![0; module.bodies.len()];
    for unit in all {
        unit.functions.iter().for_each(|own| unit_of[*own as usize] = unit.number);
    }
    let mut called_across = vec![false; module.bodies.len()];
    each_call(module, |caller, callee| {
        called_across[callee as usize] |= unit_of[callee as usize] != unit_of[caller as usize];
    })?;
    Ok(called_across)
}

/// Tells of each direct call of a defined function who calls whom.
fn each_call(module: &Module<'_>, mut tell: impl FnMut(u32, u32)) -> Result<(), CompileError> {
    for (caller, body) in (0..).zip(&module.bodies) {
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            if let Operator::Call { function_index } | Operator::ReturnCall { function_index } =
                operators.read()?
                && let Some(callee) = function_index.checked_sub(module.imported.functions)
            {
                tell(caller, callee);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sizes: &[usize], level: OptLevel) -> Vec<(Vec<u32>, OptLevel)> {
        divide(sizes, level).into_iter().map(|unit| (unit.functions, unit.level)).collect()
    }

    #[test]
    fn small_modules_are_one_unit() {
        assert_eq!(shape(&[], OptLevel::O3), [(vec![], OptLevel::O3)]);
        assert_eq!(shape(&[1, 5, 1000], OptLevel::O3), [(vec![0, 1, 2], OptLevel::O3)]);
    }

    #[test]
    fn large_modules_are_units_of_equal_size() {
        let sizes = vec![1024; 5 * 512 + 1];
        let units = divide(&sizes, OptLevel::O2);
        assert_eq!(units.len(), 6);
        assert!(units.iter().all(|unit| unit.functions.len().abs_diff(427) < 10));
        let all: Vec<u32> = units.iter().flat_map(|unit| unit.functions.clone()).collect();
        assert!(all.iter().copied().eq(0..sizes.len() as u32), "neighbours stay together");
    }

    #[test]
    fn huge_functions_are_units_with_less_effort() {
        let sizes = [10, HUGE_BYTES, 10, ENORMOUS_BYTES, 10];
        let expected =
            [(vec![1], OptLevel::O1), (vec![3], OptLevel::O0), (vec![0, 2, 4], OptLevel::O3)];
        assert_eq!(shape(&sizes, OptLevel::O3), expected);
        assert_eq!(shape(&sizes[..3], OptLevel::O1), [(vec![0, 1, 2], OptLevel::O1)]);
        assert_eq!(shape(&sizes[..3], OptLevel::O0), [(vec![0, 1, 2], OptLevel::O0)]);
    }
}
