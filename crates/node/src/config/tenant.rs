//! `[[tenant]]`: whose functions they are, and what of each core is theirs.

use std::time::Duration;

use awsm_sched::Budget;

use super::error::ConfigError;
use super::reader::{Document, Item, Table};
use super::units::{LogRate, is_name, shown_duration};
use crate::limits;

/// Keys of `[[tenant]]`.
pub const TENANT_KEYS: &[&str] = &[
    "name",
    "budget",
    "period",
    "hard",
    "queue",
    "concurrency",
    "memory",
    "mappings",
    "descriptors",
    "connections",
    "body_memory",
    "answer_memory",
    "log_rate",
    "log_lines",
];

/// Somebody whose functions are served. Everything holds for each core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Time on the core; `None` for as much as there is.
    pub budget: Option<Budget>,
    /// [`limits::TENANT_QUEUE`].
    pub queue: usize,
    /// [`limits::TENANT_CONCURRENCY`].
    pub concurrency: usize,
    /// [`limits::TENANT_LOG_RATE`], [`limits::TENANT_LOG_LINES`].
    pub log: LogRate,
    /// [`limits::TENANT_SANDBOX_MEMORY`].
    pub memory_bytes: u64,
    /// [`limits::TENANT_MAPPINGS`].
    pub mappings: u64,
    /// [`limits::TENANT_DESCRIPTORS`].
    pub descriptors: u64,
    /// [`limits::TENANT_CONNECTIONS`].
    pub connections: usize,
    /// [`limits::TENANT_MEMORY`], of requests' bodies.
    pub body_memory_bytes: u64,
    /// [`limits::TENANT_MEMORY`], of answers.
    pub answer_memory_bytes: u64,
}

/// All tenants, with different names.
pub(super) fn read_all(
    document: &Document<'_>,
    item: Option<Item<'_>>,
) -> Result<Vec<TenantConfig>, ConfigError> {
    let items = item.map_or_else(|| Ok(Vec::new()), Item::tables)?;
    if items.len() > limits::TENANTS {
        let (found, most) = (items.len(), limits::TENANTS);
        return Err(document.error(None, format!("{found} tenants; at most {most} fit")));
    }
    let mut tenants: Vec<TenantConfig> = Vec::with_capacity(items.len());
    for item in items {
        let table = item.table("[[tenant]]", TENANT_KEYS)?;
        let line = table.line();
        let tenant = TenantConfig::read(table)?;
        if tenants.iter().any(|other| other.name == tenant.name) {
            let message = format!("a tenant named `{}` is there already", tenant.name);
            return Err(document.error(Some(line), message));
        }
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// Which of the tenants is meant.
pub(super) fn find(item: &Item<'_>, tenants: &[TenantConfig]) -> Result<usize, ConfigError> {
    let name = item.string()?;
    tenants.iter().position(|tenant| tenant.name == name).ok_or_else(|| {
        let known: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        let name = name.escape_debug();
        item.error(match known.as_slice() {
            [] => format!("no tenant `{name}`; add a [[tenant]] table with that name"),
            known => format!("no tenant `{name}`; there are {}", known.join(", ")),
        })
    })
}

impl TenantConfig {
    fn read(mut table: Table<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            name: table.required("name")?.parse_str(
                |text| is_name(text).then(|| text.to_owned()),
                "a name has 1 to 64 letters, digits, `-`, `_` or `.`",
            )?,
            budget: budget(&mut table)?,
            queue: table.count("queue", limits::TENANT_QUEUE)?,
            concurrency: table.count("concurrency", limits::TENANT_CONCURRENCY)?,
            log: table.log_rate(limits::TENANT_LOG_RATE, limits::TENANT_LOG_LINES)?,
            memory_bytes: table.bytes("memory", limits::TENANT_SANDBOX_MEMORY)?,
            mappings: table.count("mappings", limits::TENANT_MAPPINGS)? as u64,
            descriptors: table.count("descriptors", limits::TENANT_DESCRIPTORS)? as u64,
            connections: table.count("connections", limits::TENANT_CONNECTIONS)?,
            body_memory_bytes: table.bytes("body_memory", limits::TENANT_MEMORY)?,
            answer_memory_bytes: table.bytes("answer_memory", limits::TENANT_MEMORY)?,
        })
    }
}

fn budget(table: &mut Table<'_>) -> Result<Option<Budget>, ConfigError> {
    let amount = table.optional_duration("budget", limits::BUDGET)?;
    let period = table.optional_duration("period", limits::PERIOD)?;
    let hard = table.take("hard").map(|item| item.truth()).transpose()?;
    let Some(amount) = amount else {
        return match (period, hard) {
            (None, None) => Ok(None),
            _ => Err(table.error("`period` and `hard` say nothing without a `budget`".into())),
        };
    };
    let period: Duration = period.unwrap_or(limits::PERIOD.default);
    if amount > period {
        let [amount, period] = [amount, period].map(shown_duration);
        return Err(
            table.error(format!("a budget of {amount} does not fit into a period of {period}"))
        );
    }
    let (amount, period) = (amount.into(), period.into());
    Ok(Some(Budget { amount, period, hard: hard.unwrap_or(false) }))
}
