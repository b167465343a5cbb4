//! Where the time of a compilation went.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The phases of one compilation, in order.
#[derive(Debug, Default)]
pub struct Timings {
    /// Name, wall-clock time, processor time of this process's threads.
    phases: Vec<(&'static str, Duration, Duration)>,
}

impl Timings {
    /// Runs one phase.
    pub(crate) fn phase<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), processor_time());
        let result = run();
        self.phases.push((name, wall.elapsed(), processor_time().saturating_sub(cpu)));
        result
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The most memory that this process has had, bytes. Source: proc(5), `VmHWM`.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A table for people: milliseconds, and the peak of memory.
impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        writeln!(f, "{:<12}{:>12}{:>12}", "phase", "wall ms", "cpu ms")?;
        for (name, wall, cpu) in &self.phases {
            writeln!(f, "{name:<12}{:>12.1}{:>12.1}", ms(wall), ms(cpu))?;
        }
        let [wall, cpu] = [1, 2].map(|column| -> Duration {
            self.phases.iter().map(|phase| if column == 1 { phase.1 } else { phase.2 }).sum()
        });
        writeln!(f, "{:<12}{:>12.1}{:>12.1}", "all", ms(&wall), ms(&cpu))?;
        match peak_bytes() {
            Some(bytes) => writeln!(f, "{:<12}{:>12.1}", "peak MiB", bytes as f64 / 1048576.0),
            None => Ok(()),
        }
    }
}
