//! Error codes, as far as they are given here.
//! Source: WASI preview 1 (`wasi_snapshot_preview1.witx`), type `errno`.

use awsm_sandbox::OutOfBounds;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Errno {
    /// No such open descriptor.
    Badf = 8,
    /// A pointer or range outside of the guest's memory.
    Fault = 21,
    /// Output beyond its limit.
    Fbig = 22,
    /// An argument that makes no sense.
    Inval = 28,
    /// The system failed at it.
    Io = 29,
    /// Not provided here.
    Nosys = 52,
    /// Not for this kind of thing.
    Notsup = 58,
    /// The reader of the stream is gone.
    Pipe = 64,
    /// The stream has no position.
    Spipe = 70,
}

impl From<OutOfBounds> for Errno {
    fn from(_: OutOfBounds) -> Self {
        Self::Fault
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Io,
        }
    }
}
