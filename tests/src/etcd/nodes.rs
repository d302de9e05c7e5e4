//! Nodes on a fabric, whose agents have an etcd on that fabric as their store.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{Fabric, NetNs, Segment};
use serde_json::Value;

use super::Member;
use crate::agent::{AgentNode, SOON};

/// Nodes, and what joins them.
#[derive(Debug)]
pub struct EtcdNodes {
    /// The members of the store, all on one host of segment `a`.
    pub etcd: Vec<Member>,
    /// The nodes, in the order in which they were asked for.
    pub nodes: Vec<AgentNode>,
    /// Where files are.
    pub dir: tempfile::TempDir,
    /// The store's address.
    pub store: IpAddr,
    _fabric: Fabric,
}

impl EtcdNodes {
    /// Nodes on these segments (`a`, `b`) and a store of so many members. Nothing runs yet.
    ///
    /// # Panics
    /// Something cannot be made.
    #[must_use]
    pub fn prepare(segments: &str, members: u16) -> Self {
        netns_fixtures::gate::require();
        let mut fabric = Fabric::builder()
            .segment(Segment::new("a").v4("192.0.2.0/24"))
            .segment(Segment::new("b").v4("198.51.100.0/24"))
            .build()
            .expect("a fabric");
        let dir = tempfile::tempdir().expect("a directory");
        let host = fabric.node("store", "a").expect("a node");
        let store = host.v4().expect("an address");
        let etcd = (0..members).map(|i| Member::prepare(&host.ns, store, (i, members), dir.path())).collect();
        let mut node = |(i, segment): (usize, char)| {
            let node = fabric.node(&format!("n{}", i + 1), &segment.to_string()).expect("a node");
            AgentNode::prepare(node, i + 1, dir.path(), "")
        };
        let nodes: Vec<AgentNode> = segments.chars().enumerate().map(&mut node).collect();
        let all = Self { etcd, nodes, dir, store, _fabric: fabric };
        (1..=all.nodes.len()).for_each(|i| all.configure(i, "", ""));
        all
    }

    /// Writes node `i`'s configuration: further keys of `etcd`, each after a comma, and of the whole.
    pub fn configure(&self, i: usize, etcd: &str, further: &str) {
        let node = self.node(i);
        let endpoints: Vec<String> =
            self.etcd.iter().map(|member| format!("\"{}\"", member.endpoint())).collect();
        node.configure_with(&format!(
            "node: n{i}\nstateDir: {}\nlisten: 127.0.0.1:9473\nstore:\n  \
             etcd: {{ endpoints: [{}]{etcd} }}\n{further}",
            node.state.display(),
            endpoints.join(", ")
        ));
    }

    /// Starts the store with this network in it.
    ///
    /// # Panics
    /// It does not serve, soon.
    pub fn start_store(&mut self, network: &str) {
        self.etcd.iter_mut().for_each(Member::start);
        self.etcd.iter().for_each(Member::wait_healthy);
        self.etcd[0].ctl(&["put", "/coreos.com/network/config", network]);
    }

    /// Starts all agents at once and waits until they are ready.
    ///
    /// # Panics
    /// One is not, soon.
    pub fn start_agents(&mut self) {
        self.nodes.iter_mut().for_each(AgentNode::start);
        self.nodes.iter().for_each(AgentNode::wait_ready);
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

    /// The subnet that node `i` tells its pods.
    ///
    /// # Panics
    /// It tells none.
    #[must_use]
    pub fn subnet(&self, i: usize) -> IpNetwork {
        let text = std::fs::read(self.node(i).state.join("node.json")).expect("a node snapshot");
        let snapshot: Value = serde_json::from_slice(&text).expect("JSON");
        snapshot["subnets"][0].as_str().expect("a subnet").parse().expect("a network")
    }

    /// The key of a subnet.
    #[must_use]
    pub fn key(subnet: IpNetwork) -> String {
        format!("/coreos.com/network/subnets/{}-{}", subnet.ip(), subnet.prefix())
    }

    /// All keys below `subnets/`.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let text = self.etcd[0].ctl(&["get", "--prefix", "--keys-only", "/coreos.com/network/subnets/"]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// A key with its value and its lease.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<(Value, i64)> {
        let all: Value = serde_json::from_str(&self.etcd[0].ctl(&["get", "-w", "json", key])).expect("JSON");
        let value = self.etcd[0].ctl(&["get", "--print-value-only", key]);
        let lease = all["kvs"][0]["lease"].as_i64().unwrap_or(0);
        Some((serde_json::from_str(value.trim()).ok()?, lease))
    }

    /// A real pod on node `i`, and its address.
    ///
    /// # Panics
    /// The plugin refuses.
    #[must_use]
    pub fn pod(&self, i: usize, name: &str) -> (NetNs, IpAddr) {
        let ns = NetNs::new().expect("a namespace");
        let result = self.node(i).plugin("ADD", name, &ns);
        let address = result["ips"][0]["address"].as_str().expect("an address");
        (ns, address.split('/').next().expect("an address").parse().expect("an address"))
    }

    /// One pod reaches the other, and is seen as who it is.
    ///
    /// # Panics
    /// It does not, or is not.
    pub fn reaches(&self, from: &NetNs, (to, address): &(NetNs, IpAddr)) {
        let server = TcpServer::start(to, (*address, 80).into()).expect("a server");
        let seen = tcp_probe(from, None, server.address(), SOON);
        assert!(seen.as_ref().is_ok_and(|seen| seen.is_untranslated()), "{address}: {seen:?}");
    }
}
