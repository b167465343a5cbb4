//! What is reported of each function.

use serde::Serialize;
use serde_json::{Map, Value};

use super::footprint::Memory;
use super::laps::Figures;
use crate::guests::Paper;
use crate::stats::Summary;

/// All about one function.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) guest: &'static str,
    pub(super) input_bytes: usize,
    /// The warm path.
    #[serde(flatten)]
    pub(super) pooled: Figures,
    pub(super) unpooled: Figures,
    pub(super) cold_us: Summary,
    pub(super) object_bytes: u64,
    pub(super) memory: Memory,
    pub(super) wasmtime: PeerRow,
    /// Start-up, ours to the best of Wasmtime's pooled configurations.
    pub(super) ratio_p50: f64,
    pub(super) ratio_p95: f64,
    /// Of typical cycles.
    pub(super) cycle_ratio: f64,
    pub(super) unpooled_ratio_p95: f64,
    pub(super) cold_ratio_p50: f64,
    pub(super) cold_ratio_p95: f64,
    pub(super) memory_ratio: f64,
    pub(super) paper: Paper,
}

#[derive(Debug, Serialize)]
pub(super) struct PeerRow {
    /// Of the pooled configurations, the one with the lowest p95 of start-up.
    pub(super) best_startup: &'static str,
    pub(super) startup_us: Summary,
    /// The one with the lowest typical cycle.
    pub(super) best_cycle: &'static str,
    pub(super) cycle_us: Summary,
    pub(super) cycle_typical_us: f64,
    pub(super) run_us: Summary,
    pub(super) recycle_us: Summary,
    pub(super) cold_us: Summary,
    pub(super) object_bytes: u64,
    pub(super) memory: Memory,
    pub(super) on_demand: Figures,
    pub(super) pooled_variants: Map<String, Value>,
}
