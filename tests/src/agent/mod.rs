//! A cluster of agents: two nodes on one segment, a third behind a router, each in a namespace of its own
//! with a real `flatnetd`. A pod is an address on the node's `lo`, which is all that the agent sees of one.

mod node;
mod traffic;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use netns_fixtures::probe::{Ping, Pong};
use netns_fixtures::{Fabric, FixtureError};

pub use node::AgentNode;
pub use traffic::{Loss, Traffic};

/// Long enough for a busy machine; nothing waits this long where all is well.
pub const SOON: Duration = Duration::from_secs(10);

/// Which family carries packets between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// The nodes' addresses in the cluster file are IPv4.
    V4,
    /// They are IPv6.
    V6,
}

/// Three nodes with agents.
#[derive(Debug)]
pub struct Agents {
    /// What joins them.
    pub fabric: Fabric,
    /// `n1` and `n2` on segment `a`, `n3` on segment `b`.
    pub nodes: Vec<AgentNode>,
    dir: tempfile::TempDir,
    underlay: Underlay,
}

impl Agents {
    /// Builds the fabric and starts three agents; `backend` is the inside of the configuration's braces.
    ///
    /// # Panics
    /// Something cannot be made, or an agent is not ready soon.
    #[must_use]
    pub fn start(backend: &str, underlay: Underlay) -> Self {
        let mut agents = Self::prepare(backend, underlay);
        agents.write_cluster(&agents.cluster(&[1, 2, 3]));
        for node in &mut agents.nodes {
            node.start();
        }
        agents.nodes.iter().for_each(AgentNode::wait_ready);
        agents
    }

    /// Everything but a cluster file and running agents.
    ///
    /// # Panics
    /// Something cannot be made.
    #[must_use]
    pub fn prepare(backend: &str, underlay: Underlay) -> Self {
        netns_fixtures::gate::require();
        let mut fabric = Fabric::two_segments().expect("a fabric");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("store")).expect("a directory");
        let mut node = |i: usize, segment: &str| {
            let node = fabric.node(&format!("n{i}"), segment).expect("a node");
            AgentNode::prepare(node, i, dir.path(), backend)
        };
        let nodes = vec![node(1, "a"), node(2, "a"), node(3, "b")];
        Self { fabric, nodes, dir, underlay }
    }

    /// Node `i`, from 1.
    #[must_use]
    pub fn node(&self, i: usize) -> &AgentNode {
        &self.nodes[i - 1]
    }

    /// Node `i`, from 1.
    #[must_use]
    pub fn node_mut(&mut self, i: usize) -> &mut AgentNode {
        &mut self.nodes[i - 1]
    }

    /// The cluster file's path.
    #[must_use]
    pub fn cluster_path(&self) -> PathBuf {
        self.dir.path().join("store/cluster.yaml")
    }

    /// A dual-stack cluster file with these nodes.
    ///
    /// # Panics
    /// A node has no address of the underlay's family.
    #[must_use]
    pub fn cluster(&self, members: &[usize]) -> String {
        let line = |i: &usize| {
            let node = &self.node(*i).node;
            let address = match self.underlay {
                Underlay::V4 => node.v4(),
                Underlay::V6 => node.v6(),
            };
            let address = address.expect("segments have both families");
            format!(
                "  - {{ name: n{i}, address: \"{address}\", \
                 subnets: [10.244.{i}.0/24, \"fd00:10:244:{i}::/64\"] }}\n"
            )
        };
        let nodes: String = members.iter().map(line).collect();
        format!("network: {{ ipv4: 10.244.0.0/16, ipv6: \"fd00:10:244::/56\" }}\nnodes:\n{nodes}")
    }

    /// Puts a cluster file in place, whole.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_cluster(&self, text: &str) {
        let beside = self.dir.path().join("store/cluster.new");
        std::fs::write(&beside, text).expect("write the cluster");
        std::fs::rename(&beside, self.cluster_path()).expect("rename the cluster");
    }

    /// Pings from the pod of node `a` to that of node `b`.
    ///
    /// # Errors
    /// No answer.
    pub fn ping(&self, a: usize, b: usize, family: Underlay) -> Result<Pong, FixtureError> {
        Ping::to(pod(b, family)).from(pod(a, family)).send(&self.node(a).node.ns, SOON)
    }

    /// Every pod reaches every other one, in both families.
    ///
    /// # Panics
    /// One does not.
    pub fn all_reach_all(&self) {
        for (a, b) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            for family in [Underlay::V4, Underlay::V6] {
                let answer = self.ping(a, b, family);
                assert!(answer.is_ok(), "n{a} to n{b}, {family:?}: {answer:?}\n{}", self.node(a).log());
            }
        }
    }
}

/// The address of node `i`'s pod.
///
/// # Panics
/// Never.
#[must_use]
pub fn pod(i: usize, family: Underlay) -> IpAddr {
    let text = match family {
        Underlay::V4 => format!("10.244.{i}.9"),
        Underlay::V6 => format!("fd00:10:244:{i}::9"),
    };
    text.parse().expect("an address")
}
