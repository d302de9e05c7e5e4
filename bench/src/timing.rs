//! Samples, and how they are shown.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;

/// Median and 95th percentile in milliseconds.
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

/// One contender's figures for one verb.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) verb: &'static str,
    pub(crate) name: String,
    pub(crate) sample: Sample,
    /// Median over flatnet's median.
    pub(crate) to_ours: f64,
    /// Median over the floor's median.
    pub(crate) to_floor: f64,
}

pub(crate) fn table(rounds: usize, floor: Sample, rows: &[Row]) -> String {
    let mut out = format!(
        "Whole process, milliseconds, {rounds} rounds, dual stack where the plugin can.\n\
         Floor: /bin/true, median {:.2}, p95 {:.2}.\n\n\
         {:<5} {:<28} {:>8} {:>8} {:>10} {:>9}\n",
        floor.median, floor.p95, "verb", "plugin", "median", "p95", "x flatnet", "x floor"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:<5} {:<28} {:>8.2} {:>8.2} {:>10.2} {:>9.2}",
            row.verb, row.name, row.sample.median, row.sample.p95, row.to_ours, row.to_floor
        );
    }
    out
}

pub(crate) fn json(rounds: usize, floor: Sample, rows: &[Row]) -> Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|r| {
            json!({ "verb": r.verb, "plugin": r.name, "medianMs": r.sample.median, "p95Ms": r.sample.p95,
                "timesFlatnet": r.to_ours, "timesFloor": r.to_floor })
        })
        .collect();
    let all =
        json!({ "rounds": rounds, "floorMedianMs": floor.median, "floorP95Ms": floor.p95, "rows": rows });
    Ok(serde_json::to_string_pretty(&all)?)
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
