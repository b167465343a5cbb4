//! What is due by when: does one more fit?
//!
//! Under preemptive earliest-deadline-first on one core, a set of jobs that are all there meets
//! every deadline exactly if for each deadline `d` the work due by `d` fits into the time until `d`
//! (the processor demand criterion: Baruah, Rosier and Howell 1990, for jobs instead of tasks). A
//! new job adds to the work of its own deadline and of every later one, so it fits if its own
//! deadline has room for it and no later one has less slack than it needs.
//!
//! A treap by deadline (Seidel and Aragon 1996) holds in each node the sum of its subtree and the
//! least slack in it, so a question and a change cost a logarithm of the number of jobs. Priorities
//! are drawn here and not derived from deadlines, so no choice of deadlines unbalances it. Slack is
//! kept as `deadline - work due by then`, without the present time, so nothing ages.

use crate::time::Nanos;

/// The jobs that have been promised their deadlines, by the small numbers that callers give them.
#[derive(Debug)]
pub(crate) struct Demand {
    nodes: Vec<Node>,
    root: u32,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: i64,
    work: i64,
    /// Work of the subtree.
    sum: i64,
    /// Least slack in the subtree, as if nothing were due before it.
    slack: i64,
    priority: u32,
    left: u32,
    right: u32,
}

const NIL: u32 = u32::MAX;
/// Far enough to never be reached, near enough that sums do not overflow.
const FAR: i64 = i64::MAX / 4;
/// No single job counts for more (73 minutes), so that a million of them do not overflow a sum.
const WORK_MAX: i64 = 1 << 42;

type Key = (i64, u32);

impl Demand {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), root: NIL, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// All work together.
    pub(crate) fn total(&self) -> Nanos {
        Nanos(self.sum(self.root) as u64)
    }

    /// How much too much one more job would be: nothing if it fits.
    pub(crate) fn excess(&self, now: Nanos, deadline: Nanos, work: Nanos) -> Nanos {
        let (now, deadline, work) = (clamp(now, FAR), clamp(deadline, FAR), clamp(work, WORK_MAX));
        let (mut before, mut later) = (0, i64::MAX);
        let mut at = self.root;
        while at != NIL {
            let node = self.node(at);
            let through = before + self.sum(node.left) + node.work;
            if node.deadline <= deadline {
                before = through;
                at = node.right;
            } else {
                later = later.min(node.deadline - through);
                if node.right != NIL {
                    later = later.min(self.node(node.right).slack - through);
                }
                at = node.left;
            }
        }
        let slack = later.min(deadline - before) - now;
        Nanos(u64::try_from(work.saturating_sub(slack)).unwrap_or(0))
    }

    /// Takes a job in, under a number that is not in use.
    pub(crate) fn insert(&mut self, index: u32, deadline: Nanos, work: Nanos) {
        if index as usize >= self.nodes.len() {
            let unused =
                Node { deadline: 0, work: 0, sum: 0, slack: 0, priority: 0, left: NIL, right: NIL };
            self.nodes.resize(index as usize + 1, unused);
        }
        let priority = self.draw();
        let node = self.node_mut(index);
        *node = Node {
            deadline: clamp(deadline, FAR),
            work: clamp(work, WORK_MAX),
            priority,
            left: NIL,
            right: NIL,
            ..*node
        };
        self.update(index);
        self.root = self.insert_at(self.root, index);
    }

    /// A job has been worked on: this much of it is left.
    pub(crate) fn set_work(&mut self, index: u32, work: Nanos) {
        let key = self.key(index);
        self.set_at(self.root, key, clamp(work, WORK_MAX));
    }

    /// The job is done, or gone.
    pub(crate) fn remove(&mut self, index: u32) {
        self.root = self.remove_at(self.root, self.key(index));
    }

    fn insert_at(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        if self.node(new).priority > self.node(at).priority {
            let (left, right) = self.split(at, self.key(new));
            let node = self.node_mut(new);
            (node.left, node.right) = (left, right);
            self.update(new);
            return new;
        }
        if self.key(new) < self.key(at) {
            let left = self.insert_at(self.node(at).left, new);
            self.node_mut(at).left = left;
        } else {
            let right = self.insert_at(self.node(at).right, new);
            self.node_mut(at).right = right;
        }
        self.update(at);
        at
    }

    fn set_at(&mut self, at: u32, key: Key, work: i64) {
        let here = self.key(at);
        match key.cmp(&here) {
            core::cmp::Ordering::Equal => self.node_mut(at).work = work,
            core::cmp::Ordering::Less => self.set_at(self.node(at).left, key, work),
            core::cmp::Ordering::Greater => self.set_at(self.node(at).right, key, work),
        }
        self.update(at);
    }

    fn remove_at(&mut self, at: u32, key: Key) -> u32 {
        let Node { left, right, .. } = *self.node(at);
        match key.cmp(&self.key(at)) {
            core::cmp::Ordering::Equal => return self.merge(left, right),
            core::cmp::Ordering::Less => {
                let left = self.remove_at(left, key);
                self.node_mut(at).left = left;
            }
            core::cmp::Ordering::Greater => {
                let right = self.remove_at(right, key);
                self.node_mut(at).right = right;
            }
        }
        self.update(at);
        at
    }

    /// Everything before the key, and the rest.
    fn split(&mut self, at: u32, key: Key) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.key(at) < key {
            let (left, right) = self.split(self.node(at).right, key);
            self.node_mut(at).right = left;
            self.update(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.node(at).left, key);
            self.node_mut(at).left = right;
            self.update(at);
            (left, at)
        }
    }

    /// Everything of `first` lies before everything of `second`.
    fn merge(&mut self, first: u32, second: u32) -> u32 {
        if first == NIL || second == NIL {
            return if first == NIL { second } else { first };
        }
        if self.node(first).priority > self.node(second).priority {
            let right = self.merge(self.node(first).right, second);
            self.node_mut(first).right = right;
            self.update(first);
            first
        } else {
            let left = self.merge(first, self.node(second).left);
            self.node_mut(second).left = left;
            self.update(second);
            second
        }
    }

    fn update(&mut self, at: u32) {
        let Node { deadline, work, left, right, .. } = *self.node(at);
        let through = self.sum(left) + work;
        let mut slack = deadline - through;
        if left != NIL {
            slack = slack.min(self.node(left).slack);
        }
        if right != NIL {
            slack = slack.min(self.node(right).slack - through);
        }
        let sum = through + self.sum(right);
        let node = self.node_mut(at);
        (node.sum, node.slack) = (sum, slack);
    }

    fn sum(&self, at: u32) -> i64 {
        if at == NIL { 0 } else { self.node(at).sum }
    }

    fn key(&self, at: u32) -> Key {
        (self.node(at).deadline, at)
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    /// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
    fn draw(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }
}

