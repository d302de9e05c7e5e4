//! The peer: what flannel and the plugins it delegates to leave in the kernel, made with `ip`.
//!
//! Per node a bridge `cni0` with the pods' veth pairs (hairpin on, as kube-flannel's list has it) and rules
//! that accept forwarding and masquerade what leaves the cluster (pkg/trafficmngr/nftables, default on). Per
//! other node a route: with `host-gw` by its address (pkg/backend/hostgw); with VXLAN a device that does not
//! learn, and a neighbour, a forwarding entry and an on-link route (pkg/backend/vxlan).

use anyhow::{Context, Result};
use netns_fixtures::NetNs;

use super::flatnet::SEGMENT;
use super::nodes::{self, MTU, Node, Pod, Pods, UPLINK, ip, tool};

/// Outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348, section 5).
const OVERHEAD: u32 = 50;
/// Whether bridges call the hooks of IP (Documentation/networking/ip-sysctl.rst).
const HOOKS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// How packets go from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    HostGw,
    Vxlan,
}

/// One way of setting the peer up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) backend: Backend,
    /// Above 64 KiB, which flannel never asks for, it is set on every link of the path.
    pub(crate) segment: u32,
    /// Flannel's rules, and bridges that call the hooks of IP where the kernel has it so, as Kubernetes wants.
    pub(crate) rules: bool,
}

impl Setup {
    /// As flannel does it.
    pub(crate) const fn new(backend: Backend) -> Self {
        Self { backend, segment: SEGMENT, rules: true }
    }
}

/// Whether a new namespace's bridges call the hooks of IP for what they forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BridgeNetfilter {
    /// The kernel cannot, or `br_netfilter` is not loaded.
    Absent,
    Off,
    On,
}

impl BridgeNetfilter {
    /// Asks a new namespace.
    ///
    /// # Errors
    /// There can be none.
    pub(crate) fn read() -> Result<Self> {
        let text = NetNs::new()?.run(|| std::fs::read_to_string(HOOKS))?;
        Ok(text.map_or(Self::Absent, |text| if text.trim() == "0" { Self::Off } else { Self::On }))
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

impl Backend {
    const fn pod_mtu(self) -> u32 {
        match self {
            Self::HostGw => MTU,
            Self::Vxlan => MTU - OVERHEAD,
        }
    }
}

/// Makes nodes, bridges and pods.
///
/// # Errors
/// A program is missing or fails.
pub(crate) fn start(setup: Setup) -> Result<Pods> {
    let Setup { backend, segment, rules } = setup;
    let nodes = nodes::pair()?;
    for node in &nodes {
        set(node, "/proc/sys/net/ipv4/ip_forward", "1")?;
        bridge(node, backend)?;
        if rules {
            masquerade(node)?;
        } else if BridgeNetfilter::read()? != BridgeNetfilter::Absent {
            set(node, HOOKS, "0")?;
        }
    }
    for (node, peer) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        match backend {
            Backend::HostGw => {
                let route =
                    format!("route add 10.244.{}.0/24 via {} dev {UPLINK}", peer.number, peer.address());
                ip(&node.ns, &route)?;
            }
            Backend::Vxlan => vxlan(node, peer)?,
        }
    }
    let pods = Pods::make(nodes, |node, number| pod(node, number, backend.pod_mtu()))?;
    if segment != SEGMENT {
        enlarge(&pods, segment)?;
    }
    pods.check(segment)?;
    Ok(pods)
}

fn set(node: &Node, sysctl: &str, value: &str) -> Result<()> {
    node.ns.run(|| std::fs::write(sysctl, value))?.with_context(|| format!("write {value} to {sysctl}"))
}

fn bridge(node: &Node, backend: Backend) -> Result<()> {
    ip(&node.ns, &format!("link add cni0 mtu {} type bridge", backend.pod_mtu()))?;
    ip(&node.ns, &format!("addr add 10.244.{0}.1/24 brd 10.244.{0}.255 dev cni0", node.number))?;
    ip(&node.ns, "link set cni0 up")
}

fn pod(node: &Node, number: u8, mtu: u32) -> Result<Pod> {
    let ns = NetNs::new()?;
    let host = format!("veth{number}");
    let address = [10, 244, node.number, number + 1].into();
    let netns = ns.path();
    ip(
        &node.ns,
        &format!("link add {host} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}", netns.display()),
    )?;
    ip(&node.ns, &format!("link set {host} master cni0 up"))?;
    ip(&node.ns, &format!("link set {host} type bridge_slave hairpin on"))?;
    ip(&ns, &format!("addr add {address}/24 brd 10.244.{}.255 dev eth0", node.number))?;
    ip(&ns, "link set eth0 up")?;
    ip(&ns, &format!("route add default via 10.244.{}.1", node.number))?;
    Ok(Pod { ns, address })
}

/// A MAC that flannel would draw at random.
fn vtep_mac(node: &Node) -> String {
    format!("02:00:5e:00:53:{:02x}", node.number)
}

fn vxlan(node: &Node, peer: &Node) -> Result<()> {
    let (mac, mtu, local) = (vtep_mac(node), MTU - OVERHEAD, node.address());
    ip(
        &node.ns,
        &format!(
            "link add flannel.1 address {mac} mtu {mtu} type vxlan id 1 dev {UPLINK} local {local} dstport 8472 nolearning"
        ),
    )?;
    ip(&node.ns, &format!("addr add 10.244.{}.0/32 dev flannel.1", node.number))?;
    ip(&node.ns, "link set flannel.1 up")?;
    let (mac, far, number) = (vtep_mac(peer), peer.address(), peer.number);
    ip(&node.ns, &format!("neigh add 10.244.{number}.0 lladdr {mac} dev flannel.1 nud permanent"))?;
    let entry = format!("fdb append {mac} dev flannel.1 dst {far} self permanent");
    tool(&node.ns, "bridge", entry.split_whitespace())?;
    ip(&node.ns, &format!("route add 10.244.{number}.0/24 via 10.244.{number}.0 dev flannel.1 onlink"))
}

fn masquerade(node: &Node) -> Result<()> {
    let (network, subnet) = ("10.244.0.0/16", format!("10.244.{}.0/24", node.number));
    let rules = format!(
        "table ip flannel-ipv4 {{
            chain forward {{
                type filter hook forward priority filter;
                ip saddr {network} accept
                ip daddr {network} accept
            }}
            chain postrtg {{
                type nat hook postrouting priority srcnat;
                meta mark 0x4000 return
                ip saddr {subnet} ip daddr {network} return
                ip saddr {network} ip daddr {subnet} return
                ip saddr != {subnet} ip daddr {network} return
                ip saddr {network} ip daddr != 224.0.0.0/4 masquerade fully-random
                ip saddr != {network} ip daddr {network} masquerade fully-random
            }}
        }}"
    );
    tool(&node.ns, "nft", [rules.as_str()])
}

fn enlarge(pods: &Pods, segment: u32) -> Result<()> {
    for pod in [&pods.near[0], &pods.near[1], &pods.far] {
        pod.ns.set_segment_sizes("eth0", segment)?;
    }
    for (node, ports) in pods.nodes.iter().zip([["veth1", "veth2"].as_slice(), &["veth1"]]) {
        for link in [UPLINK, "cni0"].iter().chain(ports) {
            node.ns.set_segment_sizes(link, segment)?;
        }
    }
    Ok(())
}
