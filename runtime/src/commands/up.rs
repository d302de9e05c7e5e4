//! `up`: a cluster of simulated nodes on one fabric, with a real agent on each. Nodes fail and heal.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, error::ErrorKind};
use jiff::Timestamp;
use netns_fixtures::{Cable, Fabric, NetNs, Node, set_cable, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

use super::node::say;
use crate::{
    carriage::{Backend, Carriage, CarriageArgs},
    entrance,
    log::LimitsArgs,
    programs::Programs,
    sandbox::{pin, unpin},
    seccomp::SeccompArgs,
    state::{NodeDir, NodeRecord, ProcessId, Root, read_json, write_json},
};

/// The segment that nodes are on, and the one behind the router.
const NEAR: &str = "a";
const FAR: &str = "b";
/// For an agent to publish what the plugin needs, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many lines of an agent that is not well are shown.
const LAST_WORDS: usize = 8;
/// As many as the address plan has room for.
const NODES_MAX: u8 = 200;

/// How large a cluster.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How many nodes: n1, n2, ...
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(NODES_MAX)))]
    nodes: u8,
    /// How many of them, the last ones, are on a segment of their own behind a router, which knows no pod routes
    #[arg(long, value_name = "NODES", default_value_t = 0)]
    far: u8,
    #[command(flatten)]
    carriage: CarriageArgs,
    /// Where flatnet and flatnetd are [default: beside flatpod]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// The longest wait in seconds before a container is restarted
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    max_container_restart_period: Option<u64>,
    #[command(flatten)]
    log: LimitsArgs,
    #[command(flatten)]
    seccomp: SeccompArgs,
    /// For how many seconds the pods of workloads wait for a node that has failed, before others take their place
    /// elsewhere [default: 5; Kubernetes waits 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    node_grace: Option<u64>,
}

impl UpArgs {
    /// How packets are carried, where that can be.
    fn carriage(&self) -> Result<Carriage, clap::Error> {
        let carriage = self.carriage.carriage()?;
        let wrong = match (self.far, carriage.backend) {
            (0, _) => return Ok(carriage),
            (far, _) if far > self.nodes => format!("--far {far}: there are {} nodes\n", self.nodes),
            (far, Backend::Direct) if far < self.nodes => {
                format!("--far {far} --backend direct: the router knows no pod routes; use another backend\n")
            }
            _ => return Ok(carriage),
        };
        Err(clap::Error::raw(ErrorKind::ArgumentConflict, wrong))
    }
}

/// Makes the cluster.
pub(crate) fn run(root: &Root, args: &UpArgs) -> Result<ExitCode> {
    let carriage = args.carriage()?;
    if !root.nodes()?.is_empty() {
        bail!("there are nodes already: `flatpod down` deletes them");
    }
    let programs = Programs::find(args.bin_dir.as_deref())?;
    // What an earlier, unfinished attempt left.
    remove_fabric(root)?;
    let dir = fabric_dir(root);
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let mut fabric = Fabric::two_segments()?;
    pin(&fabric.switch.path(), &dir.join("switch"))?;
    pin(&fabric.router.path(), &dir.join("router"))?;
    let mut places = vec![];
    for number in 1..=args.nodes {
        let segment = if number > args.nodes - args.far { FAR } else { NEAR };
        places.push((number, fabric.node(&format!("n{number}"), segment)?));
    }
    write_json(&cluster_file(root), &cluster(&places, carriage))?;
    for (_, place) in &places {
        let node = root.node(&place.name);
        let record = join(&node, place, args, &programs)?;
        start_agent(root, &node, &record, (&programs.flatnetd, carriage.backend))?;
    }
    for (number, place) in &places {
        let node = root.node(&place.name);
        wait_ready(&node, &place.name)?;
        let uplink = carriage.underlay.address(place).map_or_else(String::new, |ip| ip.to_string());
        let [pods, _] = subnets(*number);
        let backend = carriage.backend.name();
        say(&format!("node/{} created   pod CIDR {pods}   uplink {uplink}   backend {backend}", place.name))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kills a node's agent and pulls its cable.
pub(super) fn fail(root: &Root, name: &str) -> Result<()> {
    let node = root.node(name);
    let record = node.record()?;
    let agent: Option<ProcessId> = read_json(&agent_file(&node))?;
    agent.map_or(Ok(()), |agent| agent.signal(Signal::SIGKILL))?;
    cable(root, &record, Cable::Out)?;
    let since = node.failure()?.unwrap_or_else(Timestamp::now);
    node.put_failure(Some(since))
}

/// Plugs a node's cable in and starts its agent again.
pub(super) fn heal(root: &Root, name: &str, bin_dir: Option<&Path>) -> Result<()> {
    let node = root.node(name);
    let record = node.record()?;
    cable(root, &record, Cable::In)?;
    let agent: Option<ProcessId> = read_json(&agent_file(&node))?;
    if !agent.is_some_and(ProcessId::is_alive) {
        let config = node.path().join("agent.yaml");
        spawn_agent(&node, &record, &Programs::find(bin_dir)?.flatnetd, &config)?;
    }
    node.put_failure(None)
}

/// Ends a node's agent, if it has one.
pub(super) fn stop_agent(node: &NodeDir) -> Result<()> {
    let Some(agent): Option<ProcessId> = read_json(&agent_file(node))? else {
        return Ok(());
    };
    agent.signal(Signal::SIGTERM)?;
    let ended = || (!agent.is_alive()).then_some(());
    if wait_until("the agent to end", PATIENCE, ended).is_err() {
        agent.signal(Signal::SIGKILL)?;
    }
    Ok(())
}

/// Removes the fabric; nodes must have gone.
pub(super) fn remove_fabric(root: &Root) -> Result<()> {
    let dir = fabric_dir(root);
    if !dir.exists() {
        return Ok(());
    }
    for name in ["switch", "router"] {
        unpin(&dir.join(name))?;
    }
    fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))
}

