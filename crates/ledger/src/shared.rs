//! A stock that all threads of a process share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stock::{Short, Stock};

/// A stock behind a lock, and what can be seen of it without.
#[derive(Debug)]
pub struct Shared {
    stock: Mutex<Stock>,
    held: AtomicU64,
    /// Of all accounts together.
    refusals: AtomicU64,
    signs: Box<[Sign]>,
}

/// What can be seen of an account, as of when it last took or gave.
#[derive(Debug, Default)]
struct Sign {
    refusals: AtomicU64,
    is_tight: AtomicBool,
    /// By how much more it would hold than is kept for it, if it had not been refused that; as much
    /// as can be said when it has been given something since, or had no right to it.
    wants_beyond: AtomicU64,
}

impl Shared {
    /// Shared from now on.
    #[must_use]
    pub fn new(stock: Stock) -> Arc<Self> {
        let sign = || Sign { wants_beyond: AtomicU64::new(u64::MAX), ..Sign::default() };
        let signs = (0..stock.accounts()).map(|_| sign()).collect();
        let (held, refusals) = (AtomicU64::new(stock.held()), AtomicU64::new(0));
        Arc::new(Self { stock: Mutex::new(stock), held, refusals, signs })
    }

    /// The stock as it is.
    fn stock(&self) -> MutexGuard<'_, Stock> {
        // What a panic in between leaves is whole: each change is the last thing that is done.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Stock::take`].
    ///
    /// # Errors
    /// As there.
    pub fn take(&self, account: usize, amount: u64) -> Result<(), Short> {
        let mut stock = self.stock();
        let taken = stock.take(account, amount);
        match taken {
            Ok(()) => {
                self.show(&stock, account);
                self.signs[account].wants_beyond.store(u64::MAX, Ordering::Relaxed);
            }
            Err(short) => {
                let wants = match short {
                    Short::Account(_) => u64::MAX,
                    Short::Stock(_) => stock.beyond(account, amount),
                };
                self.signs[account].wants_beyond.store(wants, Ordering::Relaxed);
                self.signs[account].refusals.fetch_add(1, Ordering::Relaxed);
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
        }
        taken
    }

    /// As [`Stock::give`].
    pub fn give(&self, account: usize, amount: u64) {
        let mut stock = self.stock();
        stock.give(account, amount);
        self.show(&stock, account);
    }

    fn show(&self, stock: &Stock, account: usize) {
        // Numbers only: nothing else is read because of what they say.
        self.held.store(stock.held(), Ordering::Relaxed);
        self.signs[account].is_tight.store(stock.is_tight(account), Ordering::Relaxed);
    }

    /// Should an account give up what it can do without, for one that was refused something: its
    /// own, or what it has beyond its part while the other would have less beyond its own?
    #[must_use]
    pub fn gives_way(&self, account: usize, to: usize) -> bool {
        let wants = self.signs[to].wants_beyond.load(Ordering::Relaxed);
        account == to || self.stock().beyond(account, 0) > wants
    }

    /// As [`Stock::total`].
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stock().total()
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.signs.len()
    }

    /// As [`Stock::held`]. This and what follows costs no lock.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// As [`Stock::is_tight`], when the account last took or gave.
    #[must_use]
    pub fn is_tight(&self, account: usize) -> bool {
        self.signs[account].is_tight.load(Ordering::Relaxed)
    }

    /// How often any account was refused something.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// How often that account was.
    #[must_use]
    pub fn refusals_of(&self, account: usize) -> u64 {
        self.signs[account].refusals.load(Ordering::Relaxed)
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

    /// As [`Stock::take`], until what is answered is dropped.
    ///
    /// # Errors
    /// As there.
    pub fn hold(&self, amount: u64) -> Result<Holding, Short> {
        self.shared.take(self.account, amount)?;
        Ok(Holding { purse: self.clone(), amount })
    }
}

/// What is held of a stock. Dropped, it is given back.
#[derive(Debug)]
pub struct Holding {
    purse: Purse,
    amount: u64,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.purse.shared.give(self.purse.account, self.amount);
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
                        // Given back at once, if it was there.
                        let _ = purse.hold(30);
                    }
                });
            }
        });
        assert_eq!((shared.held(), shared.stock().held()), (0, 0));
        assert_eq!(shared.refusals_of(0) + shared.refusals_of(1), shared.refusals());
    }

    /// Whoever has more beyond its part gives way to who would have less, and to nobody else.
    #[test]
    fn who_has_much_gives_way() {
        let shared = Shared::new(Stock::equal_shares(120, &[u64::MAX, u64::MAX, 30]));
        // 20 are kept for each.
        assert_eq!((shared.take(0, 70), shared.take(1, 20)), (Ok(()), Ok(())));
        assert!(shared.gives_way(1, 1) && !shared.gives_way(0, 1), "nobody was refused anything");
        for (amount, gives_way) in [(11, true), (49, true), (50, false), (u64::MAX - 20, false)] {
            assert_eq!(shared.take(1, amount), Err(Short::Stock(120)));
            assert_eq!(shared.gives_way(0, 1), gives_way, "{amount}");
            assert!(shared.gives_way(1, 1) && !shared.gives_way(1, 0));
        }
        assert_eq!((shared.take(1, 11), shared.take(1, 10)), (Err(Short::Stock(120)), Ok(())));
        assert!(!shared.gives_way(0, 1), "it has what it wanted");
        assert_eq!(shared.take(2, 31), Err(Short::Account(30)));
        assert!(!shared.gives_way(0, 2), "its own limit");
    }

    #[test]
    fn it_is_seen_when_little_is_left() {
        let shared = Shared::new(Stock::equal_shares(100, &[u64::MAX, 40]));
        assert_eq!((shared.take(0, 50), shared.is_tight(0)), (Ok(()), false));
        assert_eq!((shared.take(0, 1), shared.is_tight(0)), (Ok(()), true));
        assert_eq!((shared.take(1, 25), shared.is_tight(1)), (Ok(()), false), "it is kept for it");
        shared.give(0, 40);
        assert_eq!((shared.take(1, 6), shared.is_tight(1)), (Ok(()), true), "31 of 40");
    }
}
