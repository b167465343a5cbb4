//! A module to be verified: its functions, what each is by the descriptor, and its code.

use std::collections::HashMap;
use std::ops::Range;

use awsm_abi::cpu::Arch;

use crate::convention::{self, Convention};
use crate::decode::{Code, Undecodable, x86_64};
use crate::descriptor::Descriptor;
use crate::object::Object;
use crate::op::Op;
use crate::report::Refusal;

/// The ELF number of x86-64.
const EM_X86_64: u16 = 62;

/// What a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// A function of the module, of this type, in the ordinary convention.
    Ordinary { ty: u32 },
    /// The same in the convention of calls in tail position.
    Tail { ty: u32 },
    /// The entry thunk of a type.
    Entry { ty: u32 },
    /// A routine that copies, fills or compares ranges of memory.
    Range(RangeRoutine),
    /// Anything else: nobody outside of the object knows of it.
    Local,
}

/// A routine of ours for ranges of memory. The first argument is where it begins, the last its
/// length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RangeRoutine {
    /// Copies from the second argument.
    Copy,
    /// Fills.
    Fill,
    /// Compares with what the second argument leads to.
    Compare,
}

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its symbol.
    pub name: String,
    /// Its addresses.
    pub range: Range<u64>,
    /// What it is.
    pub role: Role,
    /// May anything but code of this object call it?
    pub outside: bool,
    /// Its instructions.
    pub code: Code,
}

/// A module.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    /// The file.
    pub object: &'a Object,
    /// What it says of itself.
    pub descriptor: &'a Descriptor,
    /// Its functions by ascending address.
    pub functions: Vec<Function>,
    /// For each of them those with code that calls it or jumps to it.
    pub callers: Vec<Vec<usize>>,
    by_address: HashMap<u64, usize>,
    ordinary: Vec<Convention>,
    tail: Vec<Convention>,
}

impl<'a> Module<'a> {
    /// Finds the functions: every byte of the text is one's, or padding between two.
    pub(crate) fn new(object: &'a Object, descriptor: &'a Descriptor) -> Result<Self, Refusal> {
        if descriptor.arch != Arch::X86_64 || object.machine != EM_X86_64 {
            let what = format!("is for {}, whose code is not verified yet", descriptor.arch.name());
            return Err(Refusal::object(what));
        }
        let mut module = Self {
            object,
            descriptor,
            functions: Vec::new(),
            callers: Vec::new(),
            by_address: HashMap::new(),
            ordinary: descriptor.types.iter().map(convention::ordinary).collect(),
            tail: descriptor.types.iter().map(convention::tail).collect(),
        };
        let roles = roles(descriptor)?;
        let allowed = x86_64::Allowed::new(descriptor.features);
        let mut end = descriptor.text.start;
        for symbol in &object.symbols {
            let range = symbol.range.clone();
            if range.start < end || range.end > descriptor.text.end {
                return Err(Refusal::function(
                    &symbol.name,
                    0,
                    "overlaps another, or lies outside",
                ));
            }
            module.check_padding(end, range.start)?;
            end = range.end;
            let bytes = object.bytes(range.start, range.end - range.start).unwrap_or_default();
            if u32::try_from(bytes.len()).is_err() {
                return Err(Refusal::function(&symbol.name, 0, "is too large"));
            }
            let code = x86_64::decode(bytes, range.start, &allowed);
            let code = code.map_err(|Undecodable { at, what }| {
                Refusal::function(&symbol.name, at, format!("has {what}"))
            })?;
            let (role, outside) = roles.get(&range.start).copied().unwrap_or_else(|| {
                (range_routine(&symbol.name).map_or(Role::Local, Role::Range), false)
            });
            let number = module.functions.len();
            module.by_address.insert(range.start, number);
            let name = symbol.name.clone();
            module.functions.push(Function { name, range, role, outside, code });
        }
        module.check_padding(end, descriptor.text.end)?;
        for place in roles.keys() {
            if !module.by_address.contains_key(place) {
                let what = format!("names code at {place:#x}, where no function begins");
                return Err(Refusal::object(what));
            }
        }
        module.callers = module.callers();
        Ok(module)
    }

