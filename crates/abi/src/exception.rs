//! Exceptions, as compiled code and the runtime see them.

/// What an instance needs to throw: compiled code reads and writes the exception under way.
///
/// After each call of something that may throw, code of modules with exceptions looks at `pending`.
/// If it is not null the results mean nothing, and the exception is dealt with: by a handler of the
/// function, or by returning in turn.
#[derive(Debug)]
#[repr(C)]
pub struct Exceptions {
    /// The exception that is looking for its handler, or null.
    pub pending: *mut Exception,
}

/// What an `exnref` points to; the values of its tag's parameters follow, a
/// [`GlobalCell`](crate::context::GlobalCell) each.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Exception {
    /// The place of its tag, which stands for the tag.
    pub tag: *const u64,
    /// Not zero once there are references to it.
    pub referenced: u32,
    /// For the runtime.
    pub number: u32,
}
