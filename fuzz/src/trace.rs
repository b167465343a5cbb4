//! What can be observed of a module's life, in words that everybody shares.

use std::fmt;

/// A value with NaNs of one kind only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// 32-bit integer.
    I32(u32),
    /// 64-bit integer.
    I64(u64),
    /// Bits of a float.
    F32(u32),
    /// Bits of a float.
    F64(u64),
    /// Bits of a vector.
    V128(u128),
    /// Is there a function?
    FuncRef(bool),
    /// Is there an exception?
    ExnRef(bool),
    /// The embedder's number, or null.
    ExternRef(Option<u32>),
}

impl Value {
    /// From a float; all NaNs are one.
    #[must_use]
    pub fn f32(value: f32) -> Self {
        Self::F32(if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() })
    }

    /// From a float; all NaNs are one.
    #[must_use]
    pub fn f64(value: f64) -> Self {
        Self::F64(if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I32(value) => write!(f, "i32:{value:#x}"),
            Self::I64(value) => write!(f, "i64:{value:#x}"),
            Self::F32(bits) => write!(f, "f32:{bits:#x}={:?}", f32::from_bits(*bits)),
            Self::F64(bits) => write!(f, "f64:{bits:#x}={:?}", f64::from_bits(*bits)),
            Self::V128(bits) => write!(f, "v128:{bits:#034x}"),
            Self::FuncRef(present) => write!(f, "funcref:{present}"),
            Self::ExnRef(present) => write!(f, "exnref:{present}"),
            Self::ExternRef(number) => write!(f, "externref:{number:?}"),
        }
    }
}

/// How something that runs guest code ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With these results.
    Returned(Vec<Value>),
    /// With this trap, in the words of the specification tests; a table index out of bounds has the
    /// same word in instructions and in indirect calls.
    Trapped(&'static str),
}

/// Everything that was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Instantiation; everything else is empty if it trapped.
    pub start: Ended,
    /// Each call with its export, and the globals after it, first the environment's.
    pub calls: Vec<(String, Ended, Vec<Value>)>,
    /// Each exported memory at the end, and the environment's.
    pub memories: Vec<(String, Vec<u8>)>,
}

impl Trace {
    /// What comes before the first fault in linear memory, and the fault itself. Where the
    /// processor finds it, stores that the program has in front of it may not have happened: nobody
    /// is to see what an instance leaves behind that has faulted.
    #[must_use]
    pub fn until_fault(&self) -> Self {
        let fault = Ended::Trapped("out of bounds memory access");
        let mut trace = self.clone();
        if let Some(number) = trace.calls.iter().position(|(_, ended, _)| *ended == fault) {
            trace.calls.truncate(number + 1);
            trace.calls[number].2.clear();
            trace.memories.clear();
        }
        trace
    }
}

/// The first difference, told to a reader.
///
/// # Errors
/// If there is one.
pub fn compare(expected: &Trace, actual: &Trace) -> Result<(), String> {
    let differ = |place: String, expected: &dyn fmt::Debug, actual: &dyn fmt::Debug| {
        Err(format!("{place}: {actual:?}, the oracle: {expected:?}"))
    };
    if expected.start != actual.start {
        return differ("instantiation".to_owned(), &expected.start, &actual.start);
    }
    for (number, (expected, actual)) in expected.calls.iter().zip(&actual.calls).enumerate() {
        let place = |what| format!("call {number} of {:?}{what}", expected.0);
        if expected.1 != actual.1 {
            return differ(place(""), &expected.1, &actual.1);
        }
        if expected.2 != actual.2 {
            return differ(place(", globals"), &expected.2, &actual.2);
        }
    }
    for ((name, expected), (_, actual)) in expected.memories.iter().zip(&actual.memories) {
        if expected.len() != actual.len() {
            return differ(format!("size of {name:?}"), &expected.len(), &actual.len());
        }
        if let Some(at) = (0..expected.len()).find(|at| expected[*at] != actual[*at]) {
            return differ(format!("{name:?} at {at:#x}"), &expected[at], &actual[at]);
        }
    }
    assert_eq!(expected, actual, "a difference that has no place");
    Ok(())
}
