//! Jobs to simulate, drawn at random from a few shapes that real loads have.

use core::f64::consts::TAU;

use super::Job;
use crate::contract::{Arrival, FunctionId};
use crate::time::Nanos;

/// The shape of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Arrivals independent of each other, run times exponential.
    Poisson,
    /// The same, but most arrivals come in bursts at five times the rate.
    Bursty,
    /// Short runs, and one in twenty that is fifty times longer, of a function of its own.
    Bimodal,
    /// The rate rises and falls in one long wave, to twice its average and to nothing.
    Diurnal,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Poisson, Self::Bursty, Self::Bimodal, Self::Diurnal];

    /// The name that the command line uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Bursty => "bursty",
            Self::Bimodal => "bimodal",
            Self::Diurnal => "diurnal",
        }
    }
}

/// What is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// Its shape.
    pub kind: Kind,
    /// Number of jobs.
    pub jobs: u32,
    /// Average arrivals per second, more than none.
    pub per_second: f64,
    /// Average run time (of the short ones, for [`Kind::Bimodal`]).
    pub run: Nanos,
    /// The deadline of each job is at least this...
    pub deadline: Nanos,
    /// ...and at least so many times its run time.
    pub slack: f64,
    /// The scheduler is told the run times.
    pub exact: bool,
    /// The correlation of a request's size with its run time, 0 to 1, within each function. At 1 a
    /// size tells the run time; at 0 it tells nothing.
    pub size_correlation: f64,
    /// The same seed, the same jobs.
    pub seed: u64,
}

/// One long run of [`Kind::Bimodal`] in so many.
const LONG_ONE_IN: u64 = 20;
const LONG_FACTOR: u64 = 50;
/// A burst of [`Kind::Bursty`] brings so many jobs on average, at so many times the average rate.
const BURST_JOBS: f64 = 40.0;
const BURST_FACTOR: f64 = 5.0;

impl Workload {
    /// How many functions it has, numbered from 0.
    #[must_use]
    pub fn functions(&self) -> u32 {
        if self.kind == Kind::Bimodal { 2 } else { 1 }
    }

    /// Average run time of all its jobs.
    #[must_use]
    pub fn mean_run(&self) -> Nanos {
        match self.kind {
            Kind::Bimodal => {
                let long = self.run.0 as f64 * LONG_FACTOR as f64;
                let share = 1.0 / LONG_ONE_IN as f64;
                Nanos((self.run.0 as f64 * (1.0 - share) + long * share) as u64)
            }
            Kind::Poisson | Kind::Bursty | Kind::Diurnal => self.run,
        }
    }

    /// Draws them, in the order of their arrival.
    #[must_use]
    pub fn draw(&self) -> Vec<Job> {
        let mut random = Random::new(self.seed);
        let mut sizes = Random::stream(self.seed, SIZES);
        let mut at_s = 0.0;
        let length_s = f64::from(self.jobs) / self.per_second;
        let jobs = (0..self.jobs).map(|_| {
            at_s += self.gap_s(&mut random, at_s / length_s);
            let (function, run) = self.job(&mut random);
            // So many sizes are of the run itself and the others of another run. Either has the
            // same distribution, so the share is the correlation.
            let own = sizes.unit() < self.size_correlation;
            let sized = if own { run } else { self.run_of(function, &mut sizes) };
            let least = Nanos((run.0 as f64 * self.slack) as u64);
            let arrival = Arrival {
                deadline: self.deadline.max(least),
                request_bytes: sized.0 / 1000,
                estimate: self.exact.then_some(run),
                ..Arrival::new(FunctionId(function))
            };
            Job { at: Nanos((at_s * 1e9) as u64), run, arrival }
        });
        jobs.collect()
    }

    /// Time to the next arrival; `phase` is where in the whole load this is, 0 to 1.
    fn gap_s(&self, random: &mut Random, phase: f64) -> f64 {
        let mean_s = 1.0 / self.per_second;
        match self.kind {
            Kind::Poisson | Kind::Bimodal => mean_s * random.exponential(),
            Kind::Bursty => {
                // What a burst saves in time is waited for after it.
                let within = mean_s / BURST_FACTOR * random.exponential();
                let ends = random.unit() * BURST_JOBS < 1.0;
                let pause = mean_s * BURST_JOBS * (1.0 - 1.0 / BURST_FACTOR);
                if ends { within + pause * random.exponential() } else { within }
            }
            Kind::Diurnal => {
                let rate = (1.0 - (TAU * phase).cos()).max(0.02);
                mean_s / rate * random.exponential()
            }
        }
    }

