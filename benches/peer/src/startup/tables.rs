//! The tables of `startup`: what people read.

use super::rows::Row;
use crate::report::{Table, figure};

pub(super) fn of(rows: &[Row]) -> [Table; 3] {
    [startup(rows), cycle(rows), cold_and_memory(rows)]
}

fn startup(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Start-up in microseconds, warm path: from nothing to the first guest instruction",
        &[
            "function",
            "awsm avg",
            "awsm p50",
            "awsm p95",
            "awsm p99",
            "wasmtime avg",
            "wasmtime p50",
            "wasmtime p95",
            "ratio p95",
            "unpooled p50",
            "unpooled p95",
            "on-demand p50",
            "on-demand p95",
            "paper avg",
            "paper p95",
        ],
    );
    for row in rows {
        let (ours, peer, paper) = (&row.pooled.startup_us, &row.wasmtime.startup_us, &row.paper);
        let (unpooled, on_demand) = (&row.unpooled.startup_us, &row.wasmtime.on_demand.startup_us);
        let figures: [&[f64]; 3] = [
            &[ours.avg, ours.p50, ours.p95, ours.p99],
            &[peer.avg, peer.p50, peer.p95, row.ratio_p95],
            &[unpooled.p50, unpooled.p95, on_demand.p50, on_demand.p95],
        ];
        let mut cells = vec![row.guest.to_owned()];
        cells.extend(figures.concat().into_iter().map(figure));
        cells.extend([paper.startup_avg_us, paper.startup_p95_us].map(|us| us.to_string()));
        table.line(cells);
    }
    table.note("wasmtime: the best of its pooled configurations by p95. unpooled: ours without anything kept ready;");
    table.note("on-demand: wasmtime without its pool. paper: Intel i5-5200U, one core, 2019.");
    table
}

fn cycle(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Full cycle in microseconds: start, run on a small input, make ready for the next",
        &[
            "function",
            "awsm typical",
            "awsm p50",
            "awsm p95",
            "awsm run",
            "awsm recycle",
            "wasmtime typical",
            "wasmtime p50",
            "wasmtime p95",
            "wasmtime run",
            "wasmtime recycle",
            "ratio typical",
            "its best",
        ],
    );
    for row in rows {
        let (ours, peer) = (&row.pooled, &row.wasmtime);
        let figures: [&[f64]; 4] = [
            &[ours.cycle_typical_us, ours.cycle_us.p50, ours.cycle_us.p95],
            &[ours.run_us.p50, ours.recycle_us.p50],
            &[peer.cycle_typical_us, peer.cycle_us.p50, peer.cycle_us.p95],
            &[peer.run_us.p50, peer.recycle_us.p50, row.cycle_ratio],
        ];
        let mut cells = vec![row.guest.to_owned()];
        cells.extend(figures.concat().into_iter().map(figure));
        cells.push(peer.best_cycle.trim_start_matches("pooled_").to_owned());
        table.line(cells);
    }
    table.note("typical: median of the averages over blocks of laps, so that what is put off to every n-th lap counts.");
    table.note("run, recycle: medians. wasmtime: its best pooled configuration by typical cycle, named without `pooled_`.");
    table
}

fn cold_and_memory(rows: &[Row]) -> Table {
    let mut table = Table::new(
        "Cold start in microseconds, object file to first instruction; memory of a live sandbox in KiB",
        &[
            "function",
            "cold p50",
            "cold p95",
            "wasmtime p50",
            "wasmtime p95",
            "ratio p50",
            "paper us",
            "KiB finished",
            "KiB started",
            "wasmtime finished",
            "wasmtime started",
            "ratio finished",
            "paper KB",
        ],
    );
    for row in rows {
        let (ours, peer) = (&row.cold_us, &row.wasmtime.cold_us);
        let mut cells = vec![row.guest.to_owned()];
        cells.extend([ours.p50, ours.p95, peer.p50, peer.p95, row.cold_ratio_p50].map(figure));
        cells.push(row.paper.cold_us.to_string());
        let (ours, peer) = (&row.memory, &row.wasmtime.memory);
        let counts = [ours.finished, ours.started, peer.finished, peer.started];
        cells.extend(counts.map(|count| figure(count.total_kib())));
        cells.push(figure(row.memory_ratio));
        cells.push(row.paper.memory_kb.to_string());
        table.line(cells);
    }
    table.note("KiB: proportional set size plus page tables that one more live sandbox adds, after its last instruction");
    table.note("(finished) and at its first (started). Ours includes the sandbox's own stack; wasmtime's runs on its caller's.");
    table
}
