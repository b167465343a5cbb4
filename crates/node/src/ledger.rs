//! What one worker holds for its callers, and for whom.
//!
//! Each tenant has an account, and all functions that are no tenant's have one together. What a
//! caller sends and what is to be sent to it is counted for the function's account, from the first
//! byte until the function has ended, or until the socket has taken the last one. A worker has a
//! ledger of its own: to count costs no lock.
//!
//! Answers that their readers do not take are the one thing that others may need and that can be
//! given up: where there is no room for another answer, it is let in if readers can be turned out
//! for it, and whoever waits for [`Ledger::shortage`] does so.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use awsm_ledger::{Short, Stock};
use awsm_sandbox::MemoryBudget;
use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;

use crate::config::{Config, TenantConfig};
use crate::limits;

/// The account of functions that are no tenant's. A tenant's is one more than its place among them.
pub const NOBODY: usize = 0;

/// Which account pays for a function of that tenant.
#[must_use]
pub fn account_of(tenant: Option<usize>) -> usize {
    tenant.map_or(NOBODY, |tenant| tenant + 1)
}

/// A stock with an account for nobody, and one for each tenant.
#[must_use]
pub fn stock(total: u64, tenants: &[TenantConfig], most: impl Fn(&TenantConfig) -> u64) -> Stock {
    let mosts: Vec<u64> = std::iter::once(u64::MAX).chain(tenants.iter().map(most)).collect();
    Stock::equal_shares(total, &mosts)
}

/// What the sandboxes of all workers may have.
#[must_use]
pub fn budget(config: &Config) -> Arc<MemoryBudget> {
    let tenants = &config.tenants;
    let system = AddressSpace::here();
    let bytes = stock(config.node.memory_bytes, tenants, |tenant| tenant.memory_bytes);
    let addresses = stock(system.bytes, tenants, |_| u64::MAX);
    let mappings = match config.node.mappings {
        0 => system.mappings,
        most => most,
    };
    MemoryBudget::of(bytes, addresses, stock(mappings, tenants, |tenant| tenant.mappings))
}

/// What the system leaves sandboxes of this process's address space.
struct AddressSpace {
    bytes: u64,
    mappings: u64,
}

impl AddressSpace {
    /// What the process may have, less what it has by now, and a margin for what it will need.
    fn here() -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let maps = read("/proc/self/maps");
        // The stack is at the end of what processes have, which is all addresses with so many bits.
        let end = |line: &str| {
            let (_, end) = line.split(' ').next()?.split_once('-')?;
            u64::from_str_radix(end, 16).ok().filter(|end| *end < 1 << 63)
        };
        let all = maps.lines().filter_map(end).max().map_or(1 << 47, u64::next_power_of_two);
        let all = all.min(getrlimit(Resource::As).current.unwrap_or(u64::MAX));
        let most = read("/proc/sys/vm/max_map_count").trim().parse().unwrap_or(u64::MAX);
        let own = maps.lines().count() as u64;
        Self { bytes: all - all / 8, mappings: most.saturating_sub(own + most / 32) }
    }
}

/// Descriptors that guests may have open together: half of what the system gives the process, since
/// connections and the node's own are descriptors, too.
#[must_use]
pub fn descriptors(tenants: &[TenantConfig]) -> Stock {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    stock(most.saturating_sub(limits::OWN_DESCRIPTORS) / 2, tenants, |tenant| tenant.descriptors)
}

/// What a worker holds.
#[derive(Debug)]
pub struct Ledger {
    bodies: RefCell<Stock>,
    answers: RefCell<Stock>,
    /// What of the answers has been given to connections, by account.
    given: RefCell<Box<[u64]>>,
    /// There is too much of the answers.
    shortage: Notify,
    /// Connections with a request under way.
    places: RefCell<Stock>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes of requests' bodies, and of their variables.
    Body,
    /// Connections with a request under way.
    Place,
    /// Bytes of answers that guests are still at, and of what else their host calls hold.
    Said,
    /// Bytes of answers that connections have and their sockets have not taken.
    Given,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(config: &Config) -> Rc<Self> {
        let (node, tenants) = (&config.node, &config.tenants);
        let answers = stock(node.answer_memory_bytes, tenants, |tenant| tenant.answer_memory_bytes);
        Rc::new(Self {
            bodies: stock(node.body_memory_bytes, tenants, |tenant| tenant.body_memory_bytes)
                .into(),
            given: RefCell::new(vec![0; answers.accounts()].into()),
            answers: answers.into(),
            shortage: Notify::new(),
            places: stock(node.connections as u64, tenants, |tenant| tenant.connections as u64)
                .into(),
        })
    }

    /// There is more of answers than there may be; [`Self::surplus`] says of which.
    pub async fn shortage(&self) {
        self.shortage.notified().await;
    }

    /// Whose answers are to be given up, if any are.
    #[must_use]
    pub fn surplus(&self) -> Option<Surplus> {
        let (answers, given) = (self.answers.borrow(), self.given.borrow());
        let has = |account: &usize| given[*account] > 0;
        let own = (0..given.len()).find(|one| has(one) && answers.overdrawn_by(*one) > 0);
        if let Some(account) = own {
            return Some(Surplus::Of(account));
        }
        (answers.overdrawn() > 0 && (0..given.len()).any(|one| has(&one) && answers.is_beyond(one)))
            .then_some(Surplus::Any)
    }

