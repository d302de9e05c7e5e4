//! A node with host ports: the plugin on one segment, somebody on another, who knows no pod.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_fixtures::probe::{Seen, TcpServer, tcp_probe};
use netns_fixtures::{Fabric, FixtureError, NetNs, Node};
use serde_json::{Value, json};

use crate::oracle::command;
use crate::plugin::{Answer, PluginNode, addresses};

/// Long enough for a busy machine.
const WITHIN: Duration = Duration::from_secs(5);
/// Long enough to show that nothing comes.
pub const NEVER: Duration = Duration::from_millis(700);

/// The node, and the rest of the world.
#[derive(Debug)]
pub struct World {
    /// What joins them.
    pub fabric: Fabric,
    /// The plugin's node.
    pub node: PluginNode,
    /// The same on the fabric.
    pub uplink: Node,
    /// Somebody behind a router.
    pub outside: Node,
}

/// A pod with an interface.
#[derive(Debug)]
pub struct Pod {
    /// Its container id.
    pub id: String,
    /// Its namespace.
    pub ns: NetNs,
    /// Its addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
    /// What ADD answered.
    pub result: Value,
}

impl World {
    /// Makes it.
    ///
    /// # Panics
    /// Namespaces cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is a fixture, made on purpose")]
    pub fn new() -> Self {
        netns_fixtures::gate::require();
        let mut fabric = Fabric::two_segments().expect("a fabric");
        let uplink = fabric.node("n1", "a").expect("a node");
        let outside = fabric.node("far", "b").expect("a node");
        Self { node: PluginNode::on(uplink.ns.clone()), uplink, outside, fabric }
    }

    /// The node's address of a family.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn ip(&self, v4: bool) -> IpAddr {
        if v4 { self.uplink.v4() } else { self.uplink.v6() }.expect("both families")
    }

    /// A dual-stack configuration with these port mappings.
    #[must_use]
    pub fn conf(&self, ports: &Value) -> Value {
        let mut conf = self.node.conf("1.1.0");
        conf["masquerade"] = json!(true);
        conf["runtimeConfig"] = json!({ "portMappings": ports });
        conf
    }

    /// ADD in a new namespace.
    ///
    /// # Errors
    /// What it answered.
    pub fn try_add(&self, id: &str, ports: &Value) -> Result<Pod, Answer> {
        let ns = NetNs::new().expect("a namespace");
        let answer = self.node.run(&self.node.call("ADD", id, &ns.path(), &self.conf(ports)));
        if !answer.ok {
            return Err(answer);
        }
        Ok(Pod { id: id.to_owned(), ns, ips: addresses(&answer.json), result: answer.json })
    }

    /// ADD in a new namespace.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn add(&self, id: &str, ports: &Value) -> Pod {
        self.try_add(id, ports).unwrap_or_else(|answer| panic!("ADD {id}: {}", answer.json))
    }

    /// DEL that knows of no port.
    ///
    /// # Panics
    /// It fails.
    pub fn del(&self, pod: &Pod) {
        let answer = self.node.del(&pod.id, &pod.ns.path());
        assert!(answer.ok, "DEL {}: {}", pod.id, answer.json);
    }

    /// CHECK with `ports`.
    #[must_use]
    pub fn check(&self, pod: &Pod, ports: &Value) -> Answer {
        let mut conf = self.conf(ports);
        conf["prevResult"] = pod.result.clone();
        self.node.run(&self.node.call("CHECK", &pod.id, &pod.ns.path(), &conf))
    }

    /// Elements in our maps and sets, as `nft` shows them: a line each.
    ///
    /// # Panics
    /// `nft` fails.
    #[must_use]
    pub fn elements(&self) -> Vec<String> {
        elements(&self.node.ns)
    }
}

/// Elements in our maps and sets, as `nft` shows them: a line each.
///
/// # Panics
/// `nft` fails.
#[must_use]
pub fn elements(ns: &NetNs) -> Vec<String> {
    let lines = command(ns, "nft list ruleset");
    lines.lines().filter(|line| line.contains(" comment \"fn")).map(|line| line.trim().to_owned()).collect()
}

/// A mapping of all addresses.
#[must_use]
pub fn mapping(protocol: &str, host_port: u16, container_port: u16) -> Value {
    json!({ "hostPort": host_port, "containerPort": container_port, "protocol": protocol })
}

/// The same on one address of the node.
#[must_use]
pub fn mapping_on(host_ip: &str, protocol: &str, host_port: u16, container_port: u16) -> Value {
    let mut mapping = mapping(protocol, host_port, container_port);
    mapping["hostIP"] = json!(host_ip);
    mapping
}

impl Pod {
    /// Its address of a family.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn ip(&self, v4: bool) -> IpAddr {
        *self.ips.iter().find(|ip| ip.is_ipv4() == v4).expect("both families")
    }

    /// A TCP server on its addresses.
    ///
    /// # Panics
    /// The port is taken.
    #[must_use]
    pub fn serve(&self, port: u16) -> Vec<TcpServer> {
        let start = |ip: &IpAddr| TcpServer::start(&self.ns, SocketAddr::new(*ip, port)).expect("a server");
        self.ips.iter().map(start).collect()
    }
}

/// Connects from `ns`.
///
/// # Errors
/// Nobody answers.
pub fn connect(ns: &NetNs, to: IpAddr, port: u16) -> Result<Seen, FixtureError> {
    tcp_probe(ns, None, SocketAddr::new(to, port), WITHIN)
}

/// Whether a connection from `ns` is refused, or gets no answer.
#[must_use]
pub fn cannot_connect(ns: &NetNs, to: IpAddr, port: u16) -> bool {
    tcp_probe(ns, None, SocketAddr::new(to, port), NEVER).is_err()
}