/// Makes the node of a place on the fabric.
fn join(node: &NodeDir, place: &Node, args: &UpArgs, programs: &Programs) -> Result<NodeRecord> {
    let mut record = node.simulated();
    record.addresses = place.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
    record.port = Some(place.port().to_owned());
    record.max_restart_period = args.max_container_restart_period;
    record.log = args.log.limits();
    record.seccomp = args.seccomp.profile();
    record.grace = args.node_grace;
    let own = programs.flatnet.parent().context("a program is in a directory")?;
    record.cni_bin_dirs.insert(0, own.to_owned());
    let conf = &record.cni_conf_dir;
    fs::create_dir_all(conf).with_context(|| format!("create {}", conf.display()))?;
    let net = node.path().join("net");
    unpin(&net)?;
    pin(&place.ns.path(), &net)?;
    let plugin = json!({
        "type": "flatnet", "stateDir": state_dir(node),
        "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true },
    });
    let versions = ["0.4.0", "1.0.0", "1.1.0"];
    let list =
        json!({ "cniVersion": "1.1.0", "cniVersions": versions, "name": "flatnet", "plugins": [plugin] });
    write_json(&conf.join("10-flatnet.conflist"), &list)?;
    node.put(&record)?;
    Ok(record)
}

fn start_agent(
    root: &Root,
    node: &NodeDir,
    record: &NodeRecord,
    (flatnetd, backend): (&Path, Backend),
) -> Result<()> {
    let config = json!({
        "node": record.name,
        "stateDir": state_dir(node),
        "interface": "auto",
        "listen": "off",
        "backend": { "type": backend.name() },
        "store": { "file": { "path": cluster_file(root) } },
    });
    // JSON is YAML.
    let file = node.path().join("agent.yaml");
    write_json(&file, &config)?;
    spawn_agent(node, record, flatnetd, &file)
}

fn spawn_agent(node: &NodeDir, record: &NodeRecord, flatnetd: &Path, config: &Path) -> Result<()> {
    let state = state_dir(node);
    fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let log =
        OpenOptions::new().create(true).append(true).open(log_file(node)).context("open the agent's log")?;
    let mut command = entrance::command(record, flatnetd)?;
    command.arg("run").arg("--config").arg(config).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone().context("share the agent's log")?).stderr(log);
    let child = command.spawn().with_context(|| format!("start {}", flatnetd.display()))?;
    // The process becomes the agent, and keeps its number and its start.
    let agent = ProcessId::of(i32::try_from(child.id())?).context("the agent ended at once")?;
    write_json(&agent_file(node), &agent)
}

fn wait_ready(node: &NodeDir, name: &str) -> Result<()> {
    let snapshot = state_dir(node).join("node.json");
    let agent: ProcessId = read_json(&agent_file(node))?.context("no agent was started")?;
    let what = format!("{} from the agent", snapshot.display());
    let lives = wait_until(&what, PATIENCE, || match snapshot.exists() {
        true => Some(true),
        false => (!agent.is_alive()).then_some(false),
    });
    match lives {
        Ok(true) => return Ok(()),
        Ok(false) => Err(anyhow!("it ended")),
        Err(timeout) => Err(timeout.into()),
    }
    .with_context(|| format!("flatnetd of {name}, which wrote:\n  {}\n", last_words(node)))
}

/// The last lines that a node's agent wrote.
fn last_words(node: &NodeDir) -> String {
    let log = fs::read_to_string(log_file(node)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n  ")
}

fn cable(root: &Root, record: &NodeRecord, how: Cable) -> Result<()> {
    let port = record.port.as_deref();
    let port =
        port.with_context(|| format!("node {} is on no fabric: `flatpod up` makes one", record.name))?;
    Ok(set_cable(&NetNs::open(fabric_dir(root).join("switch"))?, port, how)?)
}

/// The store that all agents read.
fn cluster(places: &[(u8, Node)], carriage: Carriage) -> serde_json::Value {
    let one = |(number, place): &(u8, Node)| {
        let address = carriage.underlay.address(place);
        json!({ "name": place.name, "address": address, "subnets": subnets(*number) })
    };
    let nodes: Vec<_> = places.iter().map(one).collect();
    json!({ "network": { "ipv4": "10.244.0.0/16", "ipv6": "fd00:10:244::/56" }, "nodes": nodes })
}

fn subnets(number: u8) -> [String; 2] {
    [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number:x}::/64")]
}

fn fabric_dir(root: &Root) -> PathBuf {
    root.path().join("fabric")
}

fn cluster_file(root: &Root) -> PathBuf {
    fabric_dir(root).join("cluster.yaml")
}

fn state_dir(node: &NodeDir) -> PathBuf {
    node.path().join("flatnet")
}

fn agent_file(node: &NodeDir) -> PathBuf {
    node.path().join("agent.json")
}

fn log_file(node: &NodeDir) -> PathBuf {
    node.path().join("agent.log")
}
