//! Places of what has started and not finished: a part kept for each tenant, and in it for each
//! function.
//!
//! What sleeps holds its place, so without parts one function's sleepers would keep everybody else
//! from starting. So many places are kept for the tenants that have functions, in equal parts, and
//! each part in equal parts for the tenant's functions. The rest is first come.

use awsm_ledger::{Stock, Terms};

/// Who has how many.
#[derive(Debug)]
pub(crate) struct Places {
    /// All places; a tenant holds what its functions have or is kept for them.
    all: Stock,
    /// What each tenant's functions have of its part.
    parts: Vec<Stock>,
    /// By function: its tenant, and its number among the tenant's functions.
    accounts: Vec<(usize, usize)>,
}

impl Places {
    /// So many in all, of which so many are kept for the functions' tenants, who are given by
    /// function.
    pub(crate) fn new(total: usize, kept: usize, tenants: usize, tenant_of: &[usize]) -> Self {
        let mut counts = vec![0_usize; tenants];
        let mut number = |tenant: usize| {
            counts[tenant] += 1;
            (tenant, counts[tenant] - 1)
        };
        let accounts = tenant_of.iter().map(|tenant| number(*tenant)).collect();
        let shares = counts.iter().filter(|count| **count > 0).count().max(1);
        let part = kept.min(total) / shares;
        let terms = |kept: usize| Terms { kept: kept as u64, most: u64::MAX };
        let part_of = |count: usize| if count == 0 { 0 } else { part };
        let own: Vec<Terms> = counts.iter().map(|count| terms(part_of(*count))).collect();
        let mut all = Stock::new(total as u64, &own);
        let functions =
            |count: usize| Stock::new(u64::MAX, &vec![terms(part / count.max(1)); count]);
        let parts: Vec<Stock> = counts.iter().map(|count| functions(*count)).collect();
        for (tenant, part) in parts.iter().enumerate() {
            all.overdraw(tenant, part.committed());
        }
        Self { all, parts, accounts }
    }

    /// Is a place kept for the function, or free?
    pub(crate) fn has(&self, function: usize) -> bool {
        // Before anything is said of parts there are none.
        let Some((tenant, number)) = self.accounts.get(function) else { return true };
        self.all.fits(*tenant, self.parts[*tenant].commits(*number, 1)).is_ok()
    }

    pub(crate) fn take(&mut self, function: usize) {
        let Some((tenant, number)) = self.accounts.get(function) else { return };
        let part = &mut self.parts[*tenant];
        self.all.overdraw(*tenant, part.commits(*number, 1));
        part.overdraw(*number, 1);
    }

    pub(crate) fn give(&mut self, function: usize) {
        let Some((tenant, number)) = self.accounts.get(function) else { return };
        let part = &mut self.parts[*tenant];
        part.give(*number, 1);
        self.all.give(*tenant, part.commits(*number, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_all(places: &mut Places, function: usize) -> usize {
        let mut count = 0;
        while places.has(function) {
            places.take(function);
            count += 1;
        }
        count
    }

    #[test]
    fn one_function_may_have_all() {
        assert_eq!(takes_all(&mut Places::new(7, 3, 1, &[0]), 0), 7);
        // Tenants without functions have no part.
        assert_eq!(takes_all(&mut Places::new(7, 3, 9, &[4]), 0), 7);
    }

    #[test]
    fn what_is_kept_stays() {
        // Of 100, 20 are kept for each of three tenants; the last has two functions.
        for first in 0..4 {
            let mut places = Places::new(100, 60, 3, &[0, 1, 2, 2]);
            let most = if first < 2 { 60 } else { 50 };
            assert_eq!(takes_all(&mut places, first), most, "{first}");
            for other in (0..4).filter(|other| *other != first) {
                let kept = if other < 2 { 20 } else { 10 };
                assert_eq!(takes_all(&mut places, other), kept, "{other} after {first}");
            }
            // What one gives back, whoever comes first may have.
            (0..most).for_each(|_| places.give(first));
            let kept = if first < 2 { 20 } else { 10 };
            assert_eq!(takes_all(&mut places, (first + 1) % 4), most - kept);
            assert_eq!(takes_all(&mut places, first), kept);
        }
    }
}
