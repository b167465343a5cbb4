//! How much may be said: so many bytes and so many lines a second, of which one second's worth may
//! come at once.

use awsm_sched::Nanos;

use crate::config::LogRate;

/// What is left of a rate.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    bytes: Bucket,
    lines: Bucket,
    at: Nanos,
}

/// Billionths of what it counts, so that no time is too short to fill it.
#[derive(Clone, Debug)]
struct Bucket {
    rate: u64,
    left: u128,
}

const ONE: u128 = 1_000_000_000;

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate, left: u128::from(rate) * ONE }
    }

    fn fill(&mut self, time: Nanos) {
        let more = u128::from(self.rate) * u128::from(time.0);
        self.left = (self.left + more).min(u128::from(self.rate) * ONE);
    }

    fn left(&self) -> u64 {
        u64::try_from(self.left / ONE).unwrap_or(u64::MAX)
    }

    fn take(&mut self, count: u64) {
        self.left = self.left.saturating_sub(u128::from(count) * ONE);
    }
}

impl Allowance {
    /// A second's worth.
    pub(super) fn new(rate: LogRate) -> Self {
        let (bytes, lines) = (Bucket::new(rate.bytes), Bucket::new(rate.lines));
        Self { bytes, lines, at: Nanos::ZERO }
    }

    /// Bytes and lines that may be said now.
    pub(super) fn left(&mut self, now: Nanos) -> (u64, u64) {
        // Time that goes back is no time.
        let time = now - self.at;
        self.at = self.at.max(now);
        self.bytes.fill(time);
        self.lines.fill(time);
        (self.bytes.left(), self.lines.left())
    }

    pub(super) fn take(&mut self, bytes: u64, lines: u64) {
        self.bytes.take(bytes);
        self.lines.take(lines);
    }
}

/// The part of a text, from its beginning, that so many bytes and lines allow; its length and its
/// lines.
pub(super) fn fitting(text: &[u8], bytes: u64, lines: u64) -> (usize, u64) {
    let most = text.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let (mut end, mut count) = (0, 0);
    while end < most && count < lines {
        let line = text[end..most].iter().position(|byte| *byte == b'\n');
        end = line.map_or(most, |at| end + at + 1);
        count += 1;
    }
    (end, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_as_time_passes() {
        let mut allowance = Allowance::new(LogRate { bytes: 1000, lines: 10 });
        let second = Nanos::from_millis(1000);
        assert_eq!(allowance.left(second), (1000, 10));
        allowance.take(1000, 3);
        assert_eq!(allowance.left(second), (0, 7));
        // A thousand looks are as good as one.
        for step in 1..=1000 {
            allowance.left(second + Nanos(step * 500_000));
        }
        assert_eq!(allowance.left(second + Nanos(500_000_000)), (500, 10));
        assert_eq!(allowance.left(Nanos(0)), (500, 10), "time does not go back");
        assert_eq!(allowance.left(Nanos::MAX), (1000, 10), "nothing is saved up");
        allowance.take(u64::MAX, u64::MAX);
        assert_eq!(allowance.left(Nanos::MAX), (0, 0));
    }

    #[test]
    fn over_any_time_no_more_is_said_than_the_rate() {
        let rate = LogRate { bytes: 777, lines: 5 };
        let mut allowance = Allowance::new(rate);
        let (mut now, mut said, mut random) = (Nanos(7), 0, 1_u64);
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now = now + Nanos(random >> 40);
            let (bytes, lines) = allowance.left(now);
            allowance.take(bytes, lines);
            said += bytes;
        }
        let seconds = now.0 as f64 / 1e9;
        let most = rate.bytes as f64 * (seconds + 1.0);
        assert!(said as f64 <= most, "{said} in {seconds} s");
        assert!(said as f64 >= most - 2.0 * rate.bytes as f64, "{said} in {seconds} s");
    }

    #[test]
    fn what_fits_is_the_beginning() {
        assert_eq!(fitting(b"ab\ncd\nef", 100, 100), (8, 3));
        assert_eq!(fitting(b"ab\ncd\nef", 100, 2), (6, 2));
        assert_eq!(fitting(b"ab\ncd\nef", 5, 100), (5, 2));
        assert_eq!(fitting(b"ab\ncd\nef", 100, 0), (0, 0));
        assert_eq!(fitting(b"\n\n\n", 2, 100), (2, 2));
        assert_eq!(fitting(b"", 2, 2), (0, 0));
    }
}
