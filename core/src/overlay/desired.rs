//! The state a node's kernel should be in: a pure function of the cluster, the settings and the uplink.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::cluster::{Cluster, Member};
use super::filter::TunnelFilter;
use super::peer::{Peer, PeerProblem, Reach};
use super::settings::{Backend, Settings, Uplink};
use super::sysctl;
use crate::link::{Mac, MtuError, OverlayMtu, SEGMENT_SIZE};
use crate::names::{IfName, NodeName};
use crate::step::{Fdb, Neighbour, Step, Vxlan};

/// Metric of the routes that answer for absent pods of this node. Worse than anything an administrator
/// would write, so that a route of theirs for the same subnet wins.
pub const ABSENT_PODS_METRIC: u32 = 1_000_000_000;

/// The state the kernel should be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The VXLAN device and what belongs to it; absent where no peer needs it.
    pub tunnel: Option<Tunnel>,
    /// Gateways that routes lead to.
    pub hops: Vec<Hop>,
    /// Routes to the other nodes' pods.
    pub routes: Vec<PodRoute>,
    /// This node's own subnets: nowhere, unless a pod's own route says more.
    pub own: Vec<IpNetwork>,
    /// Settings of the node.
    pub sysctls: Vec<(String, String)>,
    /// MTU of this node's pods.
    pub pod_mtu: OverlayMtu,
    /// Segment size of this node's pods in bytes: what every link takes that their packets leave through.
    pub segment_size: u32,
    /// The uplink with the segment size it is raised to, where it is.
    pub raise: Option<(IfName, u32)>,
    /// How each other node is reached.
    pub peers: Vec<Peer>,
}

/// A VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The device.
    pub device: Vxlan,
    /// Its addresses: the node's own towards pods of other nodes.
    pub addresses: Vec<IpNetwork>,
    /// Settings of the device.
    pub sysctls: Vec<(String, String)>,
    /// Gateways behind it.
    pub neighbours: Vec<Neighbour>,
    /// Which node each MAC is on.
    pub fdb: Vec<Fdb>,
    /// What keeps strangers out; absent where everybody is heard.
    pub filter: Option<TunnelFilter>,
    /// Underlay addresses of all other nodes: also those that are reached directly may still send, or send
    /// again, in VXLAN.
    pub senders: Vec<IpAddr>,
}

/// A gateway on a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Its address.
    pub gateway: IpAddr,
    /// The link.
    pub link: IfName,
}

/// A subnet of another node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PodRoute {
    /// The subnet.
    pub dst: IpNetwork,
    /// Position of its gateway in [`Desired::hops`].
    pub hop: usize,
}

/// Why no desired state can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesiredError {
    /// This node is not in the cluster.
    #[error("node {0} is not in the cluster's list of nodes")]
    NotMember(NodeName),
    /// The uplink is too small for the pods.
    #[error("uplink {uplink} with MTU {bytes}")]
    Mtu {
        /// The uplink.
        uplink: IfName,
        /// Its MTU.
        bytes: u32,
        /// What is wrong with it.
        #[source]
        source: MtuError,
    },
}

