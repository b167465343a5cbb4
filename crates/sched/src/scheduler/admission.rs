//! Who is let in: at once, from what is known, or not at all.
//!
//! - `none`: whoever fits into the queue.
//! - `density`: while the sum of estimate over relative deadline, of all that is present, stays
//!   below the core. Cheap and coarse; the test that the literature publishes for this setting.
//! - `demand`: while every deadline still has room for the work due by it (`demand.rs`). Exact for
//!   earliest deadline first, as far as the estimates are.
//!
//! What is tested is not the estimate alone: the core also spends time between two runs (sockets,
//! parsing, refusing), and that share is measured here and counted in. A function whose estimate
//! exceeds its own deadline would be refused for ever and never be measured again, so one of its
//! invocations at a time is let in without a promise. It is measured (`measure.rs`), as are those
//! of which nothing is known.

use super::Scheduler;
use crate::contract::{Admission, Arrival, Class, FunctionId, Reason, Refusal};
use crate::invocation::Level;
use crate::time::Nanos;

/// On which terms an arrival is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) level: Level,
    pub(crate) estimate: Nanos,
    pub(crate) unprofiled: bool,
    pub(crate) to_measure: bool,
    pub(crate) demand_scale: Option<u32>,
    pub(crate) density: u64,
}

/// Densities are in units of 2^-32 of a core.
const CORE: u64 = 1 << 32;
/// No single invocation counts for more than so many cores, so that sums do not overflow.
const DENSITY_MAX: u64 = CORE << 10;
/// Scales are in 1024ths.
pub(crate) const SCALE_ONE: u64 = 1024;
/// At most so much of the core's time between two runs is believed, as a multiple of the runs.
const SCALE_MAX: u64 = 64 * SCALE_ONE;
/// The core's own share is measured over about this time.
const OVERHEAD_WINDOW: Nanos = Nanos::from_millis(250);

/// How much of the core goes to what is in no estimate while invocations wait to which something was
/// promised. What is done while only others wait takes nothing from a promise.
#[derive(Debug, Default)]
pub(crate) struct Overhead {
    /// When the last run stopped, if the core has had work since.
    stopped: Option<Nanos>,
    /// Work that is in estimates: promised runs, and the cleaning after them.
    busy: Nanos,
    /// What promised runs waited for, and is in no estimate.
    between: Nanos,
    /// Since the last run stopped, work that estimates have in them.
    estimated: Nanos,
}

impl Overhead {
    pub(crate) fn stopped(&mut self, now: Nanos, ran: Nanos, promised: bool) {
        if promised {
            self.busy = self.busy + ran;
        }
        (self.stopped, self.estimated) = (Some(now), Nanos::ZERO);
    }

    /// The core is given to one that has waited since then, or longer than the last run. If it was
    /// promised nothing, nobody has waited to whom something was.
    pub(crate) fn runs(&mut self, now: Nanos, waited_since: Nanos, promised: bool) {
        let Some(stopped) = self.stopped.take().filter(|_| promised) else { return };
        let between = (now - stopped.max(waited_since)) - self.estimated;
        self.between = self.between + between;
        if self.busy + self.between > OVERHEAD_WINDOW {
            (self.busy, self.between) = (Nanos(self.busy.0 / 2), Nanos(self.between.0 / 2));
        }
    }

    pub(crate) fn idles(&mut self) {
        self.stopped = None;
    }

    /// A promised run has waited while the system gave the core to others.
    pub(crate) fn lost(&mut self, time: Nanos) {
        self.between = self.between + time;
    }

    /// The core has cleaned up after a promised run.
    pub(crate) fn cleaned(&mut self, time: Nanos) {
        self.estimated = self.estimated + time;
        self.busy = self.busy + time;
    }

    /// What an estimate is to be multiplied by, in 1024ths, with the reserve counted in.
    pub(crate) fn scale(&self, reserve_ppm: u32) -> u32 {
        let all = u128::from(self.busy.0) + u128::from(self.between.0);
        let busy = u128::from(self.busy.0);
        // Too short a time says nothing.
        let own = if all < 1_000_000 { 1024 } else { (all << 10) / busy.max(1) };
        let kept = u128::from(1_000_000 - reserve_ppm.min(999_999));
        let scale = own * 1_000_000 / kept;
        u32::try_from(scale.min(u128::from(SCALE_MAX))).expect("it is bounded")
    }
}

/// An estimate with everything that goes with it.
pub(crate) fn scaled(time: Nanos, scale: u32) -> Nanos {
    Nanos(u64::try_from((u128::from(time.0) * u128::from(scale)) >> 10).unwrap_or(u64::MAX))
}

