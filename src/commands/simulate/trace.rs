//! A trace of invocations as CSV: what arrived when, for which function, how long it ran.

use std::borrow::Cow;
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
    unit_ns: Option<u64>,
}

/// Reads a trace. `deadline` is for lines that have none; if `exact`, the scheduler is told the run
/// times.
pub(super) fn read(file: &Path, deadline: Nanos, exact: bool) -> Result<Load, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    let size = fs::metadata(file).map_err(|error| named(error.to_string()))?.len();
    if size > limits::TRACE_BYTES {
        let most = limits::TRACE_BYTES;
        return Err(named(format!("{size} bytes; a trace may have {most}")));
    }
    let content = fs::read(file).map_err(|error| named(error.to_string()))?;
    parse(&content, deadline, exact)
        .map_err(|(line, error)| format!("{}:{line}: {error}", file.display()))
}

/// An error comes with its line.
fn parse(content: &[u8], deadline: Nanos, exact: bool) -> Result<Load, (usize, String)> {
    let text = str::from_utf8(content).map_err(|error| {
        let before = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        (before + 1, "not UTF-8; save it as that".to_owned())
    })?;
    // The byte-order mark that spreadsheets write.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (at, header) = lines.next().unwrap_or((1, ""));
    let here = |error: String| (at, error);
    let columns = fields(header).map_err(here)?;
    let arrival = needed(time(&columns, "arrival"), "arrival").map_err(here)?;
    let run = needed(time(&columns, "run"), "run").map_err(here)?;
    let function = only("function", columns.iter().map(|name| name == "function"));
    let function = needed(function, "function").map_err(here)?;
    let due = time(&columns, "deadline").map_err(here)?;

    let mut functions: HashMap<String, u32> = HashMap::new();
    let mut jobs = Vec::new();
    for (number, line) in lines {
        let values = fields(line).map_err(|error| (number, error))?;
        if values.len() != columns.len() {
            let (found, wanted) = (values.len(), columns.len());
            return Err((number, format!("{found} values, the header has {wanted}")));
        }
        let read = |time: Time| time.read(&values[time.column]).map_err(|error| (number, error));
        let (at, run) = (read(arrival)?, read(run)?.max(Nanos(1)));
        let deadline = match due.filter(|due| !values[due.column].is_empty()) {
            Some(due) => read(due)?,
            None => deadline,
        };
        let known = functions.len() as u32;
        let name = values[function].as_ref();
        let function = match functions.get(name) {
            Some(function) => *function,
            None => *functions.entry(name.to_owned()).or_insert(known),
        };
        let estimate = exact.then_some(run);
        let arrival = Arrival { deadline, estimate, ..Arrival::new(FunctionId(function)) };
        jobs.push(Job { at, run, arrival });
    }
    jobs.sort_by_key(|job| job.at);
    let Some(first) = jobs.first().map(|job| job.at) else {
        return Err(here("no invocations".to_owned()));
    };
    // Traces begin at any time, often that of a calendar; the simulation begins with them.
    for job in &mut jobs {
        job.at = job.at - first;
    }
    Ok(Load { jobs, functions: functions.len() as u32 })
}

/// The values of a line (RFC 4180): those in quotation marks may have commas in them, and such marks
/// twice.
fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if !line.contains('"') {
        return Ok(line.split(',').map(|value| Cow::Borrowed(value.trim())).collect());
    }
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (value, after) = rest.split_once(',').map_or((rest, None), |(v, a)| (v, Some(a)));
            values.push(Cow::Borrowed(value.trim()));
            match after {
                Some(after) => rest = after,
                None => return Ok(values),
            }
            continue;
        };
        let mut value = String::new();
        loop {
            let (part, after) = quoted.split_once('"').ok_or("a `\"` that nothing ends")?;
            value += part;
            quoted = after;
            match after.strip_prefix('"') {
                Some(after) => (value, quoted) = (value + "\"", after),
                None => break,
            }
        }
        values.push(Cow::Owned(value));
        match quoted.trim_start() {
            "" => return Ok(values),
            after => rest = after.strip_prefix(',').ok_or("no comma after a closing `\"`")?,
        }
    }
}

/// The column that is it; an error if two are.
fn only(name: &str, is_it: impl Iterator<Item = bool>) -> Result<Option<usize>, String> {
    let mut found = is_it.enumerate().filter(|(_, is_it)| *is_it).map(|(column, _)| column);
    match (found.next(), found.next()) {
        (_, Some(second)) => {
            Err(format!("column {} is a second one for `{name}`; one is needed", second + 1))
        }
        (first, None) => Ok(first),
    }
}

fn needed<T>(column: Result<Option<T>, String>, name: &str) -> Result<T, String> {
    column?
        .ok_or_else(|| format!("no column `{name}`; the header is `arrival,function,run,deadline`"))
}

