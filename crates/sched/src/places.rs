//! Places of what has started and not finished: a part kept for each tenant, and in it for each function.
//!
//! What sleeps holds its place, so without parts one function's sleepers would keep everybody else from starting. So many
//! places are kept for the tenants that have functions, in equal parts, and each part in equal parts for the tenant's
//! functions. The rest is first come.

/// Who has how many.
#[derive(Debug, Default)]
pub(crate) struct Places {
    total: usize,
    /// By tenant, as [`Part`] has it for a tenant.
    tenants: Vec<Part>,
    /// By function.
    functions: Vec<Part>,
    tenant_of: Vec<usize>,
    /// Taken or kept, of all tenants.
    committed: usize,
}

/// Of a function: places that are kept for it, and that it has. Of a tenant: those that are kept for it, and what its
/// functions have or are kept for them.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    kept: usize,
    taken: usize,
}

impl Part {
    fn committed(self) -> usize {
        self.kept.max(self.taken)
    }
}

impl Places {
    /// So many in all, of which so many are kept for the functions' tenants, who are given by function.
    pub(crate) fn new(total: usize, kept: usize, tenants: usize, tenant_of: Vec<usize>) -> Self {
        let mut counts = vec![0_usize; tenants];
        tenant_of.iter().for_each(|tenant| counts[*tenant] += 1);
        let shares = counts.iter().filter(|count| **count > 0).count().max(1);
        let part = kept.min(total) / shares;
        let functions: Vec<Part> = tenant_of
            .iter()
            .map(|tenant| Part { kept: part / counts[*tenant], taken: 0 })
            .collect();
        let tenants: Vec<Part> = counts
            .iter()
            .map(|count| match count {
                0 => Part::default(),
                count => Part { kept: part, taken: part / count * count },
            })
            .collect();
        let committed = tenants.iter().map(|tenant| tenant.committed()).sum();
        Self { total, tenants, functions, tenant_of, committed }
    }

    /// Is a place kept for the function, or free?
    pub(crate) fn has(&self, function: usize) -> bool {
        // Before anything is said of parts there are none.
        let Some(own) = self.functions.get(function) else { return true };
        let tenant = self.tenants[self.tenant_of[function]];
        own.taken < own.kept || tenant.taken < tenant.kept || self.committed < self.total
    }

    pub(crate) fn take(&mut self, function: usize) {
        self.change(function, |taken| taken + 1);
    }

    pub(crate) fn give(&mut self, function: usize) {
        self.change(function, |taken| taken - 1);
    }

    fn change(&mut self, function: usize, change: impl Fn(usize) -> usize) {
        let Some(own) = self.functions.get_mut(function) else { return };
        let tenant = &mut self.tenants[self.tenant_of[function]];
        let (before, before_all) = (own.committed(), tenant.committed());
        own.taken = change(own.taken);
        tenant.taken = tenant.taken + own.committed() - before;
        self.committed = self.committed + tenant.committed() - before_all;
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
        assert_eq!(takes_all(&mut Places::new(7, 3, 1, vec![0]), 0), 7);
        // Tenants without functions have no part.
        assert_eq!(takes_all(&mut Places::new(7, 3, 9, vec![4]), 0), 7);
    }

    #[test]
    fn what_is_kept_stays() {
        // Of 100, 20 are kept for each of three tenants; the last has two functions.
        for first in 0..4 {
            let mut places = Places::new(100, 60, 3, vec![0, 1, 2, 2]);
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