impl Scheduler {
    /// On which terms an arrival is taken, or why it is not.
    pub(crate) fn admit(&mut self, now: Nanos, arrival: &Arrival) -> Result<Terms, Refusal> {
        let backlog = self.backlog();
        if self.queued() >= self.config.limits.queued {
            return refuse(Reason::QueueFull, backlog);
        }
        let tenant = self.tenant_of(arrival.function);
        if self.tenants[tenant].queued >= self.tenants[tenant].config.queued {
            return refuse(Reason::TenantQueueFull, backlog);
        }
        if self.has_had_its_places(arrival.function) {
            return refuse(Reason::Places, backlog);
        }
        let known = arrival.estimate.or_else(|| self.estimate(arrival));
        let mean = || self.mean_run(arrival.function);
        let terms = Terms {
            level: Level::Promised,
            estimate: known.unwrap_or_else(mean),
            unprofiled: false,
            to_measure: false,
            demand_scale: None,
            density: 0,
        };
        if arrival.class == Class::BestEffort {
            return Ok(Terms { level: Level::Spare, ..terms });
        }
        match (self.config.admission, known) {
            (Admission::None, None) => Ok(terms),
            // Nobody is refused; but who is late must know what there is to do.
            (Admission::None, Some(_)) => {
                let scale = self.overhead.scale(self.config.reserve_ppm);
                Ok(Terms { demand_scale: Some(scale), ..terms })
            }
            (_, None) if self.unprofiled >= self.config.limits.unprofiled => {
                refuse(Reason::Unprofiled, backlog)
            }
            (_, None) => {
                let unprofiled = true;
                Ok(Terms { level: Level::Spare, unprofiled, to_measure: true, ..terms })
            }
            (_, Some(estimate)) => self.promise(now, arrival, Terms { estimate, ..terms }),
        }
    }

    /// The tests of an arrival whose run time is known.
    pub(crate) fn promise(
        &mut self,
        now: Nanos,
        arrival: &Arrival,
        terms: Terms,
    ) -> Result<Terms, Refusal> {
        let scale = self.overhead.scale(self.config.reserve_ppm);
        let work = scaled(terms.estimate, scale);
        if work > arrival.deadline {
            return match self.functions[arrival.function.0 as usize].present {
                0 => Ok(Terms { level: Level::Spare, to_measure: true, ..terms }),
                _ => refuse(Reason::Deadline, self.backlog()),
            };
        }
        let tenant = self.tenant_of(arrival.function);
        let due = now + arrival.deadline;
        let owner = &self.tenants[tenant];
        if !owner.has_speed(now, due, terms.estimate) {
            // Then on what is left, if something will be.
            let room = self.demand.total() + self.over + work <= arrival.deadline;
            let may = !owner.is_hard() || owner.has_budget(due, terms.estimate);
            if !room || !may {
                return refuse(Reason::TenantBudget, owner.wait_for(now, terms.estimate));
            }
            return Ok(Terms { level: Level::Over, ..terms });
        }
        match self.config.admission {
            Admission::Density => {
                let density = density(work, arrival.deadline);
                if self.density.saturating_add(density) > CORE {
                    return refuse(Reason::Deadline, self.backlog());
                }
                Ok(Terms { density, demand_scale: Some(scale), ..terms })
            }
            Admission::Demand | Admission::None => {
                let excess = self.demand.excess(now, due, work);
                if excess > Nanos::ZERO {
                    return refuse(Reason::Deadline, excess);
                }
                Ok(Terms { demand_scale: Some(scale), ..terms })
            }
        }
    }

    fn estimate(&mut self, arrival: &Arrival) -> Option<Nanos> {
        let function = &mut self.functions[arrival.function.0 as usize];
        let share = function.config.percentile_ppm;
        function.profile.as_mut()?.estimate(arrival.request_bytes, share)
    }

    fn mean_run(&self, function: FunctionId) -> Nanos {
        let profile = self.functions[function.0 as usize].profile.as_deref();
        profile.map_or(Nanos::ZERO, crate::profile::Profile::mean_run)
    }
}

fn refuse<T>(reason: Reason, retry_after: Nanos) -> Result<T, Refusal> {
    Err(Refusal { reason, retry_after })
}

fn density(work: Nanos, deadline: Nanos) -> u64 {
    let density = (u128::from(work.0) << 32) / u128::from(deadline.0.max(1));
    u64::try_from(density).unwrap_or(u64::MAX).min(DENSITY_MAX)
}
