//! A trace of invocations as CSV: what arrived when, for which function, how long it ran.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use awsm_node::config::parse_duration;
use awsm_node::limits;
use awsm_sched::simulate::Job;
use awsm_sched::{Arrival, FunctionId, Nanos};

use super::Load;

/// A column that is a time, and the unit that its header gives.
#[derive(Clone, Copy, Debug)]
struct Time {
    column: usize,
    /// Nanoseconds that a plain number counts; `None` when each value has its own unit.
    unit_ns: Option<f64>,
}

/// Reads a trace. `deadline` is for lines that have none.
pub(super) fn read(file: &Path, deadline: Nanos) -> Result<Load, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    let size = fs::metadata(file).map_err(|error| named(error.to_string()))?.len();
    if size > limits::TRACE_BYTES {
        let most = limits::TRACE_BYTES;
        return Err(named(format!("{size} bytes; a trace may have {most}")));
    }
    let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    parse(&text, deadline).map_err(|(line, error)| format!("{}:{line}: {error}", file.display()))
}

/// An error comes with its line.
fn parse(text: &str, deadline: Nanos) -> Result<Load, (usize, String)> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let header = lines.next().map_or("", |(_, line)| line);
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let missing = |name: &str| {
        let message = format!("no column `{name}`; the header is `arrival,function,run,deadline`");
        (1, message)
    };
    let arrival = time(&columns, "arrival").ok_or_else(|| missing("arrival"))?;
    let run = time(&columns, "run").ok_or_else(|| missing("run"))?;
    let function = columns.iter().position(|name| *name == "function");
    let function = function.ok_or_else(|| missing("function"))?;
    let due = time(&columns, "deadline");

    let mut functions: HashMap<&str, u32> = HashMap::new();
    let mut jobs = Vec::new();
    for (number, line) in lines {
        let values: Vec<&str> = line.split(',').map(str::trim).collect();
        if values.len() != columns.len() {
            let (found, wanted) = (values.len(), columns.len());
            return Err((number, format!("{found} values, the header has {wanted}")));
        }
        let known = functions.len() as u32;
        let function = *functions.entry(values[function]).or_insert(known);
        let read = |time: Time| time.read(values[time.column]).map_err(|error| (number, error));
        let (at, run) = (read(arrival)?, read(run)?);
        let deadline = match due.filter(|due| !values[due.column].is_empty()) {
            Some(due) => read(due)?,
            None => deadline,
        };
        let arrival = Arrival { deadline, ..Arrival::new(FunctionId(function)) };
        jobs.push(Job { at, run: run.max(Nanos(1)), arrival });
    }
    if jobs.is_empty() {
        return Err((1, "no invocations".to_owned()));
    }
    jobs.sort_by_key(|job| job.at);
    Ok(Load { jobs, functions: functions.len() as u32 })
}

/// The column of that name, with or without a unit.
fn time(columns: &[&str], name: &str) -> Option<Time> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    (0..).zip(columns).find_map(|(column, header)| {
        let rest = header.strip_prefix(name)?;
        if rest.is_empty() {
            return Some(Time { column, unit_ns: None });
        }
        let unit = rest.strip_prefix('_')?;
        let (_, ns) = units.iter().find(|(known, _)| *known == unit)?;
        Some(Time { column, unit_ns: Some(*ns) })
    })
}

impl Time {
    fn read(self, text: &str) -> Result<Nanos, String> {
        let quoted = text.escape_debug();
        match self.unit_ns {
            None => parse_duration(text).map(Nanos::from).ok_or_else(|| {
                format!("`{quoted}`: a time is a number and its unit, or the header ends in `_us`")
            }),
            Some(unit_ns) => {
                let number = text.parse().ok().filter(|number| (0.0..1e15).contains(number));
                let number: f64 = number.ok_or_else(|| format!("`{quoted}` is no time"))?;
                Ok(Nanos((number * unit_ns) as u64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_units_in_the_header_or_with_each_value() {
        let with_units = "arrival,function,run,deadline\n2ms,b,1ms,\n1ms,a,500us,10ms\n";
        let in_header = "deadline_ms, run_us ,function,arrival_s\n,1000,b,0.002\n10,500,a,0.001\n";
        for text in [with_units, in_header] {
            let load = parse(text, Nanos(7)).map_err(|(_, error)| error).expect("a good trace");
            assert_eq!(load.functions, 2);
            let [first, second] = &load.jobs[..] else { panic!("two jobs") };
            assert_eq!((first.at, first.run), (Nanos(1_000_000), Nanos(500_000)));
            assert_eq!(first.arrival.deadline, Nanos(10_000_000));
            assert_eq!((second.at, second.arrival.deadline), (Nanos(2_000_000), Nanos(7)));
        }
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, line, part) in [
            ("", 1, "no column `arrival`"),
            ("arrival,run\n", 1, "no column `function`"),
            ("arrival,function,run\n", 1, "no invocations"),
            ("arrival,function,run\n1ms,a\n", 2, "2 values, the header has 3"),
            ("arrival,function,run\n\n1,a,1ms\n", 3, "`1`: a time is"),
            ("arrival_us,function,run_us\n1,a,-1\n", 2, "`-1` is no time"),
            ("arrival_us,function,run_us\n1,a,nan\n", 2, "`nan` is no time"),
        ] {
            let (at, error) = parse(text, Nanos(0)).err().expect("a mistake");
            assert!(at == line && error.contains(part), "{text:?}: {at}: {error}");
        }
    }
}
