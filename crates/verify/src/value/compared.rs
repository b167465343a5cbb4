//! What conditions are about: the last comparison.

use super::Value;
use crate::op::Bytes;

/// What conditions are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub(crate) enum About {
    /// Nothing known.
    Nothing,
    /// `a - b`.
    Difference,
    /// `a & b`.
    Common,
    /// `a + b`, carries included.
    Sum,
    /// Whether `a` is zero or negative.
    Result,
}

/// What the last comparison was of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// How conditions are to be read.
    pub about: About,
    /// How many low bytes of the values count.
    pub bytes: Bytes,
    /// The first value.
    pub a: Value,
    /// The second value.
    pub b: Value,
}

impl Known {
    /// Nothing.
    pub(crate) const NOTHING: Self =
        Self { about: About::Nothing, bytes: 8, a: Value::number(0), b: Value::number(0) };
}