impl Desired {
    /// Nothing at all: what is left when the agent's work is taken away.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            tunnel: None,
            hops: Vec::new(),
            routes: Vec::new(),
            own: Vec::new(),
            sysctls: Vec::new(),
            pod_mtu: OverlayMtu::default(),
            segment_size: SEGMENT_SIZE,
            raise: None,
            peers: Vec::new(),
        }
    }

    /// Decides how the node reaches the pods of all others.
    ///
    /// # Errors
    /// This node is no member, or the uplink cannot carry pods. What is wrong with single peers is in
    /// [`Desired::peers`] and keeps nobody else waiting.
    pub fn build(settings: &Settings, uplink: &Uplink, cluster: &Cluster) -> Result<Self, DesiredError> {
        Self::part(settings, uplink, cluster, Beside::Nobody)
    }

    /// The same of a part of a cluster: the node itself, and some of the others.
    pub(super) fn part(
        settings: &Settings,
        uplink: &Uplink,
        cluster: &Cluster,
        beside: Beside,
    ) -> Result<Self, DesiredError> {
        let me =
            cluster.member(&settings.node).ok_or_else(|| DesiredError::NotMember(settings.node.clone()))?;
        let mtu = |source| DesiredError::Mtu { uplink: uplink.name.clone(), bytes: uplink.mtu.0, source };
        let tunnel_mtu = OverlayMtu::over_vxlan(uplink.mtu, uplink.underlay());
        // Under `auto` pods always leave room for VXLAN, so that a node that joins behind a router does
        // not change the MTU of every running pod.
        let pod_mtu = match settings.backend {
            Backend::Direct => OverlayMtu::direct(uplink.mtu).map_err(mtu)?,
            Backend::Vxlan | Backend::Auto => tunnel_mtu.map_err(mtu)?,
        };
        let mut work = Work {
            settings,
            uplink,
            device: settings.vni.device(uplink.underlay()),
            hops: Vec::with_capacity(cluster.nodes.len()),
            routes: Vec::with_capacity(cluster.nodes.len()),
            neighbours: Vec::new(),
            fdb: Vec::new(),
        };
        let others = cluster.nodes.iter().filter(|node| node.name != settings.node);
        let peers = others.map(|node| work.peer(node)).collect();
        let tunnelled = beside == Beside::Tunnelled || !work.fdb.is_empty();
        let device = tunnelled.then(|| vxlan(settings, uplink, me, pod_mtu));
        let filter = TunnelFilter { underlay: uplink.underlay(), vni: settings.vni, port: settings.port };
        let Work { hops, routes, neighbours, fdb, .. } = work;
        let tunnel = device.map(|device| Tunnel {
            addresses: own_addresses(me),
            sysctls: vec![
                (sysctl::rp_filter(&device.name), "2".to_owned()),
                (sysctl::accept_ra(&device.name), "0".to_owned()),
            ]
            .into_iter()
            .chain(forwarding_on(cluster, &device.name))
            .collect(),
            device,
            neighbours,
            fdb,
            filter: settings.peers_only.then_some(filter),
            senders: senders(settings, uplink, cluster),
        });
        let sysctls = forwarding(cluster, &uplink.name);
        // A VXLAN device segments in software whatever is larger (linux 6.18): worse than small segments.
        let most = if tunnel.is_some() { SEGMENT_SIZE } else { u32::MAX };
        Ok(Self {
            segment_size: uplink.segment_size.min(most),
            raise: settings
                .uplink_segment_size
                .filter(|_| tunnel.is_none())
                .map(|size| size.min(uplink.segments.most))
                .filter(|size| uplink.segments.takes() < *size)
                .map(|size| (uplink.name.clone(), size)),
            tunnel,
            hops,
            routes,
            own: me.subnets.clone(),
            sysctls,
            pod_mtu,
            peers,
        })
    }

    /// Whether any of `cluster`'s nodes is reached through a tunnel.
    pub(super) fn tunnels(settings: &Settings, uplink: &Uplink, cluster: &Cluster) -> bool {
        let tunnelled = |node: &Member, dst: &IpNetwork| way(settings, uplink, node, *dst) == Ok(Way::Vxlan);
        let mut others = cluster.nodes.iter().filter(|node| node.name != settings.node);
        others.any(|node| node.subnets.iter().any(|dst| tunnelled(node, dst)))
    }

    /// The peer that `step` serves, so that a refusal can name it.
    #[must_use]
    pub fn peer_of(&self, cluster: &Cluster, step: &Step) -> Option<NodeName> {
        let owner = |wanted: &dyn Fn(&Member) -> bool| {
            cluster.nodes.iter().find(|node| wanted(node)).map(|node| node.name.clone())
        };
        let by_gateway = |gateway: IpAddr| {
            owner(&|node| node.address == gateway || gateways(node).any(|(_, own)| own == gateway))
        };
        match step {
            Step::PutRoute(_, route, _) => owner(&|node| node.subnets.contains(&route.dst)),
            Step::PutNexthop(nexthop) => by_gateway(nexthop.gateway),
            Step::PutNeighbour(_, neighbour) => by_gateway(neighbour.ip),
            Step::PutFdb(_, fdb) => owner(&|node| node.vtep == fdb.mac),
            _ => None,
        }
    }
}

/// Who is there beside the nodes that a [`Desired`] is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nobody that matters: only what they need is there.
    Nobody,
    /// Somebody who needs the tunnel, so that it is there.
    Tunnelled,
}

struct Work<'a> {
    settings: &'a Settings,
    uplink: &'a Uplink,
    device: IfName,
    hops: Vec<Hop>,
    routes: Vec<PodRoute>,
    neighbours: Vec<Neighbour>,
    fdb: Vec<Fdb>,
}

