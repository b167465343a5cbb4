//! What has been measured of a function on this machine, and what that says of the next invocation.
//!
//! The run time is estimated from the size of the request: a line through what was measured, by
//! least squares with forgetting, times a percentile of how far the measurements were from that
//! line. The line is kept as weighted means and centred sums, which gives the same line as
//! recursive least squares with a forgetting factor (the recursion of West 1979 with weights), but
//! nothing in it can wind up when sizes do not vary, and there is no matrix to lose its shape. What
//! the line learns from one measurement is bounded, so a single stolen time slice does not move it
//! far.
//!
//! Constant memory: four histograms and five numbers, whatever is fed in.

use core::fmt::Write as _;

use crate::histogram::Histogram;
use crate::time::Nanos;

/// A profile with fewer measurements says nothing.
pub const PROFILE_MIN_RUNS: u64 = 8;
/// So many past measurements count: the forgetting factor is `1 - 1/MEMORY`.
const MEMORY: f64 = 256.0;
/// Distances from the line are kept as ratios, this standing for 1.
const ONE: f64 = 4096.0;
/// One measurement counts for at most so many times what was expected.
const SURPRISE_MAX: f64 = 8.0;
/// Sizes beyond this say no more (a tebibyte).
const SIZE_MAX: u64 = 1 << 40;
/// The percentile's cached value is computed anew after so many measurements.
const REFRESH: u64 = 16;

/// What is known of one function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Time on the core, nanoseconds.
    pub run: Histogram,
    /// From asking for a sandbox to its first instruction, nanoseconds.
    pub startup: Histogram,
    /// Pages of linear memory that an invocation touched.
    pub pages: Histogram,
    /// Measured over predicted, in units of 1/4096.
    ratio: Histogram,
    line: Line,
    runs: u64,
    /// What the core works for an invocation after its run, on average: nanoseconds.
    after: f64,
    /// The share that `factor` stands for, and what it was after how many runs.
    cached: (u32, f64, u64),
}

/// Run time over size: weight, means and centred sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line {
    weight: f64,
    mean_x: f64,
    mean_y: f64,
    sum_xx: f64,
    sum_xy: f64,
}

impl Profile {
    /// One invocation has ended by itself: how large its request was and how long it ran.
    pub fn ran(&mut self, now: Nanos, request_bytes: u64, run: Nanos) {
        let (x, y) = (size(request_bytes), (run.0.max(1)) as f64);
        self.run.record(now, run.0);
        self.runs += 1;
        if self.line.weight > 0.0 {
            let expected = self.line.at(x);
            self.ratio.record(now, (y / expected * ONE) as u64);
            let most = expected.max(1000.0) * SURPRISE_MAX;
            self.line.learn(x, y.min(most));
        } else {
            self.line.learn(x, y);
        }
    }

    /// One invocation has been cleaned up: how long that took.
    pub fn cleaned(&mut self, time: Nanos) {
        // The first few count as much as each other.
        let weight = (self.runs.max(1) as f64).min(MEMORY);
        self.after += (time.0 as f64 - self.after) / weight;
    }

    /// What the core works for an invocation after its run, on average.
    #[must_use]
    pub fn mean_after(&self) -> Nanos {
        Nanos(self.after as u64)
    }