fn clamp(time: Nanos, most: i64) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by its definition.
    fn excess(jobs: &[(u32, u64, u64)], now: u64, deadline: u64, work: u64) -> u64 {
        let due = |by: u64| jobs.iter().filter(|job| job.1 <= by).map(|job| job.2).sum::<u64>();
        let deadlines = jobs.iter().map(|job| job.1).filter(|other| *other > deadline);
        let slacks = deadlines.chain([deadline]).map(|at| at as i64 - (due(at) + now) as i64);
        let least = slacks.min().expect("its own at least");
        u64::try_from(work as i64 - least).unwrap_or(0)
    }

    #[test]
    fn it_agrees_with_the_definition() {
        let mut random = Demand::new();
        let mut below = |bound: u64| u64::from(random.draw()) % bound;
        for _ in 0..40 {
            let mut demand = Demand::new();
            let mut jobs: Vec<(u32, u64, u64)> = Vec::new();
            for _ in 0..400 {
                match below(6) {
                    0 if !jobs.is_empty() => {
                        let (index, ..) = jobs.swap_remove(below(jobs.len() as u64) as usize);
                        demand.remove(index);
                    }
                    1 if !jobs.is_empty() => {
                        let at = below(jobs.len() as u64) as usize;
                        jobs[at].2 = below(50);
                        demand.set_work(jobs[at].0, Nanos(jobs[at].2));
                    }
                    _ => {
                        let free = (0..).find(|i| jobs.iter().all(|job| job.0 != *i));
                        let job = (free.expect("one is free"), below(3000), below(50));
                        jobs.push(job);
                        demand.insert(job.0, Nanos(job.1), Nanos(job.2));
                    }
                }
                let (now, deadline, work) = (below(1000), below(3000), below(300));
                let got = demand.excess(Nanos(now), Nanos(deadline), Nanos(work));
                assert_eq!(got.0, excess(&jobs, now, deadline, work), "{jobs:?}");
                assert_eq!(demand.total().0, jobs.iter().map(|job| job.2).sum::<u64>());
            }
        }
    }

    #[test]
    fn nothing_overflows() {
        let mut demand = Demand::new();
        for index in 0..2000 {
            demand.insert(index, Nanos::MAX, Nanos::MAX);
        }
        assert!(demand.excess(Nanos::MAX, Nanos::ZERO, Nanos::MAX) > Nanos::ZERO);
        assert!(demand.excess(Nanos::ZERO, Nanos::MAX, Nanos(1)) == Nanos::ZERO);
    }
}
