//! The neutral operations that a decoder turns instructions into.
//!
//! A dozen operations are enough for what is to be shown: moves and integer arithmetic as far as
//! addresses, conditions and references are made of them; loads and stores; what compares; what
//! transfers control. Whatever else an instruction does to a register is [`Op::Unknown`], and an
//! instruction that a decoder does not know has no operations at all: its function is refused.

/// A general register of the processor, or one of the decoder's own that lives for one instruction.
pub(crate) type Reg = u8;

/// General registers that a function's state has. x86-64 has 16.
pub(crate) const REGISTERS: usize = 16;

/// The decoders' own registers: from here on.
pub(crate) const TEMPORARY: Reg = REGISTERS as Reg;

/// How many of them there are.
pub(crate) const TEMPORARIES: usize = 4;

/// Bytes that an operation reads or writes: 1, 2, 4, 8 in general registers.
pub(crate) type Bytes = u8;

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The low bytes of a register.
    Reg(Reg),
    /// The second lowest byte of a register.
    Second(Reg),
    /// A number, sign-extended.
    Number(i64),
}

/// An address: the sum of its parts, of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What is added.
    pub base: Base,
    /// A register and what it is multiplied with.
    pub index: Option<(Reg, u8)>,
    /// A constant.
    pub offset: i64,
    /// Is the sum cut to 32 bits?
    pub narrow: bool,
}

/// Where an address begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// At zero.
    Zero,
    /// At a register's value.
    Reg(Reg),
    /// At the first byte of the object.
    Image,
}

/// Arithmetic on integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Sum, and one more if there was a carry.
    AddCarry,
    /// Difference, and one less if there was a borrow.
    SubBorrow,
    /// Bits that both have.
    And,
    /// Bits of either.
    Or,
    /// Bits that differ.
    Xor,
    /// Product, its low bits.
    Mul,
    /// To the left, by the amount's low bits.
    ShiftLeft,
    /// To the right, zeros come in.
    ShiftRight,
    /// To the right, copies of the sign come in.
    ShiftSigned,
    /// As many bits as the second lowest byte of the second operand says, from the one that its
    /// lowest says.
    Extract,
}

/// What a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// The difference of two numbers.
    Difference,
    /// The bits that both have.
    Common,
}

/// A condition on the last comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// Equal, or the result is zero.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less, without signs.
    Below,
    /// Less or equal, without signs.
    BelowOrEqual,
    /// Greater, without signs.
    Above,
    /// Greater or equal, without signs.
    AboveOrEqual,
    /// Less, with signs.
    Less,
    /// Less or equal, with signs.
    LessOrEqual,
    /// Greater, with signs.
    Greater,
    /// Greater or equal, with signs.
    GreaterOrEqual,
    /// The result is negative.
    Negative,
    /// The result is not negative.
    NotNegative,
    /// One that tells nothing here: overflow, parity, of floats.
    Other,
}

impl Condition {
    /// The condition that holds where this one does not.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Below => Self::AboveOrEqual,
            Self::BelowOrEqual => Self::Above,
            Self::Above => Self::BelowOrEqual,
            Self::AboveOrEqual => Self::Below,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
            Self::Negative => Self::NotNegative,
            Self::NotNegative => Self::Negative,
            Self::Other => Self::Other,
        }
    }
}

/// What becomes of a loaded value's missing bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extension {
    /// Zeros.
    Zero,
    /// Copies of the sign.
    Sign,
}

/// What conditions are about after arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flags {
    /// What they were about before.
    Keep,
    /// The result and what is carried.
    Set,
    /// Whether the result is zero or negative; what is carried is unknown.
    Result,
    /// Nothing.
    Forget,
}

/// How much of a vector register is written, and what becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The low 16 bytes; the rest stays.
    LowOnly,
    /// The low 16 bytes; the rest becomes zero.
    Low,
    /// All, or the rest becomes zero.
    All,
}

