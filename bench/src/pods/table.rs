//! The figures as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::contender::Verb;
use super::field;
use crate::output::Figures;
use crate::plot::Chart;
use crate::sample::Sample;

/// One contender's figures for one verb.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) verb: Verb,
    pub(crate) name: String,
    /// Milliseconds.
    pub(crate) wall: Sample,
    /// Milliseconds.
    pub(crate) cpu: Sample,
    /// MiB.
    pub(crate) memory: Sample,
}

/// Many pods added at once.
#[derive(Debug)]
pub(crate) struct AtOnce {
    pub(crate) name: &'static str,
    /// Milliseconds until the last was done.
    pub(crate) wall: Sample,
    pub(crate) pods: usize,
}

/// Everything one run measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) at_once: Vec<AtOnce>,
}

impl Report {
    /// How many times the median of `name` a row's median is.
    fn ratio(&self, row: &Row, name: &str) -> f64 {
        let other = self.rows.iter().find(|r| r.verb == row.verb && r.name == name);
        row.wall.median / other.map_or(f64::NAN, |r| r.wall.median)
    }
}

impl Figures for Report {
    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({ "verb": r.verb.as_str(), "contender": r.name,
                    "medianMs": r.wall.median, "p95Ms": r.wall.p95,
                    "cpuMs": r.cpu.median, "peakMiB": r.memory.median,
                    "timesFlatnet": self.ratio(r, field::OURS), "timesKernel": self.ratio(r, field::FLOOR) })
            })
            .collect();
        let at_once: Vec<Value> = self
            .at_once
            .iter()
            .map(|a| json!({ "contender": a.name, "pods": a.pods, "medianMs": a.wall.median }))
            .collect();
        json!({ "rounds": self.rounds, "rows": rows, "atOnce": at_once })
    }

    /// ADD and DEL, one bar a contender, to the same scale.
    fn charts(&self) -> Vec<Chart> {
        let widest = self.rows.iter().map(|r| r.wall.median).fold(0.0, f64::max);
        let chart = |verb: Verb| {
            let rows = self.rows.iter().filter(|r| r.verb == verb);
            Chart {
                title: format!("{}, milliseconds (median of {} rounds)", verb.as_str(), self.rounds),
                bars: rows.map(|r| (r.name.clone(), r.wall.median)).collect(),
                widest,
            }
        };
        vec![chart(Verb::Add), chart(Verb::Del)]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Whole processes, medians of {} rounds. Chains are the sum of their plugins.\n",
            self.rounds
        )?;
        writeln!(
            f,
            "{:<4} {:<39} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "verb", "contender", "ms", "p95 ms", "CPU ms", "peak MiB", "x flatnet", "x kernel"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<4} {:<39} {:>8.2} {:>8.2} {:>8.2} {:>9.1} {:>9.2} {:>9.2}",
                row.verb.as_str(),
                row.name,
                row.wall.median,
                row.wall.p95,
                row.cpu.median,
                row.memory.median,
                self.ratio(row, field::OURS),
                self.ratio(row, field::FLOOR)
            )?;
        }
        if let Some(first) = self.at_once.first() {
            writeln!(f, "\n{} ADDs at once, milliseconds until the last is done:", first.pods)?;
        }
        for all in &self.at_once {
            writeln!(f, "     {:<39} {:>8.0} {:>8.0}", all.name, all.wall.median, all.wall.p95)?;
        }
        Ok(())
    }
}
