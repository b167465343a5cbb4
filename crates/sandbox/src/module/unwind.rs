//! Stack traces: a walk over the frames of a guest that faulted.
//!
//! The fault handler keeps the registers, and no more happens in signal context. The walk is made
//! on the host's stack once the guest has ended, while its stack is still as it was. How each
//! function's frame is taken apart stands in the module (`.eh_frame`, sorted by address in
//! `.eh_frame_hdr`), so guest code keeps no frame pointer and does nothing for it.
//!
//! ```text
//!   registers at the fault -> the frame's rule at this address -> the caller's registers -> ...
//!                             until an address that is not this module's code
//! ```
//!
//! Nothing is believed: reads of the module are within its mapping, reads of the stack within the
//! stack, each frame lies above the one before it, and there are [`TRACE_FRAMES`] at most. What
//! does not fit ends the walk.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr,
    RegisterRule, UnwindContext, UnwindSection,
};

use super::Module;
use crate::cpu::registers::Registers;
use crate::cpu::{RETURN_ADDRESS, STACK_POINTER};
use crate::limits::TRACE_FRAMES;
use crate::slot::words::GuestWords;
use crate::value::FuncIdx;

type Bytes<'m> = EndianSlice<'m, LittleEndian>;

/// A module's frame rules.
struct Rules<'m> {
    frames: EhFrame<Bytes<'m>>,
    index: ParsedEhFrameHdr<Bytes<'m>>,
    bases: BaseAddresses,
}

impl<'m> Rules<'m> {
    /// Those of a module that has any. `index_at` is where the index lies in `image`, the module's
    /// bytes in memory.
    fn of(image: &'m [u8], index_at: usize) -> Option<Self> {
        let start = image.as_ptr() as u64;
        let address = |at: usize| start + at as u64;
        let mut bases = BaseAddresses::default().set_eh_frame_hdr(address(index_at));
        let index = EhFrameHdr::new(image.get(index_at..)?, LittleEndian);
        let index = index.parse(&bases, size_of::<usize>() as u8).ok()?;
        let frames_at = index.eh_frame_ptr().direct().ok()?.checked_sub(start)?;
        let frames_at = usize::try_from(frames_at).ok()?;
        bases = bases.set_eh_frame(address(frames_at));
        Some(Self { frames: EhFrame::new(image.get(frames_at..)?, LittleEndian), index, bases })
    }
}

/// The functions that were running, innermost first. `stack` is readable and nobody writes to it.
pub(crate) fn walk(module: &Module, registers: &Registers, stack: &GuestWords<'_>) -> Vec<FuncIdx> {
    let mut functions = Vec::new();
    let Some((image, index_at)) = module.frame_rules() else { return functions };
    let Some(rules) = Rules::of(image, index_at) else { return functions };
    let mut context = UnwindContext::new();
    let mut frame = *registers;
    while functions.len() < TRACE_FRAMES && module.text().contains(&frame.pc) {
        let Some((start, caller)) = step(&rules, &mut context, &frame, stack) else { break };
        functions.extend(module.func_starting_at(start));
        match caller {
            Some(caller) if caller.words[STACK_POINTER] > frame.words[STACK_POINTER] => {
                frame = caller;
            }
            _ => break,
        }
    }
    functions
}

/// Where the frame's function begins, and its caller's frame if that can be told.
fn step(
    rules: &Rules<'_>,
    context: &mut UnwindContext<usize>,
    frame: &Registers,
    stack: &GuestWords<'_>,
) -> Option<(usize, Option<Registers>)> {
    // A call may be its function's last instruction.
    let pc = frame.pc as u64 - u64::from(frame.called);
    let table = rules.index.table()?;
    let entry = table.fde_for_address(&rules.frames, &rules.bases, pc, EhFrame::cie_from_offset);
    let entry = entry.ok().filter(|entry| entry.contains(pc))?;
    let start = usize::try_from(entry.initial_address()).ok()?;
    let row = entry.unwind_info_for_address(&rules.frames, &rules.bases, context, pc);
    let caller = row.ok().and_then(|row| {
        let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
        let base = frame.words.get(register.0 as usize)?;
        let cfa = base.wrapping_add_signed(*offset as isize);
        let mut words = frame.words;
        for (register, rule) in row.registers() {
            *words.get_mut(register.0 as usize)? = match rule {
                RegisterRule::Offset(at) => stack.read(cfa.wrapping_add_signed(*at as isize))?,
                RegisterRule::ValOffset(at) => cfa.wrapping_add_signed(*at as isize),
                _ => continue,
            };
        }
        words[STACK_POINTER] = cfa;
        Some(Registers { words, pc: words[RETURN_ADDRESS], called: true })
    });
    Some((start, caller))
}