/// The column of that name, with or without a unit.
fn time(columns: &[Cow<'_, str>], name: &str) -> Result<Option<Time>, String> {
    let units = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let unit_of = |header: &str| match header.strip_prefix(name)? {
        "" => Some(None),
        rest => {
            let unit = rest.strip_prefix('_')?;
            units.iter().find(|(known, _)| *known == unit).map(|(_, ns)| Some(*ns))
        }
    };
    let column = only(name, columns.iter().map(|header| unit_of(header).is_some()))?;
    let time = |column: usize| Some(Time { column, unit_ns: unit_of(&columns[column])? });
    Ok(column.and_then(time))
}

impl Time {
    fn read(self, text: &str) -> Result<Nanos, String> {
        let quoted = text.escape_debug();
        match self.unit_ns {
            None => parse_duration(text).map(Nanos::from).ok_or_else(|| {
                format!("`{quoted}`: a time is a number and its unit, or the header ends in `_us`")
            }),
            Some(unit_ns) => {
                decimal(text, unit_ns).map(Nanos).ok_or_else(|| format!("`{quoted}` is no time"))
            }
        }
    }
}

/// A number of units as nanoseconds, to the nanosecond: seconds since 1970 have more digits than a
/// floating-point number. `None` if it is none, or of more than a century.
fn decimal(text: &str, unit_ns: u64) -> Option<u64> {
    const MOST_NS: u64 = 100 * 366 * 86_400 * 1_000_000_000;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() > 0 && is_digits(whole) && is_digits(part) {
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        // A nanosecond is the ninth digit of a second.
        let part = format!("{:0<9.9}", part).parse::<u64>().ok()?;
        let ns = u128::from(whole) * u128::from(unit_ns)
            + u128::from(part) * u128::from(unit_ns) / 1_000_000_000;
        return u64::try_from(ns).ok().filter(|ns| *ns <= MOST_NS);
    }
    let ns: f64 = text.parse::<f64>().ok()? * unit_ns as f64;
    (0.0..=MOST_NS as f64).contains(&ns).then_some(ns as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_units_in_the_header_or_with_each_value() {
        let with_units = "arrival,function,run,deadline\n2ms,b,1ms,\n1ms,a,500us,10ms\n";
        let in_header = "deadline_ms, run_us ,function,arrival_s\n,1000,b,0.002\n10,500,a,0.001\n";
        for text in [with_units, in_header] {
            let load = parse(text.as_bytes(), Nanos(7), false)
                .map_err(|(_, error)| error)
                .expect("a good trace");
            assert_eq!(load.functions, 2);
            let [first, second] = &load.jobs[..] else { panic!("two jobs") };
            assert_eq!((first.at, first.run), (Nanos(0), Nanos(500_000)));
            assert_eq!(first.arrival.deadline, Nanos(10_000_000));
            assert_eq!((second.at, second.arrival.deadline), (Nanos(1_000_000), Nanos(7)));
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
            ("arrival_us,function,run_us\n.,a,1\n", 2, "`.` is no time"),
            ("arrival_s,function,run_us\n99999999999,a,1\n", 2, "`99999999999` is no time"),
            ("\n\narrival_us,function\n5,a\n", 3, "no column `run`"),
            ("\n\narrival_us,function,run\n", 3, "no invocations"),
            (
                "arrival_us,function,run_us,run_ms\n5,a,10,3\n",
                1,
                "column 4 is a second one for `run`",
            ),
            ("function,arrival_us,function,run_us\na,5,b,10\n", 1, "one for `function`"),
            ("arrival_us,function,run_us\n1,\"a,1\n", 2, "a `\"` that nothing ends"),
            ("arrival_us,function,run_us\n1,\"a\"b,1\n", 2, "no comma after a closing `\"`"),
        ] {
            let (at, error) = parse(text.as_bytes(), Nanos(0), false).err().expect("a mistake");
            assert!(at == line && error.contains(part), "{text:?}: {at}: {error}");
        }
    }
    #[test]
    fn what_is_not_utf_8_has_its_line() {
        let text = b"arrival_us,function,run_us\n1,a,10\n2,caf\xe9,10\n";
        let (line, error) = parse(text, Nanos(0), false).err().expect("a mistake");
        assert_eq!((line, error.as_str()), (3, "not UTF-8; save it as that"));
    }

    #[test]
    fn spreadsheets_marks_and_quotation_marks_are_read() {
        let text = "\u{feff}\"arrival_us\",\"function\" , run_us\r\n5,\"a, \"\"b\"\"\",10\r\n7, \"a\",1\r\n";
        let load = parse(text.as_bytes(), Nanos(0), true).expect("a good trace");
        assert_eq!(load.functions, 2);
        assert_eq!((load.jobs[0].run, load.jobs[1].at), (Nanos(10_000), Nanos(2_000)));
        assert_eq!(load.jobs[0].arrival.estimate, Some(Nanos(10_000)), "it is told");
        let fields = fields("x,\"a, \"\"b\"\"\",").expect("good");
        assert_eq!(fields, ["x", "a, \"b\"", ""]);
    }

    #[test]
    fn a_trace_begins_with_its_first_arrival() {
        let text = "arrival_s,function,run_us\n1700000000.001000007,a,1\n1700000000.000,a,1\n";
        let load = parse(text.as_bytes(), Nanos(0), false).expect("a good trace");
        assert_eq!((load.jobs[0].at, load.jobs[1].at), (Nanos(0), Nanos(1_000_007)));
    }

    #[test]
    fn decimals_are_exact() {
        for (text, unit, ns) in [
            ("1700000000.000000001", 1_000_000_000, Some(1_700_000_000_000_000_001)),
            ("339.7", 1000, Some(339_700)),
            (".5", 1000, Some(500)),
            ("5.", 1000, Some(5000)),
            ("1e3", 1000, Some(1_000_000)),
            ("0.0000000001", 1_000_000_000, Some(0)),
            ("18446744073709551616", 1, None),
            ("-0.5", 1000, None),
            ("", 1, None),
        ] {
            assert_eq!(decimal(text, unit), ns, "{text}");
        }
    }
}