    /// How many invocations it has seen.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Enough is known to rely on.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.runs >= PROFILE_MIN_RUNS
    }

    /// How long an invocation will take the core, so that the given share (in millionths) takes it
    /// no longer; what is to be done after its run included. `None` while too little is known.
    pub fn estimate(&mut self, request_bytes: u64, share_ppm: u32) -> Option<Nanos> {
        if !self.is_known() {
            return None;
        }
        let (share, _, at) = self.cached;
        if share != share_ppm || self.runs >= at + REFRESH || at < 4 * REFRESH {
            let factor = self.ratio.quantile(share_ppm) as f64 / ONE;
            self.cached = (share_ppm, factor, self.runs);
        }
        Some(Nanos((self.line.at(size(request_bytes)) * self.cached.1 + self.after) as u64))
    }

    /// Average run time of a request of average size.
    #[must_use]
    pub fn mean_run(&self) -> Nanos {
        Nanos(self.line.mean_y as u64)
    }

    /// Average size of a request, bytes.
    #[must_use]
    pub fn mean_request_bytes(&self) -> u64 {
        self.line.mean_x as u64
    }

    /// What another core has measured of the same function.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.run, &other.run),
            (&mut self.startup, &other.startup),
            (&mut self.pages, &other.pages),
            (&mut self.ratio, &other.ratio),
        ] {
            for (bucket, count) in theirs.sparse() {
                mine.add(bucket, count).expect("the same buckets");
            }
        }
        let all = (self.runs as f64 + other.runs as f64).max(1.0);
        self.after += (other.after - self.after) * (other.runs as f64 / all);
        self.line.merge(&other.line);
        self.runs = self.runs.saturating_add(other.runs);
        self.cached = (0, 0.0, 0);
    }

    /// One line of text, for a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Line { weight, mean_x, mean_y, sum_xx, sum_xy } = self.line;
        let mut text =
            format!("{} {weight:e} {mean_x:e} {mean_y:e} {sum_xx:e} {sum_xy:e}", self.runs);
        // Writing to a string cannot fail.
        let _ = write!(text, " {:e}", self.after);
        for histogram in [&self.run, &self.startup, &self.pages, &self.ratio] {
            text.push_str(" ;");
            for (bucket, count) in histogram.sparse() {
                // Writing to a string cannot fail.
                let _ = write!(text, " {bucket}:{count}");
            }
        }
        text
    }

    /// Reads what [`Profile::to_text`] wrote; `None` if it is anything else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let mut numbers = parts.next()?.split_ascii_whitespace();
        let runs = numbers.next()?.parse().ok()?;
        let mut number = || numbers.next()?.parse().ok().filter(|x: &f64| x.is_finite());
        let line = Line {
            weight: number()?,
            mean_x: number()?,
            mean_y: number()?,
            sum_xx: number()?,
            sum_xy: number()?,
        };
        // Older ones do not have it.
        let after = match numbers.next() {
            Some(after) => after.parse().ok().filter(|ns| (0.0..=1e18).contains(ns))?,
            None => 0.0,
        };
        let mut profile = Self { runs, line, after, ..Self::default() };
        for histogram in
            [&mut profile.run, &mut profile.startup, &mut profile.pages, &mut profile.ratio]
        {
            for pair in parts.next()?.split_ascii_whitespace() {
                let (bucket, count) = pair.split_once(':')?;
                histogram.add(bucket.parse().ok()?, count.parse().ok()?)?;
            }
            histogram.shrink();
        }
        let sound = parts.next().is_none() && numbers.next().is_none() && line.is_sound();
        sound.then_some(profile)
    }
}

impl Line {
    fn at(&self, x: f64) -> f64 {
        let y = self.mean_y + self.slope() * (x - self.mean_x);
        // A line that goes below nothing is not believed.
        y.max(self.mean_y / 1024.0).max(1.0)
    }

    /// Never falling: larger requests are not expected to take less.
    fn slope(&self) -> f64 {
        // Sizes that hardly vary say nothing about a slope.
        let varies = self.sum_xx > 1e-6 * self.weight * (1.0 + self.mean_x * self.mean_x);
        if varies { (self.sum_xy / self.sum_xx).max(0.0) } else { 0.0 }
    }

    fn learn(&mut self, x: f64, y: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        self.weight = self.weight * keep + 1.0;
        let dx = x - self.mean_x;
        self.mean_x += dx / self.weight;
        self.mean_y += (y - self.mean_y) / self.weight;
        self.sum_xx = self.sum_xx * keep + dx * (x - self.mean_x);
        self.sum_xy = self.sum_xy * keep + dx * (y - self.mean_y);
    }

    /// As if both had learned from the same measurements.
    fn merge(&mut self, other: &Self) {
        let weight = self.weight + other.weight;
        if other.weight <= 0.0 || weight <= 0.0 {
            return;
        }
        let (dx, dy) = (other.mean_x - self.mean_x, other.mean_y - self.mean_y);
        let between = self.weight * other.weight / weight;
        self.sum_xx += other.sum_xx + dx * dx * between;
        self.sum_xy += other.sum_xy + dx * dy * between;
        self.mean_x += dx * other.weight / weight;
        self.mean_y += dy * other.weight / weight;
        // More than this would take too long to forget.
        let most = MEMORY / weight;
        let scale = most.min(1.0);
        self.weight = weight * scale;
        self.sum_xx *= scale;
        self.sum_xy *= scale;
    }

    fn is_sound(&self) -> bool {
        let most = SIZE_MAX as f64;
        (0.0..=2.0 * MEMORY).contains(&self.weight)
            && (0.0..=most).contains(&self.mean_x)
            && (0.0..=1e18).contains(&self.mean_y)
            && self.sum_xx >= 0.0
    }
}

