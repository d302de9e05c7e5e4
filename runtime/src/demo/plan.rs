//! What the demonstration builds: three nodes, five pods, and the address plan.

use std::{net::IpAddr, path::Path};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::{Backend, Underlay};

/// The port that every pod's first container serves.
pub(super) const PORT: u16 = 8080;
/// The port that a second container serves on localhost only.
pub(super) const LOCAL_PORT: u16 = 9000;

/// The segment of n1 and n2.
pub(super) const NEAR: &str = "a";
/// The segment behind the router.
pub(super) const FAR: &str = "b";

/// A node to be simulated.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodePlan {
    pub(super) name: &'static str,
    pub(super) segment: &'static str,
    pub(super) subnets: [&'static str; 2],
}

/// A pod to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodPlan {
    pub(super) name: &'static str,
    pub(super) node: &'static str,
    pub(super) containers: &'static [&'static str],
}

/// The pods: two on n1 and on n3, so that pods of one node meet too; three have two containers.
pub(super) const PODS: [PodPlan; 5] = [
    PodPlan { name: "web", node: "n1", containers: &["app", "proxy"] },
    PodPlan { name: "cart", node: "n1", containers: &["app"] },
    PodPlan { name: "orders", node: "n2", containers: &["app", "proxy"] },
    PodPlan { name: "mail", node: "n3", containers: &["app"] },
    PodPlan { name: "ledger", node: "n3", containers: &["app", "proxy"] },
];

/// How the nodes carry the pods' packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carriage {
    pub(super) backend: Backend,
    pub(super) underlay: Underlay,
}

impl Carriage {
    /// Checks that the two go together.
    pub(super) fn new(backend: Backend, underlay: Option<Underlay>) -> Result<Self> {
        let underlay = match (backend, underlay) {
            (Backend::Direct, None) => Underlay::Ipv6,
            (Backend::Direct, Some(Underlay::Ipv4)) => bail!(
                "--backend direct --underlay ipv4: Linux has no IPv6 route through an IPv4 gateway, \
                 so the pods' IPv6 addresses could not be reached; use --underlay ipv6, or another backend"
            ),
            (_, chosen) => chosen.unwrap_or(Underlay::Ipv4),
        };
        Ok(Self { backend, underlay })
    }

    /// Whether a packet between these nodes' pods is to be encapsulated, and why (not).
    pub(super) fn encapsulates(self, segments: [&str; 2], pods: IpAddr) -> (bool, &'static str) {
        match self.backend {
            Backend::Vxlan => (true, "backend vxlan"),
            Backend::Direct => (false, "backend direct"),
            Backend::Auto if segments[0] != segments[1] => (true, "across the router"),
            Backend::Auto if pods.is_ipv6() && self.underlay == Underlay::Ipv4 => {
                (true, "IPv6 over an IPv4 fabric")
            }
            Backend::Auto => (false, "same segment"),
        }
    }
}

/// The nodes. The router knows no pod routes, so for `direct` all are on one segment.
pub(super) fn nodes(backend: Backend) -> [NodePlan; 3] {
    let far = match backend {
        Backend::Auto | Backend::Vxlan => FAR,
        Backend::Direct => NEAR,
    };
    let node = |name, segment, subnets| NodePlan { name, segment, subnets };
    [
        node("n1", NEAR, ["10.244.1.0/24", "fd00:10:244:1::/64"]),
        node("n2", NEAR, ["10.244.2.0/24", "fd00:10:244:2::/64"]),
        node("n3", far, ["10.244.3.0/24", "fd00:10:244:3::/64"]),
    ]
}

/// The segments of two nodes.
pub(super) fn segments(backend: Backend, names: [&str; 2]) -> [&'static str; 2] {
    let nodes = nodes(backend);
    names.map(|name| nodes.iter().find(|node| node.name == name).map_or("", |node| node.segment))
}

/// The file store: the whole network, and each node's place in it.
pub(super) fn cluster_file(nodes: &[(NodePlan, Option<IpAddr>)]) -> Value {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(node, address)| json!({ "name": node.name, "address": address, "subnets": node.subnets }))
        .collect();
    json!({ "network": { "ipv4": "10.244.0.0/16", "ipv6": "fd00:10:244::/56" }, "nodes": nodes })
}

/// The agents' configuration, but for what differs from node to node.
pub(super) fn agent_config(backend: Backend, cluster_file: &Path) -> Value {
    json!({
        "interface": "auto",
        "listen": "off",
        "backend": { "type": backend.name() },
        "store": { "file": { "path": cluster_file } },
    })
}
