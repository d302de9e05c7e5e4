//! The figures as a table and as JSON.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

use super::Args;
use super::case::Case;
use super::plain::Plain;
use super::store::Kind;

/// Twice the nodes may cost so many times as much at most, or cost grows faster than the cluster.
const LINEAR: f64 = 2.2;

/// Everything one run measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) samples: usize,
    /// Seconds.
    pub(crate) idle: u64,
    pub(crate) cases: Vec<Case>,
    pub(crate) plain: Vec<Plain>,
}

/// What the agent is meant to keep to, and whether it did.
struct Goal {
    what: &'static str,
    most: f64,
    unit: &'static str,
    seen: Vec<(Kind, u16, f64)>,
}

/// How many times the cost of half the nodes.
struct Doubling {
    store: Kind,
    nodes: u16,
    wall: f64,
    kernel: f64,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        Self { samples: args.samples, idle: args.idle, cases: Vec::new(), plain: Vec::new() }
    }

    fn goals(&self) -> [Goal; 3] {
        let at = |wanted: &dyn Fn(u16) -> bool, figure: &dyn Fn(&Case) -> f64| {
            let cases = self.cases.iter().filter(|case| wanted(case.nodes));
            cases.map(|case| (case.store, case.nodes, figure(case))).collect()
        };
        [
            Goal {
                what: "kernel time for 10,000 nodes",
                most: 0.5,
                unit: "s",
                seen: at(&|nodes| nodes == 10_000, &|case| case.cpu.kernel),
            },
            Goal {
                what: "one more node (median)",
                most: 20.0,
                unit: "ms",
                seen: at(&|_| true, &|case| case.join.median),
            },
            Goal {
                what: "resident with 5,000 nodes",
                most: 25.0,
                unit: "MiB",
                seen: at(&|nodes| nodes == 5_000, &|case| case.memory.resident),
            },
        ]
    }

    fn doublings(&self) -> Vec<Doubling> {
        let half = |case: &Case| {
            self.cases
                .iter()
                .find(|half| half.store == case.store && half.nodes.checked_mul(2) == Some(case.nodes))
        };
        let doubling = |case: &Case| {
            let half = half(case)?;
            Some(Doubling {
                store: case.store,
                nodes: case.nodes,
                wall: case.programmed / half.programmed,
                kernel: case.cpu.kernel / half.cpu.kernel,
            })
        };
        self.cases.iter().filter_map(doubling).collect()
    }

    /// For a script. Times are in seconds or, where the name says so, in milliseconds.
    ///
    /// # Errors
    /// A figure is not a number.
    pub(crate) fn json(&self) -> Result<String> {
        let case = |case: &Case| {
            json!({ "store": case.store.to_string(), "nodes": case.nodes,
                "programmed": case.programmed, "user": case.cpu.user, "kernel": case.cpu.kernel,
                "joinMedianMs": case.join.median, "joinP99Ms": case.join.p99,
                "residentMiB": case.memory.resident, "peakMiB": case.memory.peak,
                "residentAfterJoinsMiB": case.after.resident, "peakAfterJoinsMiB": case.after.peak,
                "idleCpu": case.idle.total(), "lookMedianMs": case.look.median })
        };
        let plain = |plain: &Plain| {
            json!({ "nodes": plain.nodes, "programmed": plain.wall,
                "user": plain.cpu.user, "kernel": plain.cpu.kernel })
        };
        let doubling = |doubling: &Doubling| {
            json!({ "store": doubling.store.to_string(), "nodes": doubling.nodes, "most": LINEAR,
                "wall": doubling.wall, "kernel": doubling.kernel })
        };
        let goal = |goal: &Goal| {
            let seen: Vec<Value> = goal
                .seen
                .iter()
                .map(|(store, nodes, value)| json!({ "store": store.to_string(), "nodes": nodes, "value": value }))
                .collect();
            json!({ "what": goal.what, "most": goal.most, "unit": goal.unit, "seen": seen })
        };
        Ok(serde_json::to_string_pretty(&json!({
            "samples": self.samples, "idleSeconds": self.idle,
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
            "plain": self.plain.iter().map(plain).collect::<Vec<_>>(),
            "doublings": self.doublings().iter().map(doubling).collect::<Vec<_>>(),
            "goals": self.goals().iter().map(goal).collect::<Vec<_>>(),
        }))?)
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:>6} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8} {:>9} {:>8}",
            "",
            "nodes",
            "ready s",
            "kernel s",
            "user s",
            "join ms",
            "p99 ms",
            "MiB",
            "peak",
            "idle CPU s",
            "look ms"
        )?;
        for case in &self.cases {
            writeln!(
                f,
                "{:<14} {:>6} {:>8.3} {:>8.2} {:>8.2} {:>9.1} {:>9.1} {:>8.1} {:>8.1} {:>9.2} {:>8.1}",
                format!("agent, {}", case.store),
                case.nodes,
                case.programmed,
                case.cpu.kernel,
                case.cpu.user,
                case.join.median,
                case.join.p99,
                case.memory.resident,
                case.memory.peak,
                case.idle.total(),
                case.look.median
            )?;
        }
        for plain in &self.plain {
            writeln!(
                f,
                "{:<14} {:>6} {:>8.3} {:>8.2} {:>8.2}",
                "plain routes", plain.nodes, plain.wall, plain.cpu.kernel, plain.cpu.user
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "From the agent's start until it is ready and the kernel has every route, with the CPU time it took;\n\
             one more node until its route is there ({} joins); resident memory; CPU time over {} idle seconds;\n\
             a turn that finds nothing to do. Plain routes: one VXLAN device without nexthop objects, by iproute2.\n",
            self.samples, self.idle
        )?;
        self.table(f)?;
        writeln!(f)?;
        for Doubling { store, nodes, wall, kernel } in self.doublings() {
            writeln!(
                f,
                "{store}: {nodes} nodes cost {wall:.2} times the time of half as many, {kernel:.2} times the \
                 kernel's (linear: at most {LINEAR})"
            )?;
        }
        for goal in self.goals() {
            for (store, nodes, value) in &goal.seen {
                let Goal { what, most, unit, .. } = goal;
                let met = if *value <= most { "met" } else { "missed" };
                writeln!(
                    f,
                    "goal {met}: {what}, {store}, {nodes} nodes: {value:.2} {unit} (at most {most} {unit})"
                )?;
            }
        }
        Ok(())
    }
}