/// What the 8-byte words of a vector register become, as far as their size is concerned: that is
/// all that is followed of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Anything.
    Unknown,
    /// Nothing larger than this.
    AtMost(u64),
    /// Words of a register.
    Of(u8),
    /// Words of either register.
    Either(u8, u8),
    /// Sums of words.
    Sum(u8, u8),
    /// Common bits of words.
    And(u8, u8),
    /// Bits of either's words.
    Or(u8, u8),
    /// Words shifted to the right.
    Right(u8, u8),
    /// Words shifted to the left.
    Left(u8, u8),
    /// Halves of the second register's words above halves of the first's.
    Above(u8, u8),
    /// A general register's low bytes, zero-extended.
    General(Reg, Bytes),
    /// Words of a register, and a general register.
    With(u8, Reg),
    /// So many bytes of memory, zero-extended to a word or as words.
    Load(Place, u8),
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `to := from`. Four bytes clear what is above, one and two leave it.
    Move { to: Reg, bytes: Bytes, from: Source },
    /// `to := from`, of which `has` bytes are extended to `bytes`.
    Extend { to: Reg, bytes: Bytes, from: Source, has: Bytes, extension: Extension },
    /// `to := a op b`.
    Compute { op: Binary, to: Reg, bytes: Bytes, a: Source, b: Source, flags: Flags },
    /// `to :=` an address.
    Address { to: Reg, bytes: Bytes, place: Place },
    /// `to :=` memory, extended to eight bytes.
    Load { to: Reg, place: Place, bytes: Bytes, extension: Extension },
    /// Memory `:= from`.
    Store { place: Place, bytes: Bytes, from: Source },
    /// Memory is read or written, by what is not followed.
    Touch { place: Place, bytes: u16, write: bool },
    /// An access faults if its place is not a multiple of so many bytes.
    Aligned { place: Place, bytes: u16 },
    /// Memory is read or written at a place for each word of a vector register: the word,
    /// multiplied, is added. Without a register nothing is known of what is added.
    Scatter { base: Place, vector: Option<u8>, scale: u8, bytes: u16, write: bool },
    /// A vector register becomes something.
    Vector { to: u8, extent: Extent, words: Words },
    /// Memory becomes what a vector register holds.
    Spill { place: Place, from: u8, bytes: u16 },
    /// `to :=` one of a vector register's words.
    Word { to: Reg, from: u8 },
    /// `to :=` any number of so many bits.
    Unknown { to: Reg, bytes: Bytes, bits: u8 },
    /// `to :=` how many zeros `from` has above its highest bit.
    Zeros { to: Reg, bytes: Bytes, from: Source },
    /// Conditions are about this from here on.
    Compare { test: Test, bytes: Bytes, a: Source, b: Source },
    /// Nothing is known of conditions from here on.
    Forget,
    /// `to := if condition { then } else { otherwise }`.
    Select { to: Reg, bytes: Bytes, condition: Condition, then: Source, otherwise: Source },
    /// `length` bytes upwards from register `to` are written, and those from `from` read.
    Bulk { to: Reg, from: Option<Reg>, length: Reg },
    /// The stack pointer goes down by so many bytes, in steps, and each time a word is written
    /// there.
    Probe { step: i64, bytes: i64 },
    /// Goes to an address of this function or, at a function's start, leaves by that function.
    Jump { to: u64 },
    /// The same if the condition holds.
    Branch { condition: Condition, to: u64 },
    /// Goes to the address in a register.
    JumpTo { to: Reg },
    /// Calls an address. The return address is stored by the call itself.
    Call { to: u64 },
    /// Calls the address in a register.
    CallTo { to: Reg },
    /// Returns, and takes so many bytes off the stack behind the return address.
    Return { pops: u16 },
    /// Faults.
    Fault,
}

impl Op {
    /// Does control not simply go on behind it?
    pub(crate) fn transfers(&self) -> bool {
        matches!(
            self,
            Self::Jump { .. }
                | Self::Branch { .. }
                | Self::JumpTo { .. }
                | Self::Return { .. }
                | Self::Fault
        )
    }
}
