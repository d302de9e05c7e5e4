//! Nodes on a fabric, whose agents have an API server on that fabric as their store.

use std::net::IpAddr;

use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{Fabric, NetNs, Node, Segment};

use super::ApiServer;
use crate::agent::{AgentNode, SOON};
use crate::etcd::Certificates;
use crate::manifest;

/// Nodes, the API server, and what joins them.
#[derive(Debug)]
pub struct KubeNodes {
    /// The nodes, in the order in which they were asked for.
    pub nodes: Vec<AgentNode>,
    /// The API server.
    pub api: ApiServer,
    /// Where it runs.
    pub host: Node,
    /// What joins them.
    pub fabric: Fabric,
    /// Where files are.
    pub dir: tempfile::TempDir,
}

impl KubeNodes {
    /// Nodes on these segments (`a`, `b`), known to an API server that runs. No agent runs yet.
    ///
    /// # Panics
    /// Something cannot be made.
    #[must_use]
    pub fn prepare(segments: &str) -> Self {
        netns_fixtures::gate::require();
        let mut fabric = Fabric::builder()
            .segment(Segment::new("a").v4("192.0.2.0/24"))
            .segment(Segment::new("b").v4("198.51.100.0/24"))
            .build()
            .expect("a fabric");
        let dir = tempfile::tempdir().expect("a directory");
        let host = fabric.node("api", "a").expect("a node");
        let ip = host.v4().expect("an address");
        let certificates = Certificates::make(dir.path(), ip);
        let mut api = ApiServer::prepare(ip, Some(&certificates));
        api.start(&host.ns);
        let mut node = |(i, segment): (usize, char)| {
            let node = fabric.node(&format!("n{}", i + 1), &segment.to_string()).expect("a node");
            AgentNode::prepare(node, i + 1, dir.path(), "")
        };
        let nodes: Vec<AgentNode> = segments.chars().enumerate().map(&mut node).collect();
        let all = Self { nodes, api, host, fabric, dir };
        all.write_token("first");
        all.api.set_token("first");
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{ name: c, cluster: {{ server: \"{}\", certificate-authority: {} }} }}]\n\
             users: [{{ name: u, user: {{ tokenFile: {} }} }}]\n\
             contexts: [{{ name: x, context: {{ cluster: c, user: u }} }}]\ncurrent-context: x\n",
            all.api.url(),
            certificates.ca.display(),
            all.dir.path().join("token").display()
        );
        std::fs::write(all.dir.path().join("kubeconfig"), kubeconfig).expect("write a file");
        for i in 1..=all.nodes.len() {
            all.configure(i, r#"{ Network: 10.244.0.0/16, Backend: { Type: vxlan } }"#, "");
            all.register(i, &[&format!("10.244.{i}.0/24")]);
        }
        all
    }

    /// Writes node `i`'s configuration: the network, and further keys.
    pub fn configure(&self, i: usize, network: &str, further: &str) {
        let node = self.node(i);
        node.configure_with(&format!(
            "node: n{i}\nstateDir: {}\nlisten: 127.0.0.1:9473\nstore:\n  \
             kubernetes: {{ kubeconfig: {}, network: {network} }}\n{further}",
            node.state.display(),
            self.dir.path().join("kubeconfig").display()
        ));
    }

    /// Writes node `i`'s configuration as the manifest has it, but for the directories.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure_as_shipped(&self, i: usize) {
        let (node, shipped) = (self.node(i), manifest::object("ConfigMap"));
        let directory = node.state.join("net.d");
        std::fs::create_dir_all(&directory).expect("a directory");
        let text = shipped["data"]["agent.yaml"].as_str().expect("text");
        let text = text.replace("/host/etc/cni/net.d", &directory.display().to_string());
        node.configure_with(&format!("{text}\nstateDir: {}\n", node.state.display()));
    }

    /// Node `i` registers with the API server.
    ///
    /// # Panics
    /// It has no address.
    pub fn register(&self, i: usize, subnets: &[&str]) {
        let address = self.node(i).node.v4().expect("an address").to_string();
        self.api.add_node(&format!("n{i}"), &address, subnets);
    }

    /// The token that agents find.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_token(&self, token: &str) {
        let (path, beside) = (self.dir.path().join("token"), self.dir.path().join("token.new"));
        std::fs::write(&beside, token).expect("write a file");
        std::fs::rename(beside, path).expect("rename a file");
    }

    /// Starts all agents at once and waits until they are ready.
    ///
    /// # Panics
    /// One is not, soon.
    pub fn start_agents(&mut self) {
        self.nodes.iter_mut().for_each(AgentNode::start);
        self.nodes.iter().for_each(AgentNode::wait_ready);
    }

    /// Starts the API server again.
    pub fn start_api(&mut self) {
        self.api.start(&self.host.ns);
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
