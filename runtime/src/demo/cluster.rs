//! The simulated cluster: fabric, nodes with agents, pods.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use netns_fixtures::{Fabric, Node, wait_until};

use super::{
    container::{Answer, Container, Refusal, Request},
    node::{Programs, SimNode},
    plan::{self, Carriage, PODS, PORT, PodPlan},
    sandbox::Sandbox,
};
use crate::cli::Underlay;

/// Where everything is: the enclosure's own tmpfs.
const ROOT: &str = "/run/flatpod";
/// For an agent to publish its snapshot, and for routes to be in place.
const SETTLE: Duration = Duration::from_secs(8);
/// For one look at whether a pod is reachable yet.
const GLANCE_MS: u64 = 200;

/// A running cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) pods: Vec<Pod>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) fabric: Fabric,
}

/// A running pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) name: &'static str,
    pub(super) node: &'static str,
    /// Its IPv4 and its IPv6 address.
    pub(super) addresses: [IpAddr; 2],
    pub(super) containers: Vec<Mutex<Container>>,
    sandbox: Sandbox,
}

impl Pod {
    /// Asks its first container.
    pub(super) fn ask(&self, request: Request) -> Result<Result<Answer, Refusal>> {
        self.ask_container(0, request)
    }

    /// Asks one of its containers.
    pub(super) fn ask_container(&self, at: usize, request: Request) -> Result<Result<Answer, Refusal>> {
        let container = self.containers.get(at);
        let container = container.with_context(|| format!("{} has no container {at}", self.name))?;
        container.lock().unwrap_or_else(PoisonError::into_inner).ask(&request)
    }

    fn start(plan: &PodPlan, node: &SimNode) -> Result<Self> {
        let dir = Path::new(ROOT).join("pods").join(plan.name);
        let sandbox = Sandbox::create(plan.name, &dir, &node.plugin)?;
        let find = |wanted: fn(&&IpAddr) -> bool| sandbox.addresses.iter().find(wanted).copied();
        let (v4, v6) = (find(|ip| ip.is_ipv4()), find(|ip| ip.is_ipv6()));
        let (Some(v4), Some(v6)) = (v4, v6) else {
            bail!("pod {} got the addresses {:?}, not one of each family", plan.name, sandbox.addresses);
        };
        let start = |name: &&str| sandbox.start(name).map(Mutex::new);
        let containers = plan.containers.iter().map(start).collect::<Result<_>>()?;
        let pod = Self { name: plan.name, node: plan.node, addresses: [v4, v6], containers, sandbox };
        let address = ([0; 16], PORT).into();
        pod.ask(Request::Serve { address })?
            .map_err(|e| anyhow!("{e}"))
            .with_context(|| format!("serve port {PORT} in pod {}", pod.name))?;
        Ok(pod)
    }
}

impl Cluster {
    /// Lays the fabric, starts an agent on each node, and waits until all have published.
    pub(super) fn build(carriage: Carriage, programs: &Programs) -> Result<Self> {
        let mut fabric = Fabric::two_segments()?;
        let mut places = Vec::new();
        for node in plan::nodes(carriage.backend) {
            places.push((node, fabric.node(node.name, node.segment)?));
        }
        fs::create_dir_all(ROOT).with_context(|| format!("create {ROOT}"))?;
        let cluster_file = PathBuf::from(ROOT).join("cluster.yaml");
        let address = |place: &Node| match carriage.underlay {
            Underlay::Ipv4 => place.v4(),
            Underlay::Ipv6 => place.v6(),
        };
        let listed: Vec<_> = places.iter().map(|(node, place)| (*node, address(place))).collect();
        fs::write(&cluster_file, plan::cluster_file(&listed).to_string())
            .context("write the cluster file")?;
        let config = plan::agent_config(carriage.backend, &cluster_file);
        let mut nodes = Vec::new();
        for (node, place) in places {
            let dir = Path::new(ROOT).join("nodes").join(node.name);
            nodes.push(SimNode::start(place, dir, programs, &config)?);
        }
        nodes.iter_mut().try_for_each(|node| node.wait_ready(SETTLE))?;
        Ok(Self { pods: Vec::new(), nodes, fabric })
    }

    /// Starts every pod of the plan.
    pub(super) fn start_pods(&mut self) -> Result<()> {
        for plan in &PODS {
            let pod = Pod::start(plan, self.node(plan.node)?)?;
            self.pods.push(pod);
        }
        Ok(())
    }

    /// Waits until the agents' routes carry packets between every two nodes, both families.
    pub(super) fn settle(&self) -> Result<()> {
        for (from, to) in self.pairs().filter(|(from, to)| from.node != to.node) {
            self.wait_reachable(from, to, SETTLE)?;
        }
        Ok(())
    }

    /// Waits until `from` reaches `to` by both families.
    pub(super) fn wait_reachable(&self, from: &Pod, to: &Pod, within: Duration) -> Result<()> {
        for address in to.addresses {
            let request = Request::Ping { to: address, within_ms: GLANCE_MS };
            let what = format!("{} ({}) reaching {} ({})", from.name, from.node, to.name, to.node);
            wait_until(&what, within, || match from.ask(request) {
                Ok(Ok(_)) => Some(Ok(())),
                Ok(Err(_)) => None,
                Err(dead) => Some(Err(dead)),
            })
            .with_context(|| self.logs_of([from.node, to.node]))??;
        }
        Ok(())
    }

    /// Detaches a pod from the network, as a runtime does before it removes a sandbox.
    pub(super) fn detach(&self, pod: &Pod) -> Result<()> {
        pod.sandbox.detach(&self.node(pod.node)?.plugin)
    }

    /// The pod of that name.
    pub(super) fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.iter().find(|p| p.name == name).with_context(|| format!("no pod {name}"))
    }

    /// The node of that name.
    pub(super) fn node(&self, name: &str) -> Result<&SimNode> {
        self.nodes.iter().find(|n| n.place.name == name).with_context(|| format!("no node {name}"))
    }

    /// Every pod with every other one.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Pod, &Pod)> {
        self.pods.iter().flat_map(move |from| {
            self.pods.iter().filter(move |to| to.name != from.name).map(move |to| (from, to))
        })
    }

    fn logs_of(&self, nodes: [&str; 2]) -> String {
        let logs = nodes.iter().filter_map(|name| self.node(name).ok()).map(SimNode::log_tail);
        logs.collect::<Vec<_>>().join("\n")
    }
}
