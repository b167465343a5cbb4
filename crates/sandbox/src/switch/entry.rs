//! Entry points of compiled code.

/// Entry thunk of a function type, see [`awsm_abi::desc::TypeDesc::entry`].
pub(crate) type Thunk = unsafe extern "C" fn(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);

/// A function to enter: its type's thunk, its code, its instance's context.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The thunk.
    pub(crate) thunk: Thunk,
    /// The code.
    pub code: *const (),
    /// The context pointer of its instance.
    pub ctx: *mut u8,
    /// Code for calls in tail position, or null.
    pub tail: *const (),
}
