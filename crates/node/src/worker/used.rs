//! Sandboxes that have answered: what is still to be done for them is done in pieces, between which
//! sockets are served, and on the account of their functions.

use std::collections::VecDeque;

use awsm_host::WasiCtx;
use awsm_observe::FunctionIdx;
use awsm_sandbox::{Recycler, Sandbox, Unclean};
use awsm_sched::{FunctionId, Nanos, Scheduler};

use super::clock::Clock;
use crate::limits;

/// Those of one worker, the first to be cleaned first.
#[derive(Default)]
pub(super) struct Used(VecDeque<One>);

struct One {
    function: FunctionIdx,
    /// What it has taken so far.
    spent: Nanos,
    stage: Stage,
}

enum Stage {
    /// As its guest has left it.
    Left(Sandbox<WasiCtx>),
    /// Its memory is being cleaned.
    Unclean(Unclean<WasiCtx>),
}

/// Cleans some of them, while no guest runs.
pub(super) struct Cleaner<'a> {
    pub(super) used: &'a mut Used,
    pub(super) recycler: Recycler<'a, WasiCtx>,
    pub(super) clock: &'a Clock,
    pub(super) sched: &'a mut Scheduler,
    /// The scheduler's names of functions.
    pub(super) ids: &'a [FunctionId],
}

impl Used {
    pub(super) fn push(&mut self, function: FunctionIdx, sandbox: Sandbox<WasiCtx>) {
        self.0.push_back(One { function, spent: Nanos::ZERO, stage: Stage::Left(sandbox) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next to be cleaned is one of that function; false if there is none.
    pub(super) fn put_first(&mut self, function: FunctionIdx) -> bool {
        let place = self.0.iter().position(|one| one.function == function);
        if let Some(one) = place.and_then(|place| self.0.remove(place)) {
            self.0.push_front(one);
        }
        place.is_some()
    }
}

impl Cleaner<'_> {
    /// Does a tenth of a millisecond's work or less for the first, whose function pays for the time
    /// since then. When that was done; `None` if there is nothing to do.
    pub(super) fn piece(&mut self, since: Nanos) -> Option<Nanos> {
        let (function, now) = self.unpaid_piece(since)?;
        self.sched.cleaned(self.ids[function.get()], now - since);
        Some(now)
    }

    /// The same within an invocation's own time, which pays for it. Of which function, and when
    /// that was done.
    pub(super) fn unpaid_piece(&mut self, since: Nanos) -> Option<(FunctionIdx, Nanos)> {
        let One { function, spent, stage } = self.used.0.pop_front()?;
        let recycler = &mut self.recycler;
        let unclean = match stage {
            Stage::Left(mut sandbox) => match sandbox.data_mut().close_some(limits::CLOSED_AT_ONCE)
            {
                true => Err(Stage::Left(sandbox)),
                false => Ok(recycler.take_back(sandbox)),
            },
            Stage::Unclean(unclean) => Ok(unclean),
        };
        let pages =
            unclean.and_then(|unclean| recycler.clean_some(unclean).map_err(Stage::Unclean));
        let now = self.clock.now();
        let spent = spent + (now - since);
        match pages {
            Ok(pages) => self.sched.gone(now, self.ids[function.get()], pages, spent),
            Err(stage) => self.used.0.push_front(One { function, spent, stage }),
        }
        Some((function, now))
    }
}