impl Work<'_> {
    fn peer(&mut self, node: &Member) -> Peer {
        let mut problem = None;
        let mut reach = Reach::Nowhere;
        let mut direct = None;
        let mut tunnelled = [None, None];
        for dst in &node.subnets {
            let way = way(self.settings, self.uplink, node, *dst);
            let hop = match way {
                Ok(Way::Direct) => *direct.get_or_insert_with(|| self.direct_hop(node)),
                Ok(Way::Vxlan) => {
                    *tunnelled[usize::from(dst.is_ipv6())].get_or_insert_with(|| self.tunnel_hop(node, *dst))
                }
                Err(why) => {
                    problem.get_or_insert(why);
                    continue;
                }
            };
            reach = reach.and(if way == Ok(Way::Direct) { Reach::Direct } else { Reach::Vxlan });
            self.routes.push(PodRoute { dst: *dst, hop });
        }
        if tunnelled.iter().any(Option::is_some) {
            self.fdb.push(Fdb { mac: node.vtep, node: node.address });
        }
        Peer { name: node.name.clone(), address: node.address, reach, problem }
    }

    fn direct_hop(&mut self, node: &Member) -> usize {
        self.hops.push(Hop { gateway: node.address, link: self.uplink.name.clone() });
        self.hops.len() - 1
    }

    fn tunnel_hop(&mut self, node: &Member, dst: IpNetwork) -> usize {
        let gateway = gateway_for(node, dst);
        self.neighbours.push(Neighbour { ip: gateway, mac: node.vtep });
        self.hops.push(Hop { gateway, link: self.device.clone() });
        self.hops.len() - 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Vxlan,
}

fn way(settings: &Settings, uplink: &Uplink, node: &Member, dst: IpNetwork) -> Result<Way, PeerProblem> {
    let address = node.address;
    let on_link = uplink.is_on_link(address);
    // The kernel takes an IPv6 gateway for an IPv4 route, but not the other way round.
    let same_family = dst.is_ipv4() || address.is_ipv6();
    let direct = match settings.backend {
        Backend::Vxlan => false,
        Backend::Auto => on_link && same_family,
        Backend::Direct if !on_link => {
            return Err(PeerProblem::NotOnLink { address, uplink: uplink.name.clone() });
        }
        Backend::Direct if !same_family => return Err(PeerProblem::Ipv6ThroughIpv4 { address }),
        Backend::Direct => true,
    };
    if direct {
        Ok(Way::Direct)
    } else if address.is_ipv4() == uplink.local.is_ipv4() {
        Ok(Way::Vxlan)
    } else {
        Err(PeerProblem::OtherFamily { local: uplink.local, address })
    }
}

/// The gateway behind the tunnel for a subnet of `node`: for IPv4 the subnet's base address, for IPv6 the
/// link-local address of the node's VTEP. The kernel refuses any other IPv6 gateway while a route to it
/// leads through another link ("Nexthop has invalid gateway or device mismatch",
/// `ip6_route_check_nh_onlink` in net/ipv6/route.c), which is so whenever a node moves between backends.
fn gateway_for(node: &Member, dst: IpNetwork) -> IpAddr {
    if dst.is_ipv4() { dst.ip() } else { IpAddr::V6(link_local(node.vtep)) }
}

/// Every gateway a node can have behind the tunnel, each with the subnet it is made for.
fn gateways(node: &Member) -> impl Iterator<Item = (IpNetwork, IpAddr)> {
    node.subnets.iter().map(|dst| (*dst, gateway_for(node, *dst)))
}

/// The address an Ethernet link gives itself (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

fn vxlan(settings: &Settings, uplink: &Uplink, me: &Member, mtu: OverlayMtu) -> Vxlan {
    Vxlan {
        name: settings.vni.device(uplink.underlay()),
        vni: settings.vni,
        port: settings.port,
        local: uplink.local,
        uplink: uplink.name.clone(),
        mtu: mtu.get(),
        mac: me.vtep,
    }
}

fn senders(settings: &Settings, uplink: &Uplink, cluster: &Cluster) -> Vec<IpAddr> {
    let others = cluster.nodes.iter().filter(|node| node.name != settings.node);
    others.map(|node| node.address).filter(|ip| ip.is_ipv4() == uplink.local.is_ipv4()).collect()
}

/// One address per family, as a host address, so that no route to the subnet comes with it.
fn own_addresses(me: &Member) -> Vec<IpNetwork> {
    let first = |v4: bool| me.subnets.iter().find(|subnet| subnet.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten().map(|subnet| IpNetwork::from(subnet.ip())).collect()
}

/// Of the node first: that sets every link's.
fn forwarding(cluster: &Cluster, uplink: &IfName) -> Vec<(String, String)> {
    let mut keys = vec![sysctl::IPV4_FORWARD];
    if cluster.networks.iter().any(IpNetwork::is_ipv6) {
        keys.push(sysctl::IPV6_FORWARD);
    }
    let node = keys.into_iter().map(|key| (key.to_owned(), "1".to_owned()));
    node.chain(forwarding_on(cluster, uplink)).collect()
}

fn forwarding_on(cluster: &Cluster, link: &IfName) -> Vec<(String, String)> {
    let mut keys = vec![sysctl::ipv4_forwarding(link)];
    if cluster.networks.iter().any(IpNetwork::is_ipv6) {
        keys.push(sysctl::ipv6_forwarding(link));
    }
    keys.into_iter().map(|key| (key, "1".to_owned())).collect()
}
