//! Wall and processor time of the phases and units of a compilation.

use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use awsm_abi::visible::visible;
use awsm_verify::Report;
use rustix::time::{ClockId, clock_gettime};

use crate::wasm::units::Unit;

/// What one compilation took: the phases in order, and each unit's.
#[derive(Debug, Default)]
pub struct Timings {
    /// Is told while it goes on: bytes of function bodies that are compiled, and of all.
    pub progress: Option<fn(u64, u64)>,
    phases: Phases,
    units: Vec<UnitTimings>,
    /// Symbols of functions that were compiled once more without optimisation, since they were not
    /// shown to stay in their sandbox.
    recompiled: Vec<String>,
    /// What was shown of the result.
    shown: Option<Shown>,
}

/// How much of an object was shown to stay in its sandbox: all of it, or there would be none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Functions.
    pub functions: u64,
    /// Accesses to linear memory.
    pub memory_accesses: u64,
    /// Everything that was held against the contract: accesses, calls, jumps, returns.
    pub checks: u64,
}

/// What phases took, in order: each is the one name of something that happened once.
#[derive(Debug)]
pub(crate) struct Phases {
    clock: ClockId,
    all: Vec<Phase>,
}

#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    wall: Duration,
    /// Processor time.
    cpu: Duration,
}

/// What one unit took.
#[derive(Debug)]
pub(crate) struct UnitTimings {
    functions: usize,
    wasm_bytes: usize,
    level: u8,
    output_bytes: usize,
    phases: Phases,
}

/// What units do, in order; which of them there are does not depend on the unit.
const UNIT_PHASES: [&str; 4] = ["translate", "prepare", "optimise", "emit"];

impl Default for Phases {
    fn default() -> Self {
        Self { clock: ClockId::ProcessCPUTime, all: Vec::new() }
    }
}

impl Phases {
    /// Phases of one thread's work.
    pub(crate) fn of_thread() -> Self {
        Self { clock: ClockId::ThreadCPUTime, all: Vec::new() }
    }

    /// Runs one phase.
    pub(crate) fn run<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        let (began, cpu) = (Instant::now(), self.processor_time());
        let result = run();
        let (wall, cpu) = (began.elapsed(), self.processor_time().saturating_sub(cpu));
        self.all.push(Phase { name, wall, cpu });
        result
    }

    fn processor_time(&self) -> Duration {
        let time = clock_gettime(self.clock);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    fn cpu(&self, name: &str) -> Duration {
        self.all.iter().filter(|phase| phase.name == name).map(|phase| phase.cpu).sum()
    }
}

impl UnitTimings {
    pub(crate) fn new(unit: &Unit, output_bytes: usize, phases: Phases) -> Self {
        Self {
            functions: unit.functions.len(),
            wasm_bytes: unit.bytes,
            level: unit.level as u8,
            output_bytes,
            phases,
        }
    }
}

