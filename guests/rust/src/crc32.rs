//! crc32: the CRC-32 of ISO-HDLC, Ethernet and gzip: polynomial 04c11db7 reflected, all ones in and
//! out. Standard input: any bytes. Answer: eight hexadecimal digits.

use std::process::ExitCode;

use guests::expected;

const REFLECTED_POLYNOMIAL: u32 = 0xedb8_8320;

/// The remainder of each byte, as a polynomial, after division.
static REMAINDER_OF: [u32; 256] = remainders();

fn main() -> ExitCode {
    guests::run(|input| {
        if input.is_empty() { self_check() } else { Ok(format!("{:08x}\n", crc32(0, input))) }
    })
}

const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut r = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            r = if r & 1 == 1 { r >> 1 ^ REFLECTED_POLYNOMIAL } else { r >> 1 };
            bit += 1;
        }
        table[byte] = r;
        byte += 1;
    }
    table
}

/// The CRC of the bytes that `crc` stands for followed by these; 0 stands for no bytes.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc, &byte| REMAINDER_OF[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

fn self_check() -> Result<String, String> {
    let catalogued = check("123456789", crc32(0, b"123456789"), 0xcbf4_3926)?;
    let block = guests::pattern_block();
    let crc = (0..guests::PATTERN_BLOCKS).fold(0, |crc, _| crc32(crc, &block));
    Ok(catalogued + &check("pattern", crc, expected::CRC32_PATTERN)?)
}

fn check(what: &str, got: u32, expected: u32) -> Result<String, String> {
    if got != expected {
        return Err(format!("crc32: {what}: got {got:08x}, expected {expected:08x}"));
    }
    Ok(format!("{what}: {got:08x}\n"))
}
