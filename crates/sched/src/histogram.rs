//! Counts of values by size, in constant memory.
//!
//! Buckets grow with the values: each power of two is divided into [`STEPS`] buckets of equal
//! width, so a value is known to within one part in eight, whatever its size. Two windows are kept,
//! the full one and the one being filled, so that what is long past is forgotten.

use crate::time::Nanos;

/// Buckets for each power of two.
const STEPS: u32 = 8;
/// Values from 0 to 2^40 - 1: as nanoseconds, a quarter of an hour. What is larger counts as that.
const BUCKETS: usize = (40 - 2) * STEPS as usize;
/// A window is full after so many values...
const WINDOW_VALUES: u64 = 4096;
/// ...or after this time.
const WINDOW: Nanos = Nanos::from_millis(60_000);

/// A windowed histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    now: Box<[u32; BUCKETS]>,
    before: Box<[u32; BUCKETS]>,
    in_window: u64,
    since: Nanos,
}

impl Default for Histogram {
    fn default() -> Self {
        let empty = || Box::new([0; BUCKETS]);
        Self { now: empty(), before: empty(), in_window: 0, since: Nanos::ZERO }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, now: Nanos, value: u64) {
        if self.in_window >= WINDOW_VALUES || (self.in_window > 0 && now - self.since >= WINDOW) {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.fill(0);
            self.in_window = 0;
        }
        if self.in_window == 0 {
            self.since = now;
        }
        self.in_window += 1;
        self.now[bucket(value)] += 1;
    }

    /// Values in both windows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// The value that the given share (in millionths) of all values does not exceed: the upper end
    /// of its bucket, so never too small by more than nothing. 0 when there are none.
    #[must_use]
    pub fn quantile(&self, share_ppm: u32) -> u64 {
        let total = self.count();
        let rank = (total * u64::from(share_ppm)).div_ceil(1_000_000).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket);
            }
        }
        0
    }

    /// Average square of the values, each taken to lie in the middle of its bucket; 0 without
    /// values.
    #[must_use]
    pub fn mean_square(&self) -> f64 {
        let square = |(bucket, count): (usize, u64)| {
            let below = bucket.checked_sub(1).map_or(0, upper);
            let middle = (below + upper(bucket)) as f64 / 2.0;
            middle * middle * count as f64
        };
        self.sparse().map(square).sum::<f64>() / self.count().max(1) as f64
    }

    /// The values of both windows: bucket and count of each bucket that is not empty.
    pub(crate) fn sparse(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Adds to the older window, as what was measured before or elsewhere. `None` if there is no
    /// such bucket.
    pub(crate) fn add(&mut self, bucket: usize, count: u64) -> Option<()> {
        let held = self.before.get_mut(bucket)?;
        *held = held.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        Some(())
    }

    /// Fewer values in the same proportions, if there are more than two windows of them: what
    /// several cores knew together is not to outweigh what is measured from now on.
    pub(crate) fn shrink(&mut self) {
        while self.count() > 2 * WINDOW_VALUES {
            for count in self.now.iter_mut().chain(self.before.iter_mut()) {
                *count = count.div_ceil(2);
            }
        }
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        let both = self.now.iter().zip(self.before.iter());
        both.map(|(now, before)| u64::from(*now) + u64::from(*before))
    }
}

fn bucket(value: u64) -> usize {
    if value < u64::from(STEPS) {
        return value as usize;
    }
    let power = value.ilog2() - 3;
    let step = (value >> power) as usize - STEPS as usize;
    ((power as usize + 1) * STEPS as usize + step).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let steps = STEPS as usize;
    if bucket < steps {
        return bucket as u64;
    }
    let (power, step) = (bucket / steps - 1, bucket % steps);
    (((steps + step + 1) as u64) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_bucket() {
        for value in (0..70_000).chain([1 << 39, (1 << 40) - 1]) {
            let found = bucket(value);
            assert!(upper(found) >= value && upper(found) - value <= value / 8, "{value}");
            assert!(found == 0 || upper(found - 1) < value, "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_not_too_small() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(990_000), 0);
        for value in 1..=1000 {
            histogram.record(Nanos(0), value);
        }
        for (share, exact) in [(500_000, 500), (990_000, 990), (1_000_000, 1000), (0, 1)] {
            let got = histogram.quantile(share);
            assert!((exact..=exact + exact / 8 + 1).contains(&got), "{share}: {got}");
        }
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut histogram = Histogram::default();
        histogram.record(Nanos(0), 1_000_000);
        for minute in 1..4 {
            histogram.record(Nanos::from_millis(60_000 * minute), 1);
        }
        assert_eq!(histogram.quantile(1_000_000), 1);
        for _ in 0..3 * WINDOW_VALUES {
            histogram.record(Nanos(0), 7);
        }
        assert!(histogram.count() <= 2 * WINDOW_VALUES);
    }
}
