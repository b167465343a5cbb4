//! Random bytes, from the system.

use awsm_sandbox::{GuestPtr, HostCall, HostResult, Leave, preempt};

use super::call::{answer, begin};
use crate::ctx::{Progress, WasiCtx};
use crate::devices::Device;

/// Bytes that are made between two looks at whether the guest's time is up: some 50 us.
const PIECE_BYTES: usize = 16 << 10;

/// `random_get`: fills the buffer.
pub(super) fn random_get(
    call: &mut HostCall<'_, WasiCtx>,
    buffer: GuestPtr<u8>,
    len: u32,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        let buffer = memory.bytes_mut(buffer.slice(len))?;
        let mut done = match std::mem::take(&mut ctx.progress) {
            Progress::Bytes(done) => done,
            _ => 0,
        };
        let len = buffer.len();
        for piece in buffer[done..].chunks_mut(PIECE_BYTES) {
            Device::Random.read(piece)?;
            done += piece.len();
            if done < len && preempt::is_due() {
                ctx.progress = Progress::Bytes(done);
                return Err(Leave::Preempted.into());
            }
        }
        Ok(())
    })())
}
