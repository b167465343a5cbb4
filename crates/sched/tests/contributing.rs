//! The policy that CONTRIBUTING.md adds as an example: the document says what stands here, and it
//! works.

use awsm_sched::simulate::{Cluster, Fate, Job, Kind, Placement, Workload, simulate};
use awsm_sched::{
    Admission, Candidate, Config, FunctionConfig, Limits, Nanos, Policy, Preemption, Rule,
    Scheduler,
};

struct LeastLaxity;

impl Rule for LeastLaxity {
    fn name(&self) -> &'static str {
        "llf"
    }

    // Laxity is deadline - now - remaining; `now` is the same for all.
    fn rank(&self, candidate: &Candidate) -> u64 {
        (candidate.deadline - candidate.remaining()).0
    }

    fn preemption(&self) -> Preemption {
        Preemption::AtOnce
    }

    // Who runs keeps its laxity, and those who wait lose theirs.
    fn looks_again(&self, _running: &Candidate, quantum: Nanos) -> Option<Nanos> {
        Some(quantum)
    }

    fn renews_deadlines(&self) -> bool {
        true
    }
}

const LLF: Policy = Policy::new(&LeastLaxity);

/// How many of all jobs of a core in use for seven tenths are late under that policy, if all are
/// let in.
fn late(policy: Policy) -> (usize, usize) {
    let shape = Workload {
        kind: Kind::Bimodal,
        jobs: 20_000,
        per_second: 1.0,
        run: Nanos::from_millis(1),
        deadline: Nanos::from_millis(10),
        slack: 3.0,
        exact: true,
        size_correlation: 0.0,
        seed: 1,
    };
    let per_second = 0.7e9 / shape.mean_run().0 as f64;
    let core = Cluster {
        nodes: 1,
        cores: 1,
        placement: Placement::Random,
        handling: Nanos::ZERO,
        switching: Nanos::ZERO,
        seed: 1,
    };
    let jobs: Vec<Job> = Workload { per_second, ..shape }.draw();
    let outcome = simulate(core, &jobs, || {
        let mut sched = Scheduler::new(Config {
            policy,
            admission: Admission::None,
            quantum: Nanos::from_millis(1),
            reserve_ppm: 0,
            limits: Limits { queued: 4096, live: 2048, unprofiled: 256 },
        });
        sched.add_function(FunctionConfig::PLAIN);
        sched.add_function(FunctionConfig::PLAIN);
        sched
    });
    let missed = |(job, fate): &(&Job, &Fate)| match fate {
        Fate::Done(latency) => *latency > job.arrival.deadline,
        Fate::Expired | Fate::Refused(_) => true,
    };
    (jobs.iter().zip(&outcome.fates).filter(missed).count(), jobs.len())
}

#[test]
fn least_laxity_meets_what_first_come_misses() {
    let [(llf, all), (edf, _), (fifo, _)] = [LLF, Policy::EDF, Policy::FIFO].map(late);
    println!("late of {all}: llf {llf}, edf {edf}, fifo {fifo}");
    assert!(fifo > 0 && llf * 2 < fifo, "of {all}: llf {llf}, edf {edf}, fifo {fifo}");
}

#[test]
fn a_policy_is_its_name() {
    assert_eq!(LLF.name(), "llf");
    assert_eq!(LLF, Policy::new(&LeastLaxity));
    assert!(Policy::ALL.iter().all(|policy| (*policy == LLF) == (policy.name() == "llf")));
    assert_eq!(format!("{LLF:?} {:?}", Policy::EDF), "llf edf");
}

#[test]
fn the_document_says_what_stands_here() {
    let (document, here) =
        (include_str!("../../../CONTRIBUTING.md"), include_str!("contributing.rs"));
    let blocks: Vec<&str> = document.split("```rust\n").skip(1).collect();
    assert!(!blocks.is_empty(), "CONTRIBUTING.md has no example");
    for block in blocks {
        let (code, _) = block.split_once("```").expect("the block ends");
        assert!(here.contains(code), "not in crates/sched/tests/contributing.rs:\n{code}");
    }
}
