//! `slo` of a function: what is promised to its callers, and what `awsm plan` may expect of them.

use std::time::Duration;

use awsm_sched::Class;

use super::error::ConfigError;
use super::reader::Item;
use super::units::{parse_rate, shown_duration};
use crate::limits;

/// Keys of `slo`.
pub const SLO_KEYS: &[&str] = &["deadline", "percentile", "class", "rate"];

/// What is promised to a function's callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SloConfig {
    /// From the arrival of the whole request to its answer; at most the function's timeout.
    pub deadline: Duration,
    /// The share of runs, in millionths, that the estimate of the run time covers.
    pub percentile_ppm: u32,
    /// Whether the deadline counts.
    pub class: Class,
    /// How often the function is expected to be called, in thousandths per second.
    pub rate_per_ks: Option<u64>,
}

impl SloConfig {
    /// From a table, or what holds without one: the answer is due within the timeout.
    pub(super) fn read(item: Option<Item<'_>>, timeout: Duration) -> Result<Self, ConfigError> {
        let (ppm, class) = (limits::PERCENTILE_PPM.default as u32, Class::default());
        let Some(item) = item else {
            return Ok(Self { deadline: timeout, percentile_ppm: ppm, class, rate_per_ks: None });
        };
        let mut table = item.table("slo", SLO_KEYS)?;
        let deadline = table.optional_duration("deadline", limits::DEADLINE)?.unwrap_or(timeout);
        if deadline > timeout {
            return Err(table.error(format!(
                "`deadline` is {} but `timeout` ends the function after {}; raise `timeout`",
                shown_duration(deadline),
                shown_duration(timeout)
            )));
        }
        Ok(Self {
            deadline,
            percentile_ppm: table.percent("percentile", limits::PERCENTILE_PPM)?,
            class: match table.take("class") {
                Some(item) => item.one_of(&Class::ALL.map(|class| (class.name(), class)))?,
                None => class,
            },
            rate_per_ks: table.take("rate").map(|item| rate(&item)).transpose()?,
        })
    }
}

fn rate(item: &Item<'_>) -> Result<u64, ConfigError> {
    let rule = "a rate is a number and its unit: \"200/s\", \"30/m\"";
    item.quantity(parse_rate, rule)?;
    let bounds = format!("a rate is more than 0/s and at most {}/s", limits::RATE_MAX);
    let most = limits::RATE_MAX.saturating_mul(1000);
    item.parse_str(|text| parse_rate(text).filter(|rate| (1..=most).contains(rate)), &bounds)
}