fn size(bytes: u64) -> f64 {
    bytes.min(SIZE_MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const P99: u32 = 990_000;

    fn learned(runs: impl IntoIterator<Item = (u64, u64)>) -> Profile {
        let mut profile = Profile::default();
        for (bytes, run) in runs {
            profile.ran(Nanos(0), bytes, Nanos(run));
        }
        profile
    }

    fn within(got: Option<Nanos>, exact: u64, percent: u64) {
        let got = got.expect("it is known").0;
        assert!(got.abs_diff(exact) <= exact * percent / 100, "{got} instead of {exact}");
    }

    #[test]
    fn little_is_not_enough() {
        assert_eq!(learned((0..7).map(|_| (0, 5))).estimate(0, P99), None);
        assert!(learned((0..8).map(|_| (0, 5))).estimate(0, P99).is_some());
    }

    #[test]
    fn time_grows_with_size() {
        let mut profile = learned((0..500).map(|i| (i * 1000 % 64_000, 5_000 + i * 1000 % 64_000)));
        within(profile.estimate(0, P99), 5_000, 25);
        within(profile.estimate(64_000, P99), 69_000, 25);
        within(profile.estimate(640_000, P99), 645_000, 25);
    }

    #[test]
    fn the_percentile_covers_its_share() {
        let slow = |i: u64| if i.is_multiple_of(50) { 100_000 } else { 10_000 };
        let mut profile = learned((0..2000).map(|i| (64, slow(i))));
        let [usual, covering] =
            [900_000, P99].map(|share| profile.estimate(64, share).expect("known").0);
        assert!((9_000..13_000).contains(&usual), "{usual}");
        assert!((80_000..150_000).contains(&covering), "{covering}");
    }

    #[test]
    fn it_follows_a_change() {
        let mut profile = learned((0..1000).map(|i| (0, if i < 500 { 10_000 } else { 80_000 })));
        within(profile.estimate(0, 500_000), 80_000, 25);
    }

    #[test]
    fn hostile_sizes_do_no_harm() {
        let sizes = [0, 1, u64::MAX, 1 << 40, 3, u64::MAX - 1];
        let mut profile =
            learned((0..3000).map(|i: u64| (sizes[i as usize % 6], i * 7919 % 10_000)));
        for bytes in sizes {
            let estimate = profile.estimate(bytes, P99).expect("known");
            assert!(estimate.0 > 0 && estimate.0 < 1_000_000_000_000, "{bytes}: {estimate}");
        }
        let mut constant = learned((0..1_000_000).map(|_| (1 << 30, 1000)));
        within(constant.estimate(1 << 30, P99), 1000, 15);
        within(constant.estimate(0, P99), 1000, 15);
    }

    #[test]
    fn one_stolen_time_slice_moves_little() {
        let mut profile = learned((0..500).map(|i| (0, if i == 400 { 50_000_000 } else { 2_000 })));
        within(profile.estimate(0, 900_000), 2_000, 25);
    }

    #[test]
    fn text_and_back() {
        let mut profile = learned((0..100).map(|i| (i, 1000 + i)));
        profile.startup.record(Nanos(0), 385);
        profile.pages.record(Nanos(0), 3);
        let mut read = Profile::from_text(&profile.to_text()).expect("what was written");
        assert_eq!(read.to_text(), profile.to_text());
        assert_eq!(read.estimate(50, P99), profile.estimate(50, P99));
        for _ in 0..1000 {
            profile.cleaned(Nanos(8_000_000));
        }
        let mut read = Profile::from_text(&profile.to_text()).expect("what was written");
        within(read.estimate(50, P99), 8_001_000, 1);
        assert_eq!(read.mean_after(), profile.mean_after());
        for wrong in [
            "",
            "x",
            "9 1 1 1 1 1",
            "9 1 nan 1 1 1 ;;;;",
            "9 1 1 1 1 -1 ;;;; 1",
            "9 1 1 1 1 1 nan ;;;;",
            "9 1 1 1 1 1 -1 ;;;;",
            "9 1e9 1 1 1 1 ;;;;",
            "9 1 1 1 1 1 ; 99999:1 ;;;",
            "9 1 1 1 1 1 ; 1 ;;;",
        ] {
            assert!(Profile::from_text(wrong).is_none(), "{wrong}");
        }
        assert!(Profile::from_text("9 1 1 1 1 1 ;;;;").is_some());
    }

    #[test]
    fn two_cores_know_what_one_would() {
        let runs: Vec<_> = (0..200u64).map(|i| (i * 100, 500 + i * 30)).collect();
        let (mut one, mut other) = (learned(runs[..100].to_vec()), learned(runs[100..].to_vec()));
        one.merge(&other);
        within(one.estimate(10_000, 500_000), 3_500, 40);
        other.merge(&Profile::default());
        assert!(other.is_known());
    }
}
