//! What many measurements of one thing come to.

/// Median and 95th percentile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) p95: f64,
}

impl Sample {
    /// Nearest-rank percentiles.
    pub(crate) fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let rank = |percent: usize| all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied();
        Self { median: rank(50).unwrap_or(f64::NAN), p95: rank(95).unwrap_or(f64::NAN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let s = Sample::of((1..=100).rev().map(f64::from).collect());
        assert!((s.median - 50.0).abs() < 1e-9 && (s.p95 - 95.0).abs() < 1e-9);
    }
}
