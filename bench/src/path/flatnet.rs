//! Flatnet's own pods: `flatnetd` runs on both nodes, and `flatnet` makes the pods as a runtime would have it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use netns_fixtures::{KillOnDrop, NetNs, wait_until};
use serde_json::{Value, json};

use super::nodes::{self, Node, Pod, Pods, SOON};
use crate::cni;

/// What the kernel gives a link of itself, and what pods get unless told otherwise.
pub(crate) const SEGMENT: u32 = 65_536;

/// What the agents are told; all else is as they have it by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) backend: &'static str,
    /// Above 64 KiB it is asked for by `uplinkSegmentSize`.
    pub(crate) segment: u32,
    pub(crate) masquerade: bool,
}

impl Options {
    /// The defaults with this backend.
    pub(crate) const fn new(backend: &'static str) -> Self {
        Self { backend, segment: SEGMENT, masquerade: true }
    }

    /// Lines of the agent's configuration.
    fn lines(self) -> String {
        let uplink = match self.segment {
            SEGMENT => String::new(),
            large => format!("uplinkSegmentSize: {large}\n"),
        };
        format!("backend: {{ type: {} }}\nmasquerade: {}\n{uplink}", self.backend, self.masquerade)
    }
}

/// Where the programs are, and where one cluster keeps its files.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) dir: PathBuf,
}

impl Place<'_> {
    fn state(&self, node: &Node) -> PathBuf {
        self.dir.join(format!("state{}", node.number))
    }

    fn log(&self, node: &Node) -> PathBuf {
        self.dir.join(format!("log{}", node.number))
    }

    fn program(&self, name: &str) -> Result<Command> {
        let program = self.programs.join(name);
        ensure!(program.exists(), "{} is not there (make build builds it)", program.display());
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        Ok(Command::new(program))
    }
}

/// Makes nodes, starts an agent on each, and adds the pods; the agents stop when let go.
///
/// # Errors
/// A program is missing or fails, or the agents are not ready soon.
pub(crate) fn start(place: &Place<'_>, options: Options) -> Result<(Pods, Vec<KillOnDrop>)> {
    fs::create_dir_all(&place.dir)?;
    let nodes = nodes::pair()?;
    let line = |node: &Node| {
        let (i, address) = (node.number, node.address());
        format!("  - {{ name: n{i}, address: {address}, subnets: [10.244.{i}.0/24] }}\n")
    };
    let list: String = nodes.iter().map(line).collect();
    fs::write(place.dir.join("cluster.yaml"), format!("network: {{ ipv4: 10.244.0.0/16 }}\nnodes:\n{list}"))?;
    let mut agents = Vec::new();
    for node in &nodes {
        agents.push(run_agent(place, node, options)?);
    }
    for (node, agent) in nodes.iter().zip(&agents) {
        wait_ready(place, node, agent, options.segment)?;
    }
    let pods = Pods::make(nodes, |node, number| add(place, node, number))?;
    pods.check(options.segment)?;
    Ok((pods, agents))
}

fn run_agent(place: &Place<'_>, node: &Node, options: Options) -> Result<KillOnDrop> {
    let config = place.dir.join(format!("agent{}.yaml", node.number));
    let (i, state, dir) = (node.number, place.state(node), place.dir.display());
    let text = format!(
        "node: n{i}\nstateDir: {}\nlisten: off\nstore:\n  file: {{ path: {dir}/cluster.yaml }}\n{}",
        state.display(),
        options.lines()
    );
    fs::write(&config, text)?;
    let mut command = place.program("flatnetd")?;
    command.arg("run").arg("--config").arg(&config).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(place.log(node))?);
    node.ns.enter_for_child(&mut command)?;
    Ok(KillOnDrop::new(command.spawn().context("start flatnetd")?))
}

fn wait_ready(place: &Place<'_>, node: &Node, agent: &KillOnDrop, segment: u32) -> Result<()> {
    let status = || -> Option<Value> {
        let text = fs::read(place.state(node).join("agent.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let ready = || {
        let seen = status()?;
        let this = seen["pid"].as_u64() == Some(agent.id().into());
        (this && seen["ready"] == true && seen["pods"]["segmentSize"] == segment).then_some(())
    };
    if wait_until("an agent that is ready", SOON, ready).is_err() {
        let log = fs::read_to_string(place.log(node)).unwrap_or_default();
        bail!("the agent of n{} is not ready: {:?}\n{log}", node.number, status());
    }
    Ok(())
}

fn add(place: &Place<'_>, node: &Node, number: u8) -> Result<Pod> {
    let ns = NetNs::new()?;
    let conf = json!({ "cniVersion": "1.1.0", "name": "flatnet", "type": "flatnet",
        "stateDir": place.state(node) });
    let mut command = place.program("flatnet")?;
    cni::call(&mut command, "ADD", &format!("pod{number}"), &ns, &place.programs.display().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    node.ns.enter_for_child(&mut command)?;
    let mut child = command.spawn().context("start flatnet")?;
    child.stdin.take().context("a pipe")?.write_all(conf.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "ADD on n{}: {text}", node.number);
    let result: Value = serde_json::from_str(&text).context("the plugin's result")?;
    let address = result["ips"][0]["address"].as_str().and_then(|a| a.split('/').next());
    Ok(Pod { ns, address: address.context("a result without address")?.parse()? })
}
