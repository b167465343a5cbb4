//! Planning: which deadline a function can keep on a core, from rates and run times alone.
//!
//! Under earliest deadline first a function waits for the work of those whose deadlines are not
//! later than its own. What waits in front of it is an M/G/1 queue: its mean is Pollaczek's and
//! Khinchine's, and its tail is taken to be exponential (exact for exponential run times, and the
//! usual approximation otherwise: Kleinrock, Queueing Systems, volume 1, 1975). Times are seconds,
//! rates are per second.

/// What is asked of a core by one function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    /// Average run time.
    pub mean_s: f64,
    /// Average square of the run time.
    pub mean_square: f64,
    /// Run time at its percentile.
    pub run_s: f64,
    /// Its deadline.
    pub deadline_s: f64,
    /// The share of requests that may miss it.
    pub tolerance: f64,
    /// Nothing is promised to it, and nobody waits for it.
    pub best_effort: bool,
}

impl Load {
    /// The share of a core that it takes.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.rate * self.mean_s
    }

    /// The same on one of so many cores.
    #[must_use]
    pub fn on_one_of(self, cores: u32) -> Self {
        Self { rate: self.rate / f64::from(cores), ..self }
    }

    /// The deadline that it could keep at its percentile on a core with all these loads, of which
    /// the share `capacity` can be promised; infinite if there is none.
    #[must_use]
    pub fn needs(&self, all: &[Self], capacity: f64) -> f64 {
        let ahead =
            || all.iter().filter(|other| !other.best_effort && other.deadline_s <= self.deadline_s);
        // A core of which a share is kept back is a slower core.
        let load = ahead().map(Self::utilisation).sum::<f64>() / capacity;
        let squares = ahead().map(|other| other.rate * other.mean_square).sum::<f64>();
        self.run_s / capacity + wait(load, squares / capacity.powi(2), self.tolerance)
    }
}

/// How long one waits at most in a queue, but for the share `tolerance` of cases: `load` is the
/// share of the server that is in use, `squares` the sum of rate times average square of the
/// service time.
#[must_use]
pub fn wait(load: f64, squares: f64, tolerance: f64) -> f64 {
    if load >= 1.0 {
        return f64::INFINITY;
    }
    // Whoever waits at all waits for this long on average.
    let mean = mean_wait(load, squares) / load.max(1e-12);
    mean * (load / tolerance).ln().max(0.0)
}

/// How long one waits on average: Pollaczek's and Khinchine's formula.
#[must_use]
pub fn mean_wait(load: f64, squares: f64) -> f64 {
    if load < 1.0 { squares / (2.0 * (1.0 - load)) } else { f64::INFINITY }
}

/// The least number of cores, at most `most`, on which the load of that place keeps its deadline
/// when all are spread evenly.
#[must_use]
pub fn cores_for(index: usize, loads: &[Load], capacity: f64, most: u32) -> Option<u32> {
    (1..=most).find(|cores| {
        let share: Vec<Load> = loads.iter().map(|load| load.on_one_of(*cores)).collect();
        share[index].needs(&share, capacity) <= share[index].deadline_s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: f64, run_s: f64, deadline_s: f64) -> Load {
        Load {
            rate,
            mean_s: run_s,
            mean_square: run_s * run_s,
            run_s,
            deadline_s,
            tolerance: 0.01,
            best_effort: false,
        }
    }

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9 * other.abs().max(1.0), "{one} is not {other}");
    }

    #[test]
    fn means_are_those_of_the_textbook() {
        // M/M/1 at half load and rate 1: the mean square is twice the squared mean, the wait one
        // service.
        close(mean_wait(0.5, 0.5 * 2.0), 1.0);
        // M/D/1: half of that.
        close(mean_wait(0.5, 0.5), 0.5);
        // M/M/1 at nine tenths: nine services.
        close(mean_wait(0.9, 0.9 * 2.0), 9.0);
        assert!(mean_wait(1.0, 1.0).is_infinite());
    }

    #[test]
    fn the_tail_is_exact_for_exponential_service() {
        // M/M/1: P(W > t) = load * exp(-(1 - load) t), with service of mean 1.
        for (load, tolerance) in [(0.5_f64, 0.01_f64), (0.8, 0.05), (0.95, 0.001)] {
            let waited = wait(load, load * 2.0, tolerance);
            close(load * (-(1.0 - load) * waited).exp(), tolerance);
        }
        // Whoever finds the server idle often enough does not wait at all.
        close(wait(0.005, 0.01, 0.01), 0.0);
        close(wait(0.0, 0.0, 0.01), 0.0);
    }

    #[test]
    fn who_is_due_later_is_not_waited_for() {
        let (short, hog) = (load(100.0, 1e-3, 0.01), load(3.0, 0.2, 1.0));
        close(short.needs(&[short, hog], 1.0), short.needs(&[short], 1.0));
        assert!(hog.needs(&[short, hog], 1.0) > hog.needs(&[hog], 1.0));
        let spare = Load { best_effort: true, deadline_s: 0.0, ..hog };
        close(short.needs(&[short, spare], 1.0), short.needs(&[short], 1.0));
    }

    #[test]
    fn half_a_core_is_a_core_at_half_the_speed() {
        let (on_half, slow) = (load(200.0, 1e-3, 1.0), load(200.0, 2e-3, 1.0));
        close(on_half.needs(&[on_half], 0.5), slow.needs(&[slow], 1.0));
    }

    #[test]
    fn cores_are_as_few_as_will_do() {
        let loads = [load(2500.0, 1e-3, 0.01)];
        let enough = cores_for(0, &loads, 1.0, 1024).expect("some number will do");
        assert!(enough > 2, "two and a half are in use");
        let fewer = loads[0].on_one_of(enough - 1);
        assert!(fewer.needs(&[fewer], 1.0) > fewer.deadline_s);
        assert_eq!(cores_for(0, &[load(1.0, 0.03, 0.02)], 1.0, 1024), None, "it runs for longer");
    }
}
