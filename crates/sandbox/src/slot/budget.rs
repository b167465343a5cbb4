//! Memory that guests may have: each instance by its own limit, all instances together by a budget.
//!
//! What counts is what guests can touch: their linear memories and tables at their present size,
//! whether or not there is anything in them yet, of idle slots as well as of live ones. So the sum
//! is a bound that holds whatever guests do. It is changed when a slot is made or given up and when
//! a guest grows something or has grown it, never by a warm start, and so no core waits for another
//! one there. Not counted: stacks ([`crate::Limits::stack_bytes`] each at most), and what the host
//! keeps for a guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::StartError;

/// What all instances of the pools that share it may have together.
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    /// Number of refusals.
    refusals: AtomicU64,
}

impl MemoryBudget {
    /// Of so many bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0), refusals: AtomicU64::new(0) })
    }

    /// All there is.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes that instances have taken.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// How often a slot or a guest's growth was refused so far.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// So little is left that what is idle should not be kept.
    pub(crate) fn is_tight(&self) -> bool {
        self.used_bytes() > self.limit_bytes - self.limit_bytes / 4
    }

    fn take(&self, bytes: u64) -> bool {
        let sum = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        // Numbers only: nothing else is read because of what they say.
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if !taken {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn give(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "what is given back was taken");
    }
}

/// What one instance has. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Option<Arc<MemoryBudget>>,
    limit_bytes: u64,
    at_start_bytes: u64,
    bytes: u64,
}

impl Account {
    /// Of an instance that begins with `bytes` and may have `limit_bytes`.
    pub(crate) fn open(
        bytes: u64,
        limit_bytes: u64,
        budget: Option<&Arc<MemoryBudget>>,
    ) -> Result<Self, StartError> {
        if bytes > limit_bytes {
            return Err(StartError::Limit("memory and tables", bytes, limit_bytes));
        }
        if let Some(budget) = budget
            && !budget.take(bytes)
        {
            return Err(StartError::Budget { wanted: bytes, limit: budget.limit_bytes });
        }
        Ok(Self { budget: budget.cloned(), limit_bytes, at_start_bytes: bytes, bytes })
    }

    /// Says whether the instance may have so many more; if so it has them.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let sum = self.bytes.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        let Some(sum) = sum else { return false };
        let taken = self.budget.as_ref().is_none_or(|budget| budget.take(bytes));
        if taken {
            self.bytes = sum;
        }
        taken
    }

    /// It has so many less.
    pub(crate) fn give(&mut self, bytes: u64) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.give(bytes);
        }
    }

    /// Has it what it had at the start?
    pub(crate) fn is_at_start(&self) -> bool {
        self.bytes == self.at_start_bytes
    }

    /// It has what it had at the start.
    pub(crate) fn reset(&mut self) {
        let grown = self.bytes - self.at_start_bytes;
        if grown > 0 {
            self.give(grown);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is() {
        let budget = MemoryBudget::new(100);
        let mut first = Account::open(60, 90, Some(&budget)).expect("there is room");
        assert!(Account::open(41, 90, Some(&budget)).is_err() && budget.refusals() == 1);
        let mut second = Account::open(10, 90, Some(&budget)).expect("there is room");
        assert!(!first.take(31) && !first.take(u64::MAX), "its own limit");
        assert_eq!((budget.refusals(), budget.used_bytes()), (1, 70), "which is not the budget's");
        assert!(first.take(30) && !second.take(1) && second.take(0));
        assert_eq!((budget.used_bytes(), budget.refusals()), (100, 2));
        first.reset();
        assert!(budget.used_bytes() == 70 && second.take(30));
        drop(first);
        assert_eq!(budget.used_bytes(), 40);
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
        assert!(Account::open(91, 90, Some(&budget)).is_err() && budget.used_bytes() == 0);
        assert!(Account::open(u64::MAX, u64::MAX, Some(&budget)).is_err());
    }
}
