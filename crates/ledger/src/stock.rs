//! A stock and its accounts, as arithmetic.

use std::fmt;

/// What an account may have of a stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Never given to others.
    pub kept: u64,
    /// Never exceeded.
    pub most: u64,
}

impl Terms {
    /// Half of the total is kept, in equal parts; no account has more kept than it may have.
    #[must_use]
    pub fn equal_shares(total: u64, mosts: &[u64]) -> Vec<Self> {
        let part = total / 2 / (mosts.len().max(1) as u64);
        mosts.iter().map(|most| Self { kept: part.min(*most), most: *most }).collect()
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The account would have more than its most, which this is.
    Account(u64),
    /// What is left of the stock, which has this much in all, is kept for other accounts.
    Stock(u64),
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(most) => write!(f, "its tenant may have {most}"),
            Self::Stock(total) => {
                write!(f, "there are {total}, and what is left is kept for others")
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Account {
    terms: Terms,
    held: u64,
}

impl Account {
    /// What of the stock nobody else can have.
    fn committed(&self) -> u64 {
        self.held.max(self.terms.kept)
    }
}

/// So much of something, and who holds it.
#[derive(Clone, Debug)]
pub struct Stock {
    total: u64,
    held: u64,
    committed: u64,
    accounts: Box<[Account]>,
}

impl Stock {
    /// Of so much, with these accounts. Where more would be kept than there is, each has less kept
    /// in proportion.
    #[must_use]
    pub fn new(total: u64, terms: &[Terms]) -> Self {
        let kept: u128 = terms.iter().map(|terms| u128::from(terms.kept)).sum();
        let scaled = |part: u64| match kept > u128::from(total) {
            true => (u128::from(part) * u128::from(total) / kept) as u64,
            false => part,
        };
        let account = |terms: &Terms| {
            let kept = scaled(terms.kept.min(terms.most));
            Account { terms: Terms { kept, ..*terms }, held: 0 }
        };
        let accounts: Box<[Account]> = terms.iter().map(account).collect();
        let committed = accounts.iter().map(Account::committed).sum();
        Self { total, held: 0, committed, accounts }
    }

    /// With accounts that have [`Terms::equal_shares`].
    #[must_use]
    pub fn equal_shares(total: u64, mosts: &[u64]) -> Self {
        Self::new(total, &Terms::equal_shares(total, mosts))
    }

    /// The account has so much more.
    ///
    /// # Errors
    /// If there is not that much for it; then nothing has changed.
    pub fn take(&mut self, account: usize, amount: u64) -> Result<(), Short> {
        self.fits(account, amount)?;
        self.overdraw(account, amount);
        Ok(())
    }

    /// Could it have so much more?
    ///
    /// # Errors
    /// If not: why.
    pub fn fits(&self, account: usize, amount: u64) -> Result<(), Short> {
        let own = &self.accounts[account];
        let most = own.terms.most;
        let held = own.held.checked_add(amount).filter(|held| *held <= most);
        held.ok_or(Short::Account(most))?;
        // What is kept is always there, even where others have overdrawn.
        let left = self.total.saturating_sub(self.committed);
        if self.commits(account, amount) <= left { Ok(()) } else { Err(Short::Stock(self.total)) }
    }

    /// What of the stock nobody else can have any more once the account has so much more: what is
    /// not taken of what is kept for it.
    #[must_use]
    pub fn commits(&self, account: usize, amount: u64) -> u64 {
        let own = &self.accounts[account];
        own.held.saturating_add(amount).max(own.terms.kept) - own.committed()
    }

    /// The account has so much more, whether or not there is that much.
    pub fn overdraw(&mut self, account: usize, amount: u64) {
        let own = &mut self.accounts[account];
        let before = own.committed();
        own.held += amount;
        self.committed += own.committed() - before;
        self.held += amount;
    }

    /// The account has so much less.
    ///
    /// # Panics
    /// If it has less than that.
    pub fn give(&mut self, account: usize, amount: u64) {
        let own = &mut self.accounts[account];
        assert!(own.held >= amount, "what is given back was taken");
        let before = own.committed();
        own.held -= amount;
        self.committed -= before - own.committed();
        self.held -= amount;
    }

    /// All there is.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What all accounts hold.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// What accounts hold, or is kept for them.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// What an account holds.
    #[must_use]
    pub fn held_by(&self, account: usize) -> u64 {
        self.accounts[account].held
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Does it hold more than is kept for it?
    #[must_use]
    pub fn is_beyond(&self, account: usize) -> bool {
        self.beyond(account, 0) > 0
    }

    /// By how much more than is kept for it it would hold, if it had so much more.
    #[must_use]
    pub fn beyond(&self, account: usize, more: u64) -> u64 {
        let own = &self.accounts[account];
        own.held.saturating_add(more).saturating_sub(own.terms.kept)
    }

    /// By how much more is held, or kept for who has less, than there is.
    #[must_use]
    pub fn overdrawn(&self) -> u64 {
        self.committed.saturating_sub(self.total)
    }

    /// By how much more the account holds than it may.
    #[must_use]
    pub fn overdrawn_by(&self, account: usize) -> u64 {
        let own = &self.accounts[account];
        own.held.saturating_sub(own.terms.most)
    }

    /// So little is left of the stock, or of what the account may have, that it should not keep
    /// what it can do without: a quarter, and nothing of what is kept for it.
    #[must_use]
    pub fn is_tight(&self, account: usize) -> bool {
        let own = &self.accounts[account];
        let scarce = |held: u64, of: u64| held > of - of / 4;
        scarce(own.held, own.terms.most)
            || self.is_beyond(account) && scarce(self.committed, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
        }
    }

    #[test]
    fn one_account_may_have_all() {
        let mut stock = Stock::equal_shares(100, &[u64::MAX]);
        assert_eq!(stock.take(0, 100), Ok(()));
        assert_eq!(stock.take(0, 1), Err(Short::Stock(100)));
        assert_eq!(stock.take(0, u64::MAX), Err(Short::Account(u64::MAX)));
        stock.give(0, 40);
        assert_eq!(stock.take(0, 40), Ok(()));
    }

    #[test]
    fn what_is_kept_for_others_is_not_given_away() {
        // 25 are kept for each; the second may have 60, of the third's part 10 are enough.
        let mut stock = Stock::equal_shares(150, &[u64::MAX, 60, 10]);
        assert_eq!(stock.take(0, 116), Err(Short::Stock(150)));
        assert_eq!(stock.take(0, 115), Ok(()));
        assert_eq!((stock.take(1, 26), stock.take(1, 25)), (Err(Short::Stock(150)), Ok(())));
        assert_eq!((stock.take(2, 11), stock.take(2, 10)), (Err(Short::Account(10)), Ok(())));
        assert!(stock.is_beyond(0) && !stock.is_beyond(1) && stock.held() == 150);
        stock.give(0, 40);
        assert_eq!((stock.take(1, 36), stock.take(1, 35)), (Err(Short::Account(60)), Ok(())));
    }

    #[test]
    fn no_more_is_kept_than_there_is() {
        let terms = [(60, 100), (60, 100), (u64::MAX, u64::MAX)];
        let terms = terms.map(|(kept, most)| Terms { kept, most });
        let stock = Stock::new(100, &terms);
        assert!(stock.committed <= 100);
        assert_eq!(Stock::new(0, &terms).fits(0, 1), Err(Short::Stock(0)));
        assert_eq!(Terms::equal_shares(10, &[]), []);
    }

    #[test]
    fn an_overdraft_takes_nothing_of_what_is_kept() {
        let mut stock = Stock::equal_shares(100, &[u64::MAX, u64::MAX]);
        stock.overdraw(0, 500);
        assert_eq!((stock.overdrawn(), stock.overdrawn_by(0)), (425, 0));
        assert_eq!((stock.take(1, 25), stock.take(1, 1)), (Ok(()), Err(Short::Stock(100))));
        stock.give(0, 426);
        assert_eq!((stock.overdrawn(), stock.take(1, 1)), (0, Ok(())));
    }

    /// Whatever accounts do: the sums are right, no limit is exceeded, and who has less than is
    /// kept for it gets it.
    #[test]
    fn random_lives_keep_the_promises() {
        for seed in 1..=300 {
            let mut random = Random(seed);
            let total = random.below(1000);
            let count = 1 + random.below(6) as usize;
            let terms: Vec<_> = (0..count)
                .map(|_| Terms { kept: random.below(400), most: random.below(1200) })
                .collect();
            let mut stock = Stock::new(total, &terms);
            let kept: Vec<_> = stock.accounts.iter().map(|own| own.terms.kept).collect();
            let mut held = vec![0; count];
            for _ in 0..400 {
                let account = random.below(count as u64) as usize;
                let amount = random.below(300);
                if random.below(2) == 0 {
                    let amount = amount.min(held[account]);
                    stock.give(account, amount);
                    held[account] -= amount;
                } else {
                    let wanted = held[account] + amount;
                    let others = (0..count).filter(|other| *other != account);
                    let others: u64 = others.map(|other| held[other].max(kept[other])).sum();
                    let fits = wanted <= terms[account].most
                        && (wanted <= kept[account] || others + wanted <= total);
                    assert_eq!(stock.take(account, amount).is_ok(), fits, "seed {seed}");
                    held[account] += if fits { amount } else { 0 };
                }
                assert_eq!(stock.held(), held.iter().sum::<u64>());
                assert!(stock.held() <= total && stock.overdrawn() == 0, "seed {seed}");
                assert!((0..count).all(|one| stock.held_by(one) == held[one]));
            }
        }
    }
}
