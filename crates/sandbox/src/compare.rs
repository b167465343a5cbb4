//! Comparison of recycled slots and stacks, byte by byte, with their initial contents.
//!
//! Isolation rests on the reset of slots; this file is its check. It takes nothing from the lists
//! that the reset keeps: what must be is told by the module's images, by copies that were made
//! before the first instruction, and by zero. Debug builds compare after each reset, and wherever
//! [`crate::PoolConfig::compare`] says so.
//!
//! Reading a page that is nobody's own would give it to the range, and hide what is to be found. So
//! after each reset only own pages are read, as the system names them ([`Extent::Own`]); what else
//! there is reads as zeroes or as a sealed file's, by the system's own rules. [`Extent::Whole`]
//! reads everything.

use std::fmt;

use awsm_abi::context::{CONTEXT_GUARD_BYTES, HEADER_BELOW, Header, Table};

use crate::instance::Instance;
use crate::slot::image::{Image, Page};
use crate::slot::linear::Linear;
use crate::slot::mapping::{Mapping, PAGE_BYTES};
use crate::slot::stack::GuestStack;

/// The pages that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Pages that are the range's own.
    Own,
    /// Every page.
    Whole,
}

/// Something that is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The part of the slot.
    part: &'static str,
    /// Number of the part among those of its kind.
    index: usize,
    /// Byte or element.
    at: usize,
    found: u64,
    wanted: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, index, at, found, wanted } = self;
        write!(
            f,
            "a slot was not cleaned: {part} {index} has {found:#x} at {at:#x}, which must be {wanted:#x}"
        )
    }
}

impl Difference {
    /// A slot that was not cleaned must not be used: a fault of this program.
    pub(crate) fn report(self) -> u64 {
        panic!("{self}")
    }
}

type Compared = Result<u64, Difference>;

/// A page without contents.
static ZERO: Page = [0; PAGE_BYTES];

/// Every byte of a stack on which nothing runs. Answers how many bytes were read.
pub(crate) fn stack(stack: &GuestStack, extent: Extent) -> Compared {
    let (mapping, offset, bytes) = stack.open_part();
    range("stack", 0, (mapping, offset, bytes), extent, |_| &ZERO)
}

/// Every byte of an instance in which no guest runs. Answers how many bytes were read.
pub(crate) fn instance(instance: &Instance, extent: Extent) -> Compared {
    let images = instance.module().images().unwrap_or_default();
    let mut read = context(instance)?;
    for (index, (linear, image)) in instance.memories().zip(images).enumerate() {
        read += memory(index, linear, image, extent)?;
    }
    for (index, table) in instance.tables().iter().enumerate() {
        read += words("table", index, table.elements(), &table.at_start())?;
    }
    if let Some(what) = instance.unsettled() {
        return Err(Difference { part: what, index: 0, at: 0, found: 1, wanted: 0 });
    }
    Ok(read)
}

/// A memory: what it begins with, and that nothing is left of what it had grown by.
fn memory(index: usize, linear: &Linear, image: &Image, extent: Extent) -> Compared {
    let (slot, origin, initial, used) = linear.parts();
    let contents = |page: usize| image.page(page as u32).unwrap_or(&ZERO);
    let read = range("memory", index, (slot, origin, initial), extent, contents)?;
    // Beyond, all may be closed: what is own cannot be read, and should not be there.
    let mut left = None;
    slot.own_pages(origin + initial, used - initial, |page| left = left.or(Some(page)));
    if index == 0 && origin > 0 {
        let guard = CONTEXT_GUARD_BYTES as usize;
        slot.own_pages(origin - guard, guard, |page| left = left.or(Some(page)));
    }
    match left {
        None => Ok(read),
        Some(page) => Err(Difference {
            part: "what lies beyond memory",
            index,
            at: page * PAGE_BYTES,
            found: 1,
            wanted: 0,
        }),
    }
}

/// The pages of an open range.
fn range<'a>(
    part: &'static str,
    index: usize,
    (mapping, offset, bytes): (&Mapping, usize, usize),
    extent: Extent,
    wanted: impl Fn(usize) -> &'a Page,
) -> Compared {
    let mut result = Ok(0);
    let mut compare = |page: usize| {
        // SAFETY: the range is open for reading, and nobody writes to it meanwhile: no guest runs.
        let found = unsafe { &*mapping.start().add(offset + page * PAGE_BYTES).cast::<Page>() };
        let wanted = wanted(page);
        if let Ok(read) = &mut result {
            *read += PAGE_BYTES as u64;
            if found != wanted {
                let byte = (0..PAGE_BYTES).find(|byte| found[*byte] != wanted[*byte]).unwrap_or(0);
                let at = page * PAGE_BYTES + byte;
                let (found, wanted) = (found[byte].into(), wanted[byte].into());
                result = Err(Difference { part, index, at, found, wanted });
            }
        }
    };
    match extent {
        Extent::Own => mapping.own_pages(offset, bytes, compare),
        Extent::Whole => (0..bytes / PAGE_BYTES).for_each(&mut compare),
    }
    result
}

fn words(part: &'static str, index: usize, found: &[usize], wanted: &[usize]) -> Compared {
    let difference = |at, found, wanted| Difference { part, index, at, found, wanted };
    if found.len() != wanted.len() {
        return Err(difference(wanted.len(), found.len() as u64, wanted.len() as u64));
    }
    match found.iter().zip(wanted).position(|(found, wanted)| found != wanted) {
        Some(at) => Err(difference(at, found[at] as u64, wanted[at] as u64)),
        None => Ok(size_of_val(found) as u64),
    }
}

/// The context, but for what each start writes (the depth of the stack) and what a reset may move
/// (the place of a table's elements).
fn context(instance: &Instance) -> Compared {
    let (found, start) = (instance.context_bytes(), &instance.context_at_start);
    if found.len() != start.len() {
        return Ok(0);
    }
    let layout = instance.module().layout();
    let place = |below: u32| (layout.bytes - below) as usize;
    let stack_limit = place(HEADER_BELOW) + std::mem::offset_of!(Header, stack_limit);
    let mut wanted = start.clone();
    let mut write = |at: usize, word: usize| {
        wanted[at..at + size_of::<usize>()].copy_from_slice(&word.to_ne_bytes());
    };
    let mut kept = [0; size_of::<usize>()];
    kept.copy_from_slice(&found[stack_limit..stack_limit + size_of::<usize>()]);
    write(stack_limit, usize::from_ne_bytes(kept));
    for (index, table) in instance.tables().iter().enumerate() {
        let base = place(layout.table(index as u32)) + std::mem::offset_of!(Table, base);
        write(base, table.elements().as_ptr() as usize);
    }
    match found.iter().zip(&wanted).position(|(found, wanted)| found != wanted) {
        Some(at) => Err(Difference {
            part: "context",
            index: 0,
            at,
            found: found[at].into(),
            wanted: wanted[at].into(),
        }),
        None => Ok(found.len() as u64),
    }
}
