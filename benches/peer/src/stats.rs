//! Samples of one quantity and the four figures that are reported of them.

use serde::Serialize;

/// Average and percentiles, in the unit of the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) avg: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl Summary {
    /// Sorts the samples. Percentiles are nearest-rank: the smallest sample that the given share of
    /// all samples does not exceed, so every figure was really measured once.
    pub(crate) fn of(samples: &mut [f64]) -> Self {
        assert!(!samples.is_empty(), "a benchmark that measured nothing");
        samples.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let at = (share * samples.len() as f64).ceil() as usize;
            samples[at.clamp(1, samples.len()) - 1]
        };
        let avg = samples.iter().sum::<f64>() / samples.len() as f64;
        Self { avg: tidy(avg), p50: tidy(rank(0.50)), p95: tidy(rank(0.95)), p99: tidy(rank(0.99)) }
    }
}

/// Three decimals: nanoseconds when the unit is microseconds. What follows is noise.
pub(crate) fn tidy(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The middle one of a few values.
pub(crate) fn median(values: &[f64]) -> f64 {
    Summary::of(&mut values.to_vec()).p50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&mut samples);
        assert_eq!(summary, Summary { avg: 50.5, p50: 50.0, p95: 95.0, p99: 99.0 });
        assert_eq!(Summary::of(&mut [7.0]), Summary { avg: 7.0, p50: 7.0, p95: 7.0, p99: 7.0 });
    }

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
