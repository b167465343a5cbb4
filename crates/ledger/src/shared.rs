//! A stock that all threads of a process share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stock::{Short, Stock};

/// A stock behind a lock.
#[derive(Debug)]
pub struct Shared {
    stock: Mutex<Stock>,
    /// Of all accounts together, to be looked at without the lock.
    refusals: AtomicU64,
}

impl Shared {
    /// Shared from now on.
    #[must_use]
    pub fn new(stock: Stock) -> Arc<Self> {
        Arc::new(Self { stock: Mutex::new(stock), refusals: AtomicU64::new(0) })
    }

    /// The stock, for as long as the guard lives.
    pub fn stock(&self) -> MutexGuard<'_, Stock> {
        // What a panic in between leaves is whole: each change is the last thing that is done.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Stock::take`].
    ///
    /// # Errors
    /// As there.
    pub fn take(&self, account: usize, amount: u64) -> Result<(), Short> {
        let taken = self.stock().take(account, amount);
        if taken.is_err() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// As [`Stock::give`].
    pub fn give(&self, account: usize, amount: u64) {
        self.stock().give(account, amount);
    }

    /// How often any account was refused something. Costs no lock.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

/// One account of a shared stock.
#[derive(Clone, Debug)]
pub struct Purse {
    shared: Arc<Shared>,
    account: usize,
}

impl Purse {
    /// Of that account.
    #[must_use]
    pub fn new(shared: &Arc<Shared>, account: usize) -> Self {
        Self { shared: Arc::clone(shared), account }
    }

    /// As [`Stock::take`].
    ///
    /// # Errors
    /// As there.
    pub fn take(&self, amount: u64) -> Result<(), Short> {
        self.shared.take(self.account, amount)
    }

    /// As [`Stock::give`].
    pub fn give(&self, amount: u64) {
        self.shared.give(self.account, amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_what_there_is() {
        let shared = Shared::new(Stock::equal_shares(100, &[u64::MAX, u64::MAX]));
        std::thread::scope(|scope| {
            for account in [0, 1, 0, 1] {
                let purse = Purse::new(&shared, account);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        if purse.take(30).is_ok() {
                            purse.give(30);
                        }
                    }
                });
            }
        });
        let stock = shared.stock();
        assert_eq!(stock.held(), 0);
        assert_eq!(stock.refusals(0) + stock.refusals(1), shared.refusals());
    }
}
