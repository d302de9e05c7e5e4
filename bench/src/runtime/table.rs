//! The figures as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::output::Figures;
use crate::plot::Chart;
use crate::sample::{Sample, beyond};

/// What the runtime was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `RunPodSandbox`.
    Run,
    /// `StopPodSandbox`, then `RemovePodSandbox`.
    Stop,
}

impl Call {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Stop => "stop",
        }
    }

    /// How many milliseconds more than on the node's own network it is to take at most, with a host port.
    const fn goal(self) -> f64 {
        match self {
            Self::Run => 10.0,
            Self::Stop => 30.0,
        }
    }
}

/// One contender's figures for one call, in milliseconds.
#[derive(Debug)]
pub(crate) struct Row {
    call: Call,
    name: &'static str,
    took: Sample,
    /// More than a pod of the same round on the node's own network; none for those themselves.
    more: Option<f64>,
}

impl Row {
    /// `other` are the figures of the same rounds on the node's own network.
    pub(crate) fn new(call: Call, name: &'static str, took: &[f64], other: Option<&[f64]>) -> Self {
        Self { call, name, took: Sample::of(took), more: other.map(|other| beyond(took, other)) }
    }
}

/// Everything one run measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    /// Version of containerd.
    pub(crate) containerd: String,
    pub(crate) rows: Vec<Row>,
}

impl Figures for Report {
    fn json(&self) -> Value {
        let row = |r: &Row| {
            json!({ "call": r.call.as_str(), "contender": r.name,
                "medianMs": r.took.median, "p95Ms": r.took.p95,
                "moreThanHostNetworkMs": r.more, "goalMs": r.call.goal() })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "rounds": self.rounds, "containerd": self.containerd, "rows": rows })
    }

    /// Run and stop, one bar a contender, to the same scale.
    fn charts(&self) -> Vec<Chart> {
        let widest = self.rows.iter().map(|r| r.took.median).fold(0.0, f64::max);
        let chart = |call: Call| {
            let rows = self.rows.iter().filter(|r| r.call == call);
            Chart {
                title: format!(
                    "{} of a pod by containerd, milliseconds (median of {} rounds)",
                    call.as_str(),
                    self.rounds
                ),
                bars: rows.map(|r| (r.name.to_owned(), r.took.median)).collect(),
                widest,
            }
        };
        vec![chart(Call::Run), chart(Call::Stop)]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Pods by containerd {}, milliseconds as its client sees them, {} rounds.\n\
             `more`: than a pod on the host's network in the same round, the median.\n",
            self.containerd, self.rounds
        )?;
        writeln!(
            f,
            "{:<5} {:<39} {:>8} {:>8} {:>8} {:>6}",
            "call", "contender", "median", "p95", "more", "goal"
        )?;
        for row in &self.rows {
            let Row { call, name, took, more } = row;
            write!(f, "{:<5} {name:<39} {:>8.1} {:>8.1}", call.as_str(), took.median, took.p95)?;
            match more {
                Some(more) => writeln!(f, " {more:>8.1} {:>6.0}", call.goal())?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