    /// The functions that one calls or jumps to.
    pub(crate) fn callees(&self, function: usize) -> impl Iterator<Item = usize> {
        self.functions[function].code.ops.iter().filter_map(|op| match op {
            Op::Call { to } | Op::Jump { to } | Op::Branch { to, .. } => self.function_at(*to),
            _ => None,
        })
    }

    fn callers(&self) -> Vec<Vec<usize>> {
        let mut callers = vec![Vec::new(); self.functions.len()];
        for (caller, function) in self.functions.iter().enumerate() {
            for op in &function.code.ops {
                if let Op::Call { to } | Op::Jump { to } | Op::Branch { to, .. } = op
                    && let Some(callee) = self.function_at(*to)
                    && callers[callee].last() != Some(&caller)
                {
                    callers[callee].push(caller);
                }
            }
        }
        callers
    }

    fn check_padding(&self, start: u64, end: u64) -> Result<(), Refusal> {
        let bytes = self.object.bytes(start, end - start).unwrap_or_default();
        if x86_64::is_padding(bytes, start) {
            return Ok(());
        }
        Err(Refusal::object(format!("has code at {start:#x} that belongs to no function")))
    }

    /// The function that begins at an address.
    pub(crate) fn function_at(&self, address: u64) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// How functions of a type are called in the ordinary way.
    pub(crate) fn ordinary(&self, ty: u32) -> &Convention {
        &self.ordinary[ty as usize]
    }

    /// The same for calls in tail position.
    pub(crate) fn tail(&self, ty: u32) -> &Convention {
        &self.tail[ty as usize]
    }

    /// One of both, for what is called through a reference.
    pub(crate) fn by_reference(&self, ty: u32, tail: bool) -> &Convention {
        if tail { self.tail(ty) } else { self.ordinary(ty) }
    }

    /// How a function is called, if it has a type.
    pub(crate) fn convention(&self, function: usize) -> Option<&Convention> {
        match self.functions[function].role {
            Role::Ordinary { ty } => Some(self.ordinary(ty)),
            Role::Tail { ty } => Some(self.tail(ty)),
            _ => None,
        }
    }

    /// The type of a function, if it has one.
    pub(crate) fn type_of(&self, function: usize) -> Option<u32> {
        match self.functions[function].role {
            Role::Ordinary { ty } | Role::Tail { ty } => Some(ty),
            _ => None,
        }
    }
}

/// What lies at the addresses that the descriptor names, and whether the outside calls it.
fn roles(descriptor: &Descriptor) -> Result<HashMap<u64, (Role, bool)>, Refusal> {
    let mut roles: HashMap<u64, (Role, bool)> = HashMap::new();
    let mut add = |place: u64, role: Role, outside: bool| {
        use std::collections::hash_map::Entry;
        match roles.entry(place) {
            Entry::Vacant(entry) => {
                entry.insert((role, outside));
            }
            Entry::Occupied(mut entry) => {
                // Functions of which no code is left share a place, and types of one shape a thunk.
                let (other, other_outside) = *entry.get();
                let same = match (other, role) {
                    (Role::Entry { ty: a }, Role::Entry { ty: b }) => {
                        let (a, b) = (&descriptor.types[a as usize], &descriptor.types[b as usize]);
                        a.params == b.params && a.results == b.results
                    }
                    (a, b) => a == b || !outside && !other_outside,
                };
                if !same {
                    let what = format!("names the code at {place:#x} in two ways");
                    return Err(Refusal::object(what));
                }
                entry.get_mut().1 |= outside;
            }
        }
        Ok(())
    };
    for function in &descriptor.functions {
        if let Some(code) = function.code {
            add(code, Role::Ordinary { ty: function.ty }, function.outside)?;
        }
        if let Some(tail) = function.tail {
            add(tail, Role::Tail { ty: function.ty }, function.outside)?;
        }
    }
    for (number, ty) in descriptor.types.iter().enumerate() {
        if let Some(entry) = ty.entry {
            add(entry, Role::Entry { ty: number as u32 }, true)?;
        }
    }
    Ok(roles)
}

fn range_routine(name: &str) -> Option<RangeRoutine> {
    match name {
        "memcpy" | "memmove" => Some(RangeRoutine::Copy),
        "memset" => Some(RangeRoutine::Fill),
        "memcmp" | "bcmp" => Some(RangeRoutine::Compare),
        _ => None,
    }
}
