//! Percentiles of a run.

use std::time::Duration;

/// Durations of a run, sorted.
pub(crate) struct Sorted(Vec<Duration>);

impl Sorted {
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The smallest duration that at least `percent` of all do not exceed (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// One line for a table: `p50`, `p99` and the largest, in milliseconds.
    pub(crate) fn line(&self) -> String {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        format!("p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms", ms(50), ms(99), ms(100))
    }
}