    /// A function, and how long it runs.
    fn job(&self, random: &mut Random) -> (u32, Nanos) {
        let long = self.kind == Kind::Bimodal && random.below(LONG_ONE_IN) == 0;
        let function = u32::from(long);
        (function, self.run_of(function, random))
    }

    /// How long one of the function's runs.
    fn run_of(&self, function: u32, random: &mut Random) -> Nanos {
        match (self.kind, function) {
            (Kind::Bimodal, 0) => self.run,
            (Kind::Bimodal, _) => Nanos(self.run.0.saturating_mul(LONG_FACTOR)),
            (Kind::Poisson | Kind::Bursty | Kind::Diurnal, _) => {
                Nanos(((self.run.0 as f64 * random.exponential()) as u64).max(1))
            }
        }
    }
}

/// What is drawn beside the load itself, each from numbers of its own.
pub(super) const PLACEMENT: u64 = 1;
const SIZES: u64 = 2;

/// Numbers from a seed. Source: xorshift64*: Vigna, "An experimental exploration of Marsaglia's
/// xorshift generators", 2016.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Different seeds give different numbers; every seed will do.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // One round of splitmix64 (Steele, Lea and Flood 2014), so that small seeds differ.
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((state ^ (state >> 31)) | 1)
    }

    /// Numbers that have nothing to do with those of [`Self::new`], nor with those of another stream
    /// of the same seed.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self::new(Self::new(seed).0.wrapping_add(stream))
    }

    /// A number below the bound, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed with average 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Workload = Workload {
        kind: Kind::Poisson,
        jobs: 200_000,
        per_second: 1000.0,
        run: Nanos::from_millis(1),
        deadline: Nanos::from_millis(10),
        slack: 2.0,
        exact: false,
        size_correlation: 0.0,
        seed: 1,
    };

    #[test]
    fn loads_have_their_rate_and_run_time() {
        for kind in Kind::ALL {
            let load = Workload { kind, seed: 7, ..LOAD };
            let jobs = load.draw();
            assert!(jobs.is_sorted_by_key(|job| job.at));
            let seconds = jobs.last().expect("there are some").at.0 as f64 / 1e9;
            assert!((160.0..250.0).contains(&seconds), "{kind:?}: {seconds} s");
            let mean = jobs.iter().map(|job| job.run.0).sum::<u64>() / 200_000;
            let expected = load.mean_run().0;
            assert!(mean.abs_diff(expected) < expected / 20, "{kind:?}: {mean} ns");
            assert!(jobs.iter().all(|job| job.arrival.deadline.0 >= 2 * job.run.0 - 1));
            assert_eq!(load.draw(), jobs);
        }
    }

    #[test]
    fn sizes_tell_as_much_of_run_times_as_is_said() {
        for wanted in [0.0, 0.5, 0.9, 1.0] {
            let load = Workload { size_correlation: wanted, seed: 3, ..LOAD };
            let pairs = load.draw().into_iter();
            let pairs: Vec<(f64, f64)> =
                pairs.map(|job| (job.run.0 as f64, job.arrival.request_bytes as f64)).collect();
            let count = pairs.len() as f64;
            let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
            let (run, size) = (mean(|pair| pair.0), mean(|pair| pair.1));
            let moment = |of: &dyn Fn(f64, f64) -> f64| {
                pairs.iter().map(|pair| of(pair.0 - run, pair.1 - size)).sum::<f64>() / count
            };
            let spread = (moment(&|run, _| run * run) * moment(&|_, size| size * size)).sqrt();
            let found = moment(&|run, size| run * size) / spread;
            // Of 200,000 pairs the standard error is 0.002, with these tails at most 0.01.
            assert!((found - wanted).abs() < 0.03, "{found}, not {wanted}");
        }
    }
}
