//! Laps of several cases in turns, and what is reported of them.

use awsm_sandbox::clock;
use serde::Serialize;

use crate::stats::{Summary, median, tidy};

/// The moments of one sandbox's life, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lap {
    pub(super) start: u64,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) recycled: u64,
}

/// What is reported of one case.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) startup_us: Summary,
    pub(super) run_us: Summary,
    pub(super) recycle_us: Summary,
    pub(super) cycle_us: Summary,
    /// The median of the blocks' averages: work that is put off to every n-th lap counts in full,
    /// an interruption of milliseconds by somebody else's program does not.
    pub(super) cycle_typical_us: f64,
}

/// Something that makes a lap each time it is called.
pub(super) struct Case<'a> {
    name: &'static str,
    lap: Box<dyn FnMut() -> Lap + 'a>,
    laps: Laps,
}

impl<'a> Case<'a> {
    pub(super) fn new(name: &'static str, lap: impl FnMut() -> Lap + 'a) -> Self {
        Self { name, lap: Box::new(lap), laps: Laps::default() }
    }
}

/// Laps of one case before the next one's turn.
const BLOCK: u64 = 100;
/// Laps at the head of each block that are not counted: caches full of the previous case.
const UNCOUNTED: u64 = 10;

/// Lets the cases take turns until each has its laps.
pub(super) fn take_turns(
    mut cases: Vec<Case<'_>>,
    iterations: u64,
) -> Vec<(&'static str, Figures)> {
    let mut left = iterations;
    while left > 0 {
        let block = left.min(BLOCK);
        for case in &mut cases {
            for _ in 0..UNCOUNTED {
                (case.lap)();
            }
            for _ in 0..block {
                let lap = (case.lap)();
                case.laps.push(lap);
            }
            case.laps.end_block(block as usize);
        }
        left -= block;
    }
    cases.into_iter().map(|case| (case.name, case.laps.figures())).collect()
}

/// Laps of one case, in microseconds.
#[derive(Debug, Default)]
struct Laps {
    startup: Vec<f64>,
    run: Vec<f64>,
    recycle: Vec<f64>,
    cycle: Vec<f64>,
    /// The average cycle of each block.
    cycle_of_block: Vec<f64>,
}

impl Laps {
    fn push(&mut self, lap: Lap) {
        self.startup.push(us(lap.first - lap.start));
        self.run.push(us(lap.end - lap.first));
        self.recycle.push(us(lap.recycled - lap.end));
        self.cycle.push(us(lap.recycled - lap.start));
    }

    /// The last `laps` laps were one block.
    fn end_block(&mut self, laps: usize) {
        let block = &self.cycle[self.cycle.len() - laps..];
        self.cycle_of_block.push(block.iter().sum::<f64>() / laps as f64);
    }

    fn figures(mut self) -> Figures {
        Figures {
            startup_us: Summary::of(&mut self.startup),
            run_us: Summary::of(&mut self.run),
            recycle_us: Summary::of(&mut self.recycle),
            cycle_us: Summary::of(&mut self.cycle),
            cycle_typical_us: tidy(median(&self.cycle_of_block)),
        }
    }
}

pub(super) fn us(ticks: u64) -> f64 {
    ticks as f64 * clock::ns_per_tick() / 1000.0
}
