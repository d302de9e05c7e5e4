//! The figures as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::Took;
use crate::output::Figures;
use crate::plot::Chart;
use crate::sample::{Sample, times};

/// MiB that an idle pod's processes are to hold at most.
const IDLE_GOAL: f64 = 6.0;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// All pods that were asked for run.
    Running,
    /// All are gone.
    Gone,
}

impl Call {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Gone => "gone",
        }
    }

    pub(super) const fn of(self, took: &Took) -> f64 {
        match self {
            Self::Running => took.running,
            Self::Gone => took.gone,
        }
    }

    /// Milliseconds that flatpod is to take at most: for one pod, and for many at once.
    fn goal(self, count: usize) -> Option<f64> {
        match self {
            Self::Running => Some(if count == 1 { 60.0 } else { 2000.0 }),
            Self::Gone => None,
        }
    }
}

/// One contender's figures, in milliseconds.
#[derive(Debug)]
pub(super) struct Row {
    call: Call,
    count: usize,
    name: &'static str,
    took: Sample,
    /// How many times as long as containerd in the same round, the median.
    ratio: f64,
}

impl Row {
    pub(super) fn new(call: Call, count: usize, name: &'static str, took: &[f64], theirs: &[f64]) -> Self {
        Self { call, count, name, took: Sample::of(took), ratio: times(took, theirs) }
    }
}

/// Everything one run measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rounds: usize,
    /// Version of containerd.
    pub(super) containerd: String,
    pub(super) rows: Vec<Row>,
    /// MiB that supervisor and shim of an idle pod hold, of many.
    pub(super) idle: f64,
}

impl Figures for Report {
    fn json(&self) -> Value {
        let row = |r: &Row| {
            json!({ "until": r.call.as_str(), "pods": r.count, "contender": r.name, "medianMs": r.took.median,
                "p95Ms": r.took.p95, "timesContainerd": r.ratio, "goalMs": r.call.goal(r.count) })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "rounds": self.rounds, "containerd": self.containerd, "rows": rows,
            "idlePodMiB": self.idle, "idlePodGoalMiB": IDLE_GOAL })
    }

    /// A drawing for each number of pods.
    fn charts(&self) -> Vec<Chart> {
        let mut counts: Vec<usize> = self.rows.iter().map(|row| row.count).collect();
        counts.dedup();
        let chart = |count: &usize| {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.count == *count).collect();
            let bar = |row: &&Row| (format!("{}: {}", row.name, row.call.as_str()), row.took.median);
            Chart {
                title: format!("{count} pods at once, milliseconds (median of {} rounds)", self.rounds),
                bars: rows.iter().map(bar).collect(),
                widest: rows.iter().map(|row| row.took.median).fold(0.0, f64::max),
            }
        };
        counts.iter().map(chart).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Pods of one container on flatnet, milliseconds from asking for all of them, {} rounds.\n\
             containerd {} is asked as kubelet asks it, flatpod by `apply` and `delete`.\n",
            self.rounds, self.containerd
        )?;
        writeln!(
            f,
            "{:<8} {:>5} {:<17} {:>8} {:>8} {:>8} {:>6}",
            "until", "pods", "contender", "median", "p95", "times", "goal"
        )?;
        for Row { call, count, name, took, ratio } in &self.rows {
            let until = call.as_str();
            write!(
                f,
                "{until:<8} {count:>5} {name:<17} {:>8.0} {:>8.0} {ratio:>8.2}",
                took.median, took.p95
            )?;
            match call.goal(*count).filter(|_| *name == "flatpod") {
                Some(goal) => writeln!(f, " {goal:>6.0}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "\nAn idle pod's supervisor and shim: {:.1} MiB (goal {IDLE_GOAL:.0}).", self.idle)
    }
}
