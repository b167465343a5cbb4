//! What the guests in Rust share: reading the input, failing with a message, and the generators of
//! the built-in workloads, which are those of `../c/guest.h`.

pub mod expected;

use std::io::{self, Read, Write};
use std::process::ExitCode;

/// No guest accepts more input than this.
pub const INPUT_LIMIT_BYTES: u64 = 64 << 20;

/// The data that crc32 digests when it is given none: this block, so many times over.
pub const PATTERN_BLOCK_BYTES: usize = 65536;
pub const PATTERN_BLOCKS: usize = 128;
pub const PATTERN_SEED: u32 = 0x2545_f491;

/// Runs a guest: what it answers to the whole of standard input goes to standard output, what is
/// wrong to standard error, with exit code 1.
pub fn run(answer: fn(&[u8]) -> Result<String, String>) -> ExitCode {
    let done = read_input()
        .and_then(|input| answer(&input))
        .and_then(|text| io::stdout().write_all(text.as_bytes()).map_err(|e| e.to_string()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn read_input() -> Result<Vec<u8>, String> {
    let mut input = Vec::new();
    io::stdin()
        .take(INPUT_LIMIT_BYTES + 1)
        .read_to_end(&mut input)
        .map_err(|e| format!("cannot read standard input: {e}"))?;
    if input.len() as u64 > INPUT_LIMIT_BYTES {
        return Err(format!("the input is over the limit of {INPUT_LIMIT_BYTES} bytes"));
    }
    Ok(input)
}

/// Marsaglia's xorshift32.
pub struct Random(u32);

impl Random {
    pub fn new() -> Self {
        Self(PATTERN_SEED)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A word of 3 to 12 small letters.
    pub fn word(&mut self) -> Vec<u8> {
        let len = 3 + self.next() % 10;
        (0..len).map(|_| b'a' + (self.next() % 26) as u8).collect()
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

pub fn pattern_block() -> Vec<u8> {
    let mut random = Random::new();
    (0..PATTERN_BLOCK_BYTES / 4).flat_map(|_| random.next().to_le_bytes()).collect()
}
