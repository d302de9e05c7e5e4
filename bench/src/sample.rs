//! What many measurements of one thing come to.

/// Median, 95th and 99th percentile, and extremes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Sample {
    /// Nearest-rank percentiles; not numbers where there are no measurements.
    pub(crate) fn of(all: &[f64]) -> Self {
        let mut all = all.to_vec();
        all.sort_by(f64::total_cmp);
        let rank = |percent| nearest_rank(&all, percent);
        Self { median: rank(50), p95: rank(95), p99: rank(99), lowest: rank(0), highest: rank(100) }
    }
}

/// How many times the values of `other` these are: the median of the ratios of values that were measured one
/// soon after the other, which both had what the machine did meanwhile.
pub(crate) fn times(these: &[f64], other: &[f64]) -> f64 {
    let ratios: Vec<f64> = these.iter().zip(other).map(|(a, b)| a / b).collect();
    Sample::of(&ratios).median
}

/// How much more than the values of `other` these are: the median of the differences, of such pairs as for [`times`].
pub(crate) fn beyond(these: &[f64], other: &[f64]) -> f64 {
    let differences: Vec<f64> = these.iter().zip(other).map(|(a, b)| a - b).collect();
    Sample::of(&differences).median
}

/// The smallest value that `percent` of all values do not exceed.
pub(crate) fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let s = Sample::of(&(1..=100).rev().map(f64::from).collect::<Vec<_>>());
        assert!((s.median - 50.0).abs() < 1e-9 && (s.p95 - 95.0).abs() < 1e-9);
        assert!((s.p99 - 99.0).abs() < 1e-9);
        assert!((s.lowest - 1.0).abs() < 1e-9 && (s.highest - 100.0).abs() < 1e-9);
        assert!(nearest_rank(&[], 50).is_nan());
    }

    #[test]
    fn a_ratio_is_of_values_measured_together() {
        // The machine was ten times slower in the last two rounds.
        let (ours, theirs) = ([2.0, 2.0, 20.0, 20.0], [4.0, 4.0, 4.0, 40.0]);
        assert!((times(&ours, &theirs) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_difference_is_of_values_measured_together() {
        // Two more, but for one round.
        let (ours, theirs) = ([12.0, 50.0, 61.0], [10.0, 48.0, 70.0]);
        assert!((beyond(&ours, &theirs) - 2.0).abs() < 1e-9);
    }
}
