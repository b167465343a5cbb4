//! What a cache entry is: a shared object, and behind it what it was made from.
//!
//! ```text
//!   object | key | bytes of the key, u32 | MAGIC | SHA-256 of all before
//! ```
//!
//! A verdict on an object of somebody else's is an entry without an object. A loader looks at the
//! object only; whoever takes an entry from the cache looks at the rest first. The key is text: the
//! module's digest and what the compiler says of itself, so `tail -c 600` tells what a file is. The
//! digest finds damage; who can write to the cache can make another that fits, which is why nobody
//! else may write there.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Last bytes but the digest. Another form has another number.
const MAGIC: [u8; 8] = *b"aWsm\0ce\x01";
const DIGEST_BYTES: usize = 32;

/// What a cached object depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// Of a module, given the digest of its file and all else that its code depends on in the
    /// compiler's words.
    pub(super) fn new(module: &[u8; DIGEST_BYTES], fingerprint: &str) -> Self {
        Self(format!("module sha256 {}; {}", hex(module), fingerprint.trim_end()))
    }

    /// Of a verdict on an object, given its digest, by a verifier in its own words: an entry
    /// without an object.
    pub(super) fn of_verdict(object: &[u8; DIGEST_BYTES], verifier: &str) -> Self {
        Self(format!("object sha256 {}; shown by {verifier}", hex(object)))
    }

    /// The entry's name in the cache.
    pub(super) fn file_name(&self) -> String {
        format!("{}.so", hex(&Sha256::digest(&self.0)))
    }

    /// What stands behind the object in its entry.
    pub(super) fn trailer(&self, object: &[u8]) -> Vec<u8> {
        let key_bytes = u32::try_from(self.0.len()).expect("compilers say little of themselves");
        let mut trailer = self.0.clone().into_bytes();
        trailer.extend(key_bytes.to_le_bytes());
        trailer.extend(MAGIC);
        let mut digest = Sha256::new();
        digest.update(object);
        digest.update(&trailer);
        trailer.extend(digest.finalize());
        trailer
    }

    /// Is this an entry of this key, as it was written? The error says why it is not.
    pub(super) fn check(&self, entry: &[u8]) -> Result<(), &'static str> {
        const CUT: &str = "it is cut off, or no entry of a cache";
        let (content, digest) = entry.split_last_chunk::<DIGEST_BYTES>().ok_or(CUT)?;
        let (rest, magic) = content.split_last_chunk::<{ MAGIC.len() }>().ok_or(CUT)?;
        if *magic != MAGIC {
            return Err(CUT);
        }
        if Sha256::digest(content)[..] != digest[..] {
            return Err("its content has changed since it was written");
        }
        let (rest, key_bytes) = rest.split_last_chunk::<4>().ok_or(CUT)?;
        let key_bytes = u32::from_le_bytes(*key_bytes) as usize;
        let key = rest.len().checked_sub(key_bytes).map(|start| &rest[start..]).ok_or(CUT)?;
        match key == self.0.as_bytes() {
            true => Ok(()),
            false => Err("it was made from another module, or by another compiler"),
        }
    }
}

/// Could this be an entry's name?
pub(super) fn is_file_name(name: &str) -> bool {
    let digits = name.strip_suffix(".so").unwrap_or_default();
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    digits.len() == 2 * DIGEST_BYTES && digits.bytes().all(is_digit)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &Key, object: &[u8]) -> Vec<u8> {
        [object, &key.trailer(object)].concat()
    }

    #[test]
    fn an_entry_is_of_one_key_and_whole() {
        let key = Key::new(&[1; 32], "awsmc 1\n");
        assert!(is_file_name(&key.file_name()));
        for object in [&b""[..], b"object", &[7; 100_000]] {
            let good = entry(&key, object);
            assert_eq!(key.check(&good), Ok(()));
            let others = [Key::new(&[2; 32], "awsmc 1"), Key::new(&[1; 32], "awsmc 2")];
            for other in others {
                assert!(other.check(&good).is_err_and(|why| why.contains("another module")));
                assert_ne!(other.file_name(), key.file_name());
            }
            for at in (0..good.len()).step_by(1 + good.len() / 300) {
                let mut bad = good.clone();
                bad[at] ^= 0x20;
                assert!(key.check(&bad).is_err(), "byte {at}");
                assert!(key.check(&good[..at]).is_err(), "cut off at {at}");
            }
            assert!(key.check(&[&good[..], b"x"].concat()).is_err());
        }
    }
}
