//! Calls in tail position by signatures of all shapes: rings of fixed seeds.
//!
//! Four tests, so that cores share them. `AWSM_RINGS=100..5000` says which seeds instead.

use std::ops::Range;

/// Half a minute on two cores.
const SEEDS: Range<u64> = 0..160;
/// Tests that share the seeds.
const TESTS: u64 = 4;

fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("AWSM_RINGS") else { return SEEDS };
    let bounds = wanted.split_once("..");
    let bounds = bounds.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.unwrap_or_else(|| panic!("AWSM_RINGS={wanted}: like 100..5000"))
}

fn check(test: u64) {
    let mut compared = 0;
    for seed in seeds().filter(|seed| seed / 2 % TESTS == test) {
        match awsm_fuzz::ring(seed) {
            Ok(calls) => compared += calls,
            Err(what) => panic!("{what}"),
        }
    }
    assert!(compared > 0, "nothing was compared");
}

#[test]
fn rings_of_the_first_quarter() {
    check(0);
}

#[test]
fn rings_of_the_second_quarter() {
    check(1);
}

#[test]
fn rings_of_the_third_quarter() {
    check(2);
}

#[test]
fn rings_of_the_last_quarter() {
    check(3);
}