impl Timings {
    /// Runs one phase.
    pub(crate) fn phase<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        self.phases.run(name, run)
    }

    /// Functions that were compiled once more without optimisation, by their symbols: they could
    /// not be shown to stay in their sandbox otherwise.
    #[must_use]
    pub fn functions_recompiled(&self) -> &[String] {
        &self.recompiled
    }

    /// What was shown of the result, if it was verified.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.shown
    }

    /// Notes what was shown of the result.
    pub(crate) fn verified(&mut self, report: &Report) {
        self.shown = Some(Shown {
            functions: report.functions.len() as u64,
            memory_accesses: report.memory_accesses().1,
            checks: report.counts().values().sum(),
        });
    }

    /// Adds such functions.
    pub(crate) fn recompiled<'a>(&mut self, symbols: impl Iterator<Item = &'a str>) {
        self.recompiled.extend(symbols.map(str::to_owned));
    }

    /// Adds what a unit took.
    pub(crate) fn unit(&mut self, unit: UnitTimings) {
        self.units.push(unit);
    }

    /// One object: `phases` (`name`, `wall_ms`, `cpu_ms`), `units` (one for each, in the order of
    /// their code: processor time of each phase in ms, `functions`, `wasm_bytes`, `output_bytes`,
    /// `level`), `functions_recompiled` (how many), `shown` (`functions`, `memory_accesses`,
    /// `checks`; absent if nothing was verified), `wall_ms`, `cpu_ms` and `peak_bytes`, the most
    /// memory that the process has had.
    #[must_use]
    pub fn to_json(&self) -> String {
        let phase = |phase: &Phase| {
            let (wall, cpu) = (ms(phase.wall), ms(phase.cpu));
            format!(r#"{{"name":"{}","wall_ms":{wall:.3},"cpu_ms":{cpu:.3}}}"#, phase.name)
        };
        let unit = |unit: &UnitTimings| {
            let UnitTimings { functions, wasm_bytes, level, output_bytes, phases } = unit;
            let mut text = format!(
                r#"{{"functions":{functions},"wasm_bytes":{wasm_bytes},"output_bytes":{output_bytes},"level":{level}"#
            );
            for name in UNIT_PHASES {
                // Writing to a string does not fail.
                let _ = write!(text, r#","{name}_ms":{:.3}"#, ms(phases.cpu(name)));
            }
            text + "}"
        };
        let phases: Vec<_> = self.phases.all.iter().map(phase).collect();
        let units: Vec<_> = self.units.iter().map(unit).collect();
        let all = self.all();
        let peak = peak_bytes().map_or("null".to_owned(), |bytes| bytes.to_string());
        let shown = self.shown.map_or(String::new(), |shown| {
            let Shown { functions, memory_accesses, checks } = shown;
            format!(
                r#""shown":{{"functions":{functions},"memory_accesses":{memory_accesses},"checks":{checks}}},"#
            )
        });
        format!(
            r#"{{"phases":[{}],"units":[{}],"functions_recompiled":{},{shown}"wall_ms":{:.3},"cpu_ms":{:.3},"peak_bytes":{peak}}}"#,
            phases.join(","),
            units.join(","),
            self.recompiled.len(),
            ms(all.wall),
            ms(all.cpu)
        )
    }

    fn all(&self) -> Phase {
        let phases = &self.phases.all;
        let wall = phases.iter().map(|phase| phase.wall).sum();
        let cpu = phases.iter().map(|phase| phase.cpu).sum();
        Phase { name: "all", wall, cpu }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory that this process has had, bytes. Source: proc(5), `VmHWM`.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Tables for people: phases, what the units' threads did within `units`, and each unit if there
/// are several.
impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14}{:>12}{:>12}", "phase", "wall ms", "cpu ms")?;
        for phase in self.phases.all.iter().chain([&self.all()]) {
            writeln!(f, "{:<14}{:>12.1}{:>12.1}", phase.name, ms(phase.wall), ms(phase.cpu))?;
            if phase.name == "units" {
                for name in UNIT_PHASES {
                    let cpu = self.units.iter().map(|unit| unit.phases.cpu(name)).sum();
                    writeln!(f, "  {name:<24}{:>12.1}", ms(cpu))?;
                }
            }
        }
        if let Some(bytes) = peak_bytes() {
            writeln!(f, "{:<14}{:>12.1}", "peak MiB", bytes as f64 / f64::from(1 << 20))?;
        }
        for function in &self.recompiled {
            writeln!(f, "compiled again without optimisation: {}", visible(function))?;
        }
        if let Some(Shown { functions, memory_accesses, checks }) = self.shown {
            writeln!(
                f,
                "shown: {functions} functions, {checks} checks, of which {memory_accesses} accesses to memory"
            )?;
        }
        if self.units.len() < 2 {
            return Ok(());
        }
        write!(f, "{:<6}{:>10}{:>10}{:>4}", "unit", "functions", "KiB", "-O")?;
        UNIT_PHASES.iter().try_for_each(|name| write!(f, "{:>13}", format!("{name} ms")))?;
        writeln!(f)?;
        for (number, unit) in self.units.iter().enumerate() {
            let kib = unit.wasm_bytes >> 10;
            write!(f, "{number:<6}{:>10}{kib:>10}{:>4}", unit.functions, unit.level)?;
            for name in UNIT_PHASES {
                write!(f, "{:>13.1}", ms(unit.phases.cpu(name)))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
