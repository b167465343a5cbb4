//! Short texts on the stack: header values without an allocation on the way.

use awsm_sched::Nanos;
use hyper::header::HeaderValue;

/// Up to `N` bytes of ASCII.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Adds what fits.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        let fits = text.len().min(N - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        self
    }

    /// Adds a number.
    pub(super) fn push_number(&mut self, number: u64) -> &mut Self {
        self.push(itoa::Buffer::new().format(number))
    }

    /// Adds a time in milliseconds, to the nanosecond.
    pub(super) fn push_ms(&mut self, time: Nanos) -> &mut Self {
        let mut digits = itoa::Buffer::new();
        self.push_number(time.0 / 1_000_000);
        // A leading 1 keeps the zeros.
        self.push(".").push(&digits.format(1_000_000 + time.0 % 1_000_000)[1..])
    }

    /// Adds 64 bits as hexadecimal digits.
    pub(super) fn push_hex(&mut self, number: u64) -> &mut Self {
        let digit = |shift: u32| b"0123456789abcdef"[(number >> shift) as usize & 15];
        let digits: [u8; 16] = std::array::from_fn(|at| digit(60 - 4 * at as u32));
        self.push(std::str::from_utf8(&digits).expect("digits are ASCII"))
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("made of ASCII")
    }

    /// As a header's value.
    pub(super) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.len]).expect("printable ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut text = Text::<64>::new();
        text.push_ms(Nanos(1_234_567)).push(" ").push_ms(Nanos(42)).push(" ").push_hex(0xab);
        assert_eq!(text.as_str(), "1.234567 0.000042 00000000000000ab");
        assert_eq!(Text::<3>::new().push("abcdef").as_str(), "abc");
    }
}
