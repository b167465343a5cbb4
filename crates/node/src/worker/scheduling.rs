//! From a configuration to what the scheduler of one core needs to know.

use awsm_sched::{
    Config as SchedConfig, FunctionConfig, FunctionId, Limits, Nanos, Scheduler, TenantConfig,
    TenantId,
};

use crate::config::{Config, NodeConfig};
use crate::functions::Function;
use crate::functions::profiles::Profiles;

/// A core's scheduler that knows the tenants and functions, and its names of these, in their order.
pub fn scheduler(
    config: &Config,
    functions: &[Function],
    profiles: &Profiles,
) -> (Scheduler, Vec<FunctionId>) {
    let mut sched = Scheduler::new(settings(&config.node));
    let tenants = add_tenants(&mut sched, config);
    let ids = config.functions.iter().zip(functions).map(|(config, function)| {
        sched.add_function(FunctionConfig {
            tenant: config.tenant.map_or(TenantId(0), |tenant| tenants[tenant]),
            concurrency: function.concurrency,
            percentile_ppm: config.slo.percentile_ppm,
            profile: profiles.get(&function.name, &function.identity).cloned(),
        })
    });
    let ids = ids.collect();
    sched.keep_places(config.node.sandboxes / 2);
    (sched, ids)
}

/// How a core of this node is scheduled.
#[must_use]
pub fn settings(node: &NodeConfig) -> SchedConfig {
    SchedConfig {
        policy: node.policy,
        admission: node.admission,
        quantum: Nanos::from(node.quantum),
        reserve_ppm: node.reserve_ppm,
        limits: Limits { queued: node.queue, live: node.sandboxes, unprofiled: node.unprofiled },
    }
}

/// The scheduler's names of the tenants, in their order.
pub fn add_tenants(sched: &mut Scheduler, config: &Config) -> Vec<TenantId> {
    let tenants = config.tenants.iter().map(|tenant| {
        sched.add_tenant(TenantConfig {
            queued: tenant.queue,
            live: if tenant.concurrency == 0 { usize::MAX } else { tenant.concurrency },
            budget: tenant.budget,
        })
    });
    tenants.collect()
}
