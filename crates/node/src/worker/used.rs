//! Sandboxes that have answered: what is still to be done for them is done in pieces, between which sockets
//! are served, and on the account of their functions.

use std::collections::VecDeque;

use awsm_host::WasiCtx;
use awsm_sandbox::{Recycler, Sandbox, Unclean};
use awsm_sched::Nanos;

use super::clock::Clock;
use crate::index::FunctionIdx;
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

/// A piece of cleaning that is done.
pub(super) struct Piece {
    /// For whom it was.
    pub(super) function: FunctionIdx,
    /// When it was done, and how long it took.
    pub(super) now: Nanos,
    pub(super) took: Nanos,
    /// The sandbox is clean: its pages that had contents, and what all of its cleaning took.
    pub(super) clean: Option<(u64, Nanos)>,
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

    /// Does a tenth of a millisecond's work or less for the first, since then; `None` if there is nothing to
    /// do.
    pub(super) fn piece(
        &mut self,
        recycler: &mut Recycler<'_, WasiCtx>,
        clock: &Clock,
        since: Nanos,
    ) -> Option<Piece> {
        let One { function, spent, stage } = self.0.pop_front()?;
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
        let now = clock.now();
        let took = now - since;
        let spent = spent + took;
        let clean = match pages {
            Ok(pages) => Some((pages, spent)),
            Err(stage) => {
                self.0.push_front(One { function, spent, stage });
                None
            }
        };
        Some(Piece { function, now, took, clean })
    }
}
