//! What instances may have: each by its own limit, all together by a budget in which each tenant
//! has its share.
//!
//! What counts is what guests can touch: their linear memories and tables at their present size,
//! whether or not there is anything in them yet, of idle slots as well as of live ones; globals and
//! the rest of an instance's record, and exceptions, as far as they are more than an ordinary
//! module has. So the sum is a bound that holds whatever guests do. It is changed when a slot is
//! made or given up and when a guest grows something or has grown it, never by a warm start, and so
//! no core waits for another one there. Not counted: a stack's first
//! [`crate::limits::STACK_FREE_BYTES`], and what the host keeps for a guest.
//!
//! Address space and mappings are counted likewise, when a slot is made: the system has so many of
//! them for a process, and when they are used up nobody starts or grows any more.

use std::sync::Arc;

use awsm_ledger::{Shared, Stock};

use crate::error::{Resource, StartError};

/// What all instances of the pools that share it may have together. Who pays for an instance is the
/// account that its program's [`crate::Limits::account`] says.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes: Arc<Shared>,
    addresses: Arc<Shared>,
    mappings: Arc<Shared>,
}

impl MemoryBudget {
    /// Of so many bytes, for one account, and with no limit on addresses and mappings.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        let all = |total| Stock::equal_shares(total, &[u64::MAX]);
        Self::of(all(limit_bytes), all(u64::MAX), all(u64::MAX))
    }

    /// Of so much, with the same accounts in each stock: bytes, bytes of addresses that are
    /// reserved, mappings.
    #[must_use]
    pub fn of(bytes: Stock, addresses: Stock, mappings: Stock) -> Arc<Self> {
        let [bytes, addresses, mappings] = [bytes, addresses, mappings].map(Shared::new);
        Arc::new(Self { bytes, addresses, mappings })
    }

    fn all(&self) -> [&Arc<Shared>; 3] {
        [&self.bytes, &self.addresses, &self.mappings]
    }

    /// All bytes that there are.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.bytes.total()
    }

    /// What instances have of them.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.bytes.held()
    }

    /// Mappings that instances have.
    #[must_use]
    pub fn used_mappings(&self) -> u64 {
        self.mappings.held()
    }

    /// How often a slot or a guest's growth was refused so far.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.all().iter().map(|one| one.refusals()).sum()
    }

    /// How often that was so for that account.
    pub(crate) fn refusals_of(&self, account: usize) -> u64 {
        self.all().iter().map(|one| one.refusals_of(account)).sum()
    }

    pub(crate) fn accounts(&self) -> usize {
        self.bytes.accounts()
    }

    /// Should idle slots of an account be given up for another one, which was refused something?
    /// See [`Shared::gives_way`].
    pub(crate) fn gives_way(&self, account: usize, to: usize) -> bool {
        self.all().iter().any(|one| one.gives_way(account, to))
    }

    /// So little is left for the account that what is idle should not be kept.
    pub(crate) fn is_tight(&self, account: usize) -> bool {
        self.all().iter().any(|one| one.is_tight(account))
    }
}

/// What one slot has of addresses and mappings. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    budget: Option<Arc<MemoryBudget>>,
    account: usize,
    extent: Extent,
}

/// So much of the process's address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub bytes: u64,
    pub mappings: u64,
}

impl Claim {
    pub(crate) fn open(
        extent: Extent,
        account: usize,
        budget: Option<&Arc<MemoryBudget>>,
    ) -> Result<Self, StartError> {
        if let Some(budget) = budget {
            let refused = |what, wanted| move |short| StartError::Budget { what, wanted, short };
            let taken = budget.addresses.take(account, extent.bytes);
            taken.map_err(refused(Resource::Addresses, extent.bytes))?;
            let taken = budget.mappings.take(account, extent.mappings);
            taken.map_err(|short| {
                budget.addresses.give(account, extent.bytes);
                refused(Resource::Mappings, extent.mappings)(short)
            })?;
        }
        Ok(Self { budget: budget.cloned(), account, extent })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.addresses.give(self.account, self.extent.bytes);
            budget.mappings.give(self.account, self.extent.mappings);
        }
    }
}

/// What one instance has of bytes. Gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Option<Arc<MemoryBudget>>,
    account: usize,
    limit_bytes: u64,
    at_start_bytes: u64,
    bytes: u64,
}

impl Account {
    /// Of an instance that begins with `bytes` and may have `limit_bytes`.
    pub(crate) fn open(
        bytes: u64,
        limit_bytes: u64,
        account: usize,
        budget: Option<&Arc<MemoryBudget>>,
    ) -> Result<Self, StartError> {
        if let Some(budget) = budget {
            let what = Resource::Memory;
            let refused = |short| StartError::Budget { what, wanted: bytes, short };
            budget.bytes.take(account, bytes).map_err(refused)?;
        }
        let budget = budget.cloned();
        Ok(Self { budget, account, limit_bytes, at_start_bytes: bytes, bytes })
    }

    /// Says whether the instance may have so many more; if so it has them.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let sum = self.bytes.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        let Some(sum) = sum else { return false };
        let budget = self.budget.as_ref();
        let taken = budget.is_none_or(|budget| budget.bytes.take(self.account, bytes).is_ok());
        if taken {
            self.bytes = sum;
        }
        taken
    }

    /// It has so many less.
    pub(crate) fn give(&mut self, bytes: u64) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.bytes.give(self.account, bytes);
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
            budget.bytes.give(self.account, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is() {
        let budget = MemoryBudget::new(100);
        let mut first = Account::open(60, 90, 0, Some(&budget)).expect("there is room");
        assert!(Account::open(41, 90, 0, Some(&budget)).is_err() && budget.refusals() == 1);
        let mut second = Account::open(10, 90, 0, Some(&budget)).expect("there is room");
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
        assert_eq!(budget.used_bytes(), 0);
        assert!(Account::open(u64::MAX, u64::MAX, 0, Some(&budget)).is_err());
    }

    #[test]
    fn what_is_kept_for_others_stays() {
        let stock = |total, mosts| Stock::equal_shares(total, mosts);
        let mosts = &[u64::MAX, 50];
        let budget = MemoryBudget::of(stock(100, mosts), stock(1000, mosts), stock(40, mosts));
        let open = |bytes, account| Account::open(bytes, u64::MAX, account, Some(&budget));
        assert_eq!(
            open(76, 0).expect_err("25 are kept").to_string(),
            "all sandboxes together may have 100 bytes, and 76 more are not left"
        );
        let first = open(70, 0).expect("there is room");
        let mut second = open(25, 1).expect("it is kept for it");
        assert!(second.take(5) && !second.take(1) && budget.is_tight(1));
        drop(first);
        second.reset();
        assert!(!budget.is_tight(1));
        assert_eq!(
            open(26, 1).expect_err("its own limit").to_string(),
            "its tenant's sandboxes may have 50 bytes, and 26 more are not left"
        );
        let claim = |bytes, mappings| Claim::open(Extent { bytes, mappings }, 0, Some(&budget));
        let claimed = claim(700, 20).expect("there is room");
        assert!(claim(300, 1).is_err() && claim(1, 20).is_err());
        assert_eq!((budget.used_mappings(), budget.addresses.held()), (20, 700));
        assert_eq!(budget.refusals_of(0), 3);
        drop(claimed);
        assert_eq!((budget.used_mappings(), budget.addresses.held()), (0, 0));
    }
}
