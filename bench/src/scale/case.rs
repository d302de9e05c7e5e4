//! One case: an agent of its own in a namespace of its own, with so many nodes in its store.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Node, UPLINK};

use super::agent::{Agent, Turns};
use super::cluster::Simulated;
use super::process::{Cpu, Memory};
use super::routes::{self, Monitor};
use super::store::{Kind, Store};
use super::{Args, pause, plain};
use crate::sample::Sample;

/// The agent's VXLAN device over an IPv4 underlay.
const DEVICE: &str = "flat.1";
/// The agent looks again at what it changed itself within this time.
const SETTLED: Duration = Duration::from_millis(1500);
/// Forced looks.
const LOOKS: usize = 10;
/// After a turn the agent rests at most so many times as long, and it takes two for a change of its own...
const RESTS: f64 = 8.0;
/// ...but never longer than this.
const REST_MOST: f64 = 2.0;

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) store: Kind,
    pub(crate) nodes: u16,
    /// Seconds from the process's start until it was ready and the kernel had every route.
    pub(crate) programmed: f64,
    /// CPU time by then.
    pub(crate) cpu: Cpu,
    /// After it has settled.
    pub(crate) memory: Memory,
    /// After all joins.
    pub(crate) after: Memory,
    /// CPU time over [`Args::idle`] seconds in which nothing happened.
    pub(crate) idle: Cpu,
    /// Milliseconds of a turn that finds nothing to do, as the agent counts.
    pub(crate) look: Sample,
    /// Milliseconds from a node's entry in the store to the route in the kernel.
    pub(crate) join: Sample,
}

/// Measures one case on `node`, with files below `dir`.
///
/// # Errors
/// Something does not run, or the agent does not do what it should.
pub(crate) fn measure(args: &Args, (store, nodes): (Kind, u16), node: &Node, dir: &Path) -> Result<Case> {
    let run = || -> Result<Case> {
        let Some(IpAddr::V4(address)) = node.v4() else { anyhow::bail!("the node has no IPv4 address") };
        let mut kept = Store::prepare(store, dir, (&node.ns, address), nodes)?;
        let mut agent = Agent::start(&args.bin_dir.join("flatnetd"), &node.ns, dir, &kept.configuration())?;
        let all = || Ok(routes::count(DEVICE)? == usize::from(nodes));
        let (programmed, cpu) = agent.ready(all)?;
        agent.turns_after(Turns::NONE, SETTLED)?;
        let memory = agent.memory()?;
        let idle = idle(&agent, Duration::from_secs(args.idle))?;
        let look = looks(&agent)?;
        let join = joins(&mut kept, args.samples, look.median)?;
        let there = routes::count(DEVICE)?;
        ensure!(there == usize::from(nodes) + args.samples, "{there} routes after {} joins", args.samples);
        let after = agent.memory()?;
        Ok(Case { store, nodes, programmed: programmed.as_secs_f64(), cpu, memory, after, idle, look, join })
    };
    node.ns.run(run)?.with_context(|| format!("{nodes} nodes in {store}"))
}

/// The peer's work on a node of its own.
///
/// # Errors
/// As [`plain::program`].
pub(crate) fn measure_plain(nodes: u16, node: &Node, dir: &Path) -> Result<plain::Plain> {
    node.ns.run(|| plain::program(nodes, UPLINK, dir))?.with_context(|| format!("{nodes} plain routes"))
}

fn idle(agent: &Agent, time: Duration) -> Result<Cpu> {
    let before = agent.cpu()?;
    pause(time);
    Ok(agent.cpu()?.since(before))
}

/// A change of `lo` that means nothing makes the agent look.
fn looks(agent: &Agent) -> Result<Sample> {
    let mut all = Vec::new();
    let mut before = agent.turns()?;
    for i in 0..LOOKS {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        let mut command = Command::new("ip");
        let status = command.args(["link", "set", "dev", "lo", "alias", &format!("look{i}")]).status()?;
        ensure!(status.success(), "ip link set dev lo alias: {status}");
        let after = agent.turns_after(before, Duration::from_millis(20))?;
        all.push((after.sum - before.sum) / (after.count - before.count) * 1e3);
        before = after;
    }
    Ok(Sample::of(&all))
}

/// Nodes join one at a time, each after a quiet while: `look` is how many milliseconds a turn takes.
fn joins(store: &mut Store, samples: usize, look: f64) -> Result<Sample> {
    let rest = Duration::from_secs_f64((look / 1e3 * RESTS).min(REST_MOST) + 0.05);
    let mut monitor = Monitor::open()?;
    let mut all = Vec::new();
    for node in Simulated::joining().take(samples) {
        pause(rest);
        let start: Instant = store.join(node)?;
        let subnet: Ipv4Addr = node.subnet();
        all.push(monitor.wait_for(subnet)?.saturating_duration_since(start).as_secs_f64() * 1e3);
    }
    Ok(Sample::of(&all))
}
