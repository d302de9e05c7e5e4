//! What many measurements of one thing come to.

/// Median, 95th and 99th percentile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl Sample {
    /// Nearest-rank percentiles.
    pub(crate) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied();
        let percentile = |percent| rank(percent).unwrap_or(f64::NAN);
        Self { median: percentile(50), p95: percentile(95), p99: percentile(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let s = Sample::of((1..=100).rev().map(f64::from).collect());
        assert!((s.median - 50.0).abs() < 1e-9 && (s.p95 - 95.0).abs() < 1e-9);
        assert!((s.p99 - 99.0).abs() < 1e-9);
    }
}