    /// Is an answer of that account part of a surplus?
    #[must_use]
    pub fn is_in(&self, surplus: Surplus, account: usize) -> bool {
        match surplus {
            Surplus::Of(one) => one == account,
            Surplus::Any => self.answers.borrow().is_beyond(account),
        }
    }

    /// The account has so much more.
    ///
    /// # Errors
    /// If there is not that much for it.
    pub fn take(&self, what: What, account: usize, amount: u64) -> Result<(), Short> {
        match what {
            What::Body => return self.bodies.borrow_mut().take(account, amount),
            What::Place => return self.places.borrow_mut().take(account, amount),
            What::Said | What::Given => {}
        }
        let mut answers = self.answers.borrow_mut();
        let mut given = self.given.borrow_mut();
        if let Err(short) = answers.take(account, amount) {
            // What has been given to readers can be taken back from them.
            let (lacking, spare) = match short {
                Short::Account(most) => {
                    let lacking = answers.held_by(account).saturating_add(amount) - most;
                    (lacking, given[account])
                }
                Short::Stock(_) => {
                    let beyond = (0..given.len()).filter(|one| answers.is_beyond(*one));
                    (answers.overdrawn() + amount, beyond.map(|one| given[one]).sum())
                }
            };
            if lacking > spare {
                return Err(short);
            }
            answers.overdraw(account, amount);
            self.shortage.notify_one();
        }
        if what == What::Given {
            given[account] += amount;
        }
        Ok(())
    }

    /// The account has so much less.
    pub fn give(&self, what: What, account: usize, amount: u64) {
        let stock = match what {
            What::Body => &self.bodies,
            What::Place => &self.places,
            What::Said => &self.answers,
            What::Given => {
                self.given.borrow_mut()[account] -= amount;
                &self.answers
            }
        };
        stock.borrow_mut().give(account, amount);
    }
}

impl Default for Ledger {
    /// With no limits, and one account.
    fn default() -> Self {
        let endless = || RefCell::new(Stock::equal_shares(u64::MAX, &[u64::MAX]));
        Self {
            bodies: endless(),
            answers: endless(),
            given: RefCell::new([0].into()),
            shortage: Notify::new(),
            places: endless(),
        }
    }
}

/// Of whose answers there is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surplus {
    /// Of this account's.
    Of(usize),
    /// Of all that have more than is kept for them.
    Any,
}

/// What is held for one request. Dropped, it is held no longer.
#[derive(Debug)]
pub struct Held {
    ledger: Rc<Ledger>,
    what: What,
    account: usize,
    amount: u64,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub fn nothing(ledger: &Rc<Ledger>, what: What, account: usize) -> Self {
        Self { ledger: Rc::clone(ledger), what, account, amount: 0 }
    }

    /// Holds that much in all from now on.
    ///
    /// # Errors
    /// If there is not that much; then it holds what it held.
    pub fn hold(&mut self, amount: u64) -> Result<(), Short> {
        match amount.checked_sub(self.amount) {
            Some(more) => self.ledger.take(self.what, self.account, more)?,
            None => self.ledger.give(self.what, self.account, self.amount - amount),
        }
        self.amount = amount;
        Ok(())
    }

    /// How much it holds.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.give(self.what, self.account, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger with so much for answers, and two accounts.
    fn ledger(answers: u64, mosts: [u64; 2]) -> Rc<Ledger> {
        let answers = Stock::equal_shares(answers, &mosts);
        Rc::new(Ledger {
            answers: answers.into(),
            given: RefCell::new([0, 0].into()),
            ..Ledger::default()
        })
    }

    #[test]
    fn an_answer_is_let_in_where_readers_can_be_turned_out_for_it() {
        let ledger = ledger(100, [u64::MAX, 60]);
        let (mut reader, mut said) =
            (Held::nothing(&ledger, What::Given, 0), Held::nothing(&ledger, What::Said, 0));
        assert!(reader.hold(50).is_ok() && said.hold(25).is_ok() && ledger.surplus().is_none());
        // 25 are kept for the other. There is a reader to be turned out for 50 more, not for 51.
        assert_eq!(said.hold(76), Err(Short::Stock(100)));
        assert_eq!(said.hold(75), Ok(()));
        let surplus = ledger.surplus().expect("too much");
        assert!(ledger.is_in(surplus, 0) && !ledger.is_in(surplus, 1));
        assert_eq!(ledger.take(What::Given, 1, 25), Ok(()), "it has what is kept for it");
        assert!(!ledger.is_in(ledger.surplus().expect("too much"), 1));
        drop(reader);
        assert_eq!(ledger.surplus(), None);
        assert_eq!(said.hold(76), Err(Short::Stock(100)));
        drop(said);
        // Beyond its own limit, only its own readers are.
        assert_eq!(ledger.take(What::Given, 0, 1), Ok(()));
        assert_eq!(ledger.take(What::Given, 1, 36), Ok(()));
        assert_eq!(ledger.surplus(), Some(Surplus::Of(1)));
        ledger.give(What::Given, 1, 25);
        assert_eq!(ledger.surplus(), None);
        assert_eq!(ledger.take(What::Said, 1, 61), Err(Short::Account(60)));
    }
}
