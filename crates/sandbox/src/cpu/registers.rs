//! General registers of a stopped guest, by their DWARF numbers.

/// Registers by their DWARF numbers, as far as frames depend on them.
pub(crate) const REGISTERS: usize = 32;

/// What the processor held when guest code stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// By their DWARF numbers; 0 where it does not matter.
    pub words: [usize; REGISTERS],
    /// The instruction that stopped, or the one behind a call.
    pub pc: usize,
    /// Is it behind a call?
    pub called: bool,
}
