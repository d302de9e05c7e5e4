//! What the wire shows between pods, for every backend, underlay and family: whatever carries a packet, the
//! packet inside has the pods' own addresses, both ways. `--nocapture` prints the table.
#![expect(clippy::unwrap_used, reason = "a failed test is what a panic here means")]
#![expect(clippy::print_stdout, reason = "figures for who asks for them")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use flatnet_tests::agent::{AgentNode, Agents, SOON, Underlay};
use flatnet_tests::oracle;
use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{NetNs, Packet, Transport};

const PORT: u16 = 80;

/// Which families the pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    Dual,
    V4,
    V6,
}

/// A pod, and its addresses.
type Pod = (NetNs, Vec<IpAddr>);

/// Three nodes with a pod each; the third node is behind a router.
struct World {
    agents: Agents,
    backend: &'static str,
    underlay: Underlay,
    pods: Vec<Pod>,
}

/// How packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tunnelled,
    AsTheyAre,
    Nowhere,
}

impl World {
    fn start(backend: &'static str, underlay: Underlay, stack: Stack) -> Self {
        let mut agents = Agents::prepare(&format!("type: {backend}"), underlay);
        let mut cluster = agents.cluster(&[1, 2, 3]);
        for i in 1..=3 {
            let dual = format!("10.244.{i}.0/24, \"fd00:10:244:{i}::/64\"");
            let only = match stack {
                Stack::Dual => dual.clone(),
                Stack::V4 => format!("10.244.{i}.0/24"),
                Stack::V6 => format!("\"fd00:10:244:{i}::/64\""),
            };
            cluster = cluster.replace(&dual, &only);
        }
        cluster = match stack {
            Stack::Dual => cluster,
            Stack::V4 => cluster.replace(", ipv6: \"fd00:10:244::/56\"", ""),
            Stack::V6 => cluster.replace("ipv4: 10.244.0.0/16, ", ""),
        };
        agents.write_cluster(&cluster);
        agents.nodes.iter_mut().for_each(AgentNode::start);
        agents.nodes.iter().for_each(AgentNode::wait_ready);
        let pods: Vec<Pod> = (1..=3).map(|i| pod(agents.node(i))).collect();
        let families = if stack == Stack::Dual { 2 } else { 1 };
        pods.iter().for_each(|pod| assert_eq!(pod.1.len(), families, "{pod:?}"));
        Self { agents, backend, underlay, pods }
    }

    fn address(&self, i: usize) -> IpAddr {
        let node = &self.agents.node(i).node;
        if self.underlay == Underlay::V4 { node.v4() } else { node.v6() }.unwrap()
    }

    /// Only IPv6 gateways serve both families, and only those of the own segment serve at all.
    fn way(&self, b: usize, to: IpAddr) -> Way {
        let direct = b == 2 && (to.is_ipv4() || self.underlay == Underlay::V6);
        match self.backend {
            "vxlan" => Way::Tunnelled,
            "auto" if !direct => Way::Tunnelled,
            "direct" if !direct => Way::Nowhere,
            _ => Way::AsTheyAre,
        }
    }

    /// A connection from the first node's pod to that of node `b`: every packet of it on the first node's
    /// cable.
    fn connect(&self, b: usize, (from, to): (IpAddr, IpAddr)) -> Vec<Packet> {
        let server = TcpServer::start(&self.pods[b - 1].0, SocketAddr::new(to, PORT)).unwrap();
        let capture = self.agents.fabric.capture(&self.agents.node(1).node).unwrap();
        let seen = tcp_probe(&self.pods[0].0, Some(from), server.address(), SOON).unwrap();
        assert!(seen.is_untranslated(), "{seen:?}");
        let of_the_connection = |packet: &Packet| match packet.innermost().transport {
            Transport::Tcp { sport, dport, .. } => sport == PORT || dport == PORT,
            _ => false,
        };
        let back = |packet: &Packet| of_the_connection(packet) && packet.innermost().src == to;
        capture.wait_for("an answer on the wire", SOON, back).unwrap();
        capture.stop().into_iter().filter(of_the_connection).collect()
    }

    fn check(&self, b: usize, (from, to): (IpAddr, IpAddr)) {
        let way = self.way(b, to);
        let row = |outer: &str, inner: &str| {
            let (backend, underlay) = (self.backend, format!("{:?}", self.underlay));
            println!("n1-n{b}  {backend:<6}  {underlay:<8}  {outer:<42}  {inner}");
        };
        if way == Way::Nowhere {
            let status = self.agents.node(1).status();
            let problem = &status["peers"][b - 2]["problem"];
            assert!(problem.is_string(), "{status:#}");
            return row("none, and the status says why", &format!("{from} > {to}"));
        }
        let packets = self.connect(b, (from, to));
        let inner: BTreeSet<_> =
            packets.iter().map(|packet| (packet.innermost().src, packet.innermost().dst)).collect();
        assert_eq!(inner, BTreeSet::from([(from, to), (to, from)]), "the pods' own addresses, both ways");
        let nodes = (self.address(1), self.address(b));
        for packet in &packets {
            assert_eq!(packet.vxlan.is_some(), way == Way::Tunnelled, "{packet:?}");
            let there = packet.innermost().src == from;
            let outer = if there { nodes } else { (nodes.1, nodes.0) };
            assert!(
                packet.vxlan.is_none() || (packet.outer.src, packet.outer.dst) == outer,
                "from node to node: {packet:?}"
            );
        }
        let outer = format!("{} > {}", packets[0].outer.src, packets[0].outer.dst);
        row(if way == Way::Tunnelled { &outer } else { "no outer packet" }, &format!("{from} > {to}"));
    }
}

fn pod(node: &AgentNode) -> Pod {
    let ns = NetNs::new().unwrap();
    let result = node.plugin("ADD", "pod", &ns);
    let texts = oracle::names(result["ips"].as_array().unwrap(), "address");
    let addresses = texts.iter().map(|text| text.split('/').next().unwrap().parse().unwrap());
    (ns, addresses.collect())
}

/// Pods of these stacks, over both underlays, to a neighbour and through the router.
fn keeps_addresses(backend: &'static str, stacks: &[Stack]) {
    println!("pair   backend  underlay  outer packet  {:29} inner packet", "");
    for stack in stacks {
        for underlay in [Underlay::V4, Underlay::V6] {
            let world = World::start(backend, underlay, *stack);
            for b in [2, 3] {
                let addresses = world.pods[0].1.iter().zip(&world.pods[b - 1].1);
                addresses.for_each(|(from, to)| world.check(b, (*from, *to)));
            }
        }
    }
}

#[test]
fn vxlan_carries_packets_with_the_pods_own_addresses() {
    keeps_addresses("vxlan", &[Stack::Dual]);
}

#[test]
fn direct_routes_carry_packets_with_the_pods_own_addresses() {
    keeps_addresses("direct", &[Stack::Dual]);
}

/// `auto` has both ways, so it stands for networks of a single family too.
#[test]
fn auto_carries_packets_with_the_pods_own_addresses() {
    keeps_addresses("auto", &[Stack::Dual, Stack::V4, Stack::V6]);
}
