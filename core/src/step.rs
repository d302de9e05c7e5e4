//! Effects as data: one [`Step`] is one request to the kernel, with the step that takes it back.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::hostport::{Flows, Holding, PodPorts};
use crate::link::{Mac, OverlayMtu, Vni};
use crate::names::IfName;
use crate::overlay::filter::{Senders, TunnelFilter};
use crate::rate::Rate;

/// Route and nexthop protocol number of everything we create (rtnetlink(7): "rtm_protocol"), so that ours
/// can be told from everyone else's. Documented as `flatnet`.
pub const ROUTE_PROTOCOL: u8 = 70;

/// Our nftables table, of family `inet`. Nobody else's is touched.
pub const TABLE: &str = "flatnet";

/// The two network namespaces a plan can speak about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ns {
    /// The node's own: the one the program runs in.
    Node,
    /// The pod's sandbox.
    Pod,
}

/// A link by name. Indexes exist only inside the executor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkRef {
    /// Where it is.
    pub ns: Ns,
    /// What it is called there.
    pub name: IfName,
}

impl LinkRef {
    /// A link of the node.
    #[must_use]
    pub const fn node(name: IfName) -> Self {
        Self { ns: Ns::Node, name }
    }

    /// A link of the pod.
    #[must_use]
    pub const fn pod(name: IfName) -> Self {
        Self { ns: Ns::Pod, name }
    }
}

/// Where an address is valid (ip-address(8), "scope").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddrScope {
    /// Everywhere: may be chosen as a source address.
    Global,
    /// On this host only: answered, never chosen as a source address.
    Host,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The destination is on the link itself.
    Link(IfName),
    /// Through a gateway on the link.
    Gateway {
        /// The gateway's address.
        gateway: IpAddr,
        /// The link it is on.
        link: IfName,
    },
    /// Through a nexthop object (ip-nexthop(8)).
    Nexthop(u32),
    /// Nowhere: the sender gets an ICMP error.
    Unreachable,
}

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Destination, without host bits.
    pub dst: IpNetwork,
    /// Where it leads.
    pub via: Via,
    /// Preferred source address of packets that the node itself sends along it.
    pub source: Option<IpAddr>,
    /// Metric (priority); `None` is the family's default.
    pub metric: Option<u32>,
}

/// A rule that sends what has this source address to a table of its own (ip-rule(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// The source address.
    pub from: IpAddr,
    /// The table.
    pub table: u32,
    /// When it is looked at: lower numbers first.
    pub priority: u32,
}

/// A nexthop object: routes refer to it by number, which keeps inserting linear in the number of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nexthop {
    /// Its number, unique in the namespace.
    pub id: u32,
    /// The gateway, taken as on-link.
    pub gateway: IpAddr,
    /// The link it is on.
    pub link: IfName,
}

/// A permanent neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Where frames to it go.
    pub mac: Mac,
}

/// One entry of a VXLAN device's forwarding database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fdb {
    /// MAC of the peer's VTEP.
    pub mac: Mac,
    /// The peer's underlay address.
    pub node: IpAddr,
}

/// A veth pair, both ends named and down, the peer born in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VethPair {
    /// Name of the node's end.
    pub host: IfName,
    /// MAC of the node's end.
    pub host_mac: Mac,
    /// Name of the pod's end.
    pub pod: IfName,
    /// MAC of the pod's end.
    pub pod_mac: Mac,
    /// MTU of both.
    pub mtu: OverlayMtu,
    /// Segment size of both in bytes; `None` leaves the kernel's own.
    pub segment_size: Option<u32>,
}

/// A VXLAN device: unicast only, no learning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Vxlan {
    /// Device name.
    pub name: IfName,
    /// Network identifier.
    pub vni: Vni,
    /// UDP destination port.
    pub port: u16,
    /// Source address of outer packets.
    pub local: IpAddr,
    /// The uplink it is bound to.
    pub uplink: IfName,
    /// MTU of the device.
    pub mtu: u32,
    /// VTEP MAC, set at creation so that nothing else assigns one.
    pub mac: Mac,
}

/// Settings of an existing link, changed in one request. `None` leaves a setting alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LinkChange {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Segment size in bytes, for both directions and families.
    pub segment_size: Option<u32>,
    /// Alias, shown by `ip link`.
    pub alias: Option<String>,
    /// IPv4 per-link settings.
    pub ipv4: Vec<(Ipv4Conf, u32)>,
    /// How the link gets an IPv6 link-local address when it goes up.
    pub link_local: Option<LinkLocal>,
}

/// Where a link's IPv6 link-local address comes from (`IFLA_INET6_ADDR_GEN_MODE`, if_link.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkLocal {
    /// The kernel makes none: only what is added is there.
    None,
}

/// IPv4 settings of one link that netlink can write (`IFLA_INET_CONF`, include/uapi/linux/ip.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ipv4Conf {
    /// Forward packets that arrive on the link.
    Forwarding,
    /// Answer ARP for addresses the node can route to.
    ProxyArp,
    /// Source validation: 0 off, 1 strict, 2 loose (RFC 3704).
    RpFilter,
    /// Take packets to and from 127.0.0.0/8 (ip-sysctl, `route_localnet`).
    RouteLocalnet,
}

impl Ipv4Conf {
    /// The file name under `/proc/sys/net/ipv4/conf/LINK`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::ProxyArp => "proxy_arp",
            Self::RpFilter => "rp_filter",
            Self::RouteLocalnet => "route_localnet",
        }
    }
}

/// An intermediate functional block (drivers/net/ifb.c): what arrives on another link can be sent through it
/// first, and so be shaped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ifb {
    /// Device name.
    pub name: IfName,
    /// MTU in bytes.
    pub mtu: u32,
}

/// Whether an existing object may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Put {
    /// An object of the same key is a conflict.
    New,
    /// An object of the same key is replaced.
    Replace,
    /// Others of the same key stay beside it: each link has its own `fe80::/64`.
    Beside,
}

/// Source translation of what leaves the cluster: packets from pods to anywhere but the cluster's own
/// networks take the node's address. Never between pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Masquerade {
    /// Name of the chain in our table: one per network that asks for it.
    pub chain: String,
    /// Pod subnets of this node.
    pub pods: Vec<IpNetwork>,
    /// Destinations that see the pods' own addresses.
    pub cluster: Vec<IpNetwork>,
}

/// One request to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Create a veth pair between node and pod.
    CreateVeth(VethPair),
    /// Create a VXLAN device on the node.
    CreateVxlan(Vxlan),
    /// Create an intermediate functional block on the node.
    CreateIfb(Ifb),
    /// Let nothing leave a link faster than this, in place of whatever shaped it before.
    PutRate(LinkRef, Rate),
    /// Give a link a hook for what arrives on it.
    AddIngress(LinkRef),
    /// Take that hook away, with whatever it sends elsewhere.
    DropIngress(LinkRef),
    /// Send everything that arrives on a link of the node through another one first.
    Redirect(LinkRef, IfName),
    /// Change local address, uplink and learning of a VXLAN device while it works.
    ChangeVxlan(Vxlan),
    /// Change settings of a link.
    SetLink(LinkRef, LinkChange),
    /// Make the kernel act now on a link's carrier, which it notes at once but acts on in its own time:
    /// until then it sends nothing through the link (`linkwatch_sync_dev`, net/core/link_watch.c).
    Settle(LinkRef),
    /// Remove a link and all that hangs on it.
    DeleteLink(LinkRef),
    /// Add an address. IPv6 addresses are added without duplicate address detection.
    AddAddr(LinkRef, IpNetwork, AddrScope),
    /// Remove an address.
    DropAddr(LinkRef, IpNetwork),
    /// Put a route.
    PutRoute(Ns, Route, Put),
    /// Remove a route.
    DropRoute(Ns, Route),
    /// Put a route into another table than the main one, in place of any of its key. It goes with its link.
    PutTableRoute(Ns, u32, Route),
    /// Put a rule.
    PutRule(Ns, Rule),
    /// Remove a rule.
    DropRule(Ns, Rule),
    /// Put a nexthop object of the node.
    PutNexthop(Nexthop),
    /// Remove a nexthop object of the node, and with it every route through it.
    DropNexthop(Nexthop),
    /// Put a permanent neighbour entry.
    PutNeighbour(LinkRef, Neighbour),
    /// Remove a neighbour entry.
    DropNeighbour(LinkRef, Neighbour),
    /// Put an entry of a VXLAN device's forwarding database.
    PutFdb(LinkRef, Fdb),
    /// Remove an entry of a VXLAN device's forwarding database.
    DropFdb(LinkRef, Fdb),
    /// Write a setting below `/proc/sys`.
    SetSysctl(Ns, String, String),
    /// Make a masquerading chain of the node what it should be.
    PutMasquerade(Masquerade),
    /// Remove one masquerading chain of the node.
    DropMasquerade(String),
    /// Make the chain what it should be that keeps pods from sending as somebody else, and from reaching
    /// the node's loopback addresses.
    PutGuard,
    /// Lead ports of the node to a pod. Refused with `EEXIST` where another pod has one of them.
    PutHostPorts(PodPorts),
    /// Take elements out of the maps that lead ports to pods.
    DropHostPorts(Holding),
    /// Make the node's connection tracking forget.
    ForgetFlows(Vec<Flows>),
    /// Let the tunnel hear these addresses.
    PutSenders(Senders),
    /// Let the tunnel no longer hear these addresses.
    DropSenders(Senders),
    /// Make the tunnel deaf to all but its senders.
    PutTunnelFilter(TunnelFilter),
    /// Let the tunnel hear everybody, and forget the senders.
    DropTunnelFilter,
    /// Remove our nftables table of the node, and with it all chains.
    DropTable,
}

/// What a step that did not fail did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel changed.
    Done,
    /// It was so before.
    AlreadySo,
    /// There was nothing to remove.
    AlreadyGone,
}

impl Step {
    /// The namespace the request goes to.
    #[must_use]
    pub const fn ns(&self) -> Ns {
        match self {
            Self::CreateVeth(_)
            | Self::CreateVxlan(_)
            | Self::CreateIfb(_)
            | Self::ChangeVxlan(_)
            | Self::PutNexthop(_)
            | Self::DropNexthop(_)
            | Self::PutMasquerade(_)
            | Self::DropMasquerade(_)
            | Self::PutGuard
            | Self::PutHostPorts(_)
            | Self::DropHostPorts(_)
            | Self::ForgetFlows(_)
            | Self::PutSenders(_)
            | Self::DropSenders(_)
            | Self::PutTunnelFilter(_)
            | Self::DropTunnelFilter
            | Self::DropTable => Ns::Node,
            Self::SetLink(l, _)
            | Self::PutRate(l, _)
            | Self::AddIngress(l)
            | Self::DropIngress(l)
            | Self::Redirect(l, _)
            | Self::Settle(l)
            | Self::DeleteLink(l)
            | Self::AddAddr(l, ..)
            | Self::DropAddr(l, _)
            | Self::PutNeighbour(l, _)
            | Self::DropNeighbour(l, _)
            | Self::PutFdb(l, _)
            | Self::DropFdb(l, _) => l.ns,
            Self::PutRoute(ns, ..)
            | Self::DropRoute(ns, _)
            | Self::PutTableRoute(ns, ..)
            | Self::PutRule(ns, _)
            | Self::DropRule(ns, _)
            | Self::SetSysctl(ns, ..) => *ns,
        }
    }

    /// The step that takes this one back; `None` where there is nothing to take back: removals, and
    /// settings that belong to a link created in the same plan or to the whole node.
    #[must_use]
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::CreateVeth(veth) => Some(Self::DeleteLink(LinkRef::node(veth.host.clone()))),
            Self::CreateVxlan(vxlan) => Some(Self::DeleteLink(LinkRef::node(vxlan.name.clone()))),
            Self::CreateIfb(ifb) => Some(Self::DeleteLink(LinkRef::node(ifb.name.clone()))),
            Self::AddAddr(link, addr, _) => Some(Self::DropAddr(link.clone(), *addr)),
            Self::PutRoute(ns, route, _) => Some(Self::DropRoute(*ns, route.clone())),
            Self::PutRule(ns, rule) => Some(Self::DropRule(*ns, *rule)),
            Self::PutNexthop(nexthop) => Some(Self::DropNexthop(nexthop.clone())),
            Self::PutNeighbour(link, neighbour) => Some(Self::DropNeighbour(link.clone(), *neighbour)),
            Self::PutFdb(link, fdb) => Some(Self::DropFdb(link.clone(), *fdb)),
            Self::PutHostPorts(ports) => Some(Self::DropHostPorts(Holding::Of(ports.holder.clone()))),
            Self::PutSenders(senders) => Some(Self::DropSenders(senders.clone())),
            Self::PutTunnelFilter(_) => Some(Self::DropTunnelFilter),
            Self::ChangeVxlan(_)
            | Self::SetLink(..)
            | Self::PutRate(..)
            | Self::AddIngress(_)
            | Self::DropIngress(_)
            | Self::Redirect(..)
            | Self::Settle(_)
            | Self::DeleteLink(_)
            | Self::DropAddr(..)
            | Self::DropRoute(..)
            | Self::PutTableRoute(..)
            | Self::DropRule(..)
            | Self::DropNexthop(_)
            | Self::DropNeighbour(..)
            | Self::DropFdb(..)
            | Self::SetSysctl(..)
            | Self::PutMasquerade(_)
            | Self::DropMasquerade(_)
            | Self::PutGuard
            | Self::DropHostPorts(_)
            | Self::ForgetFlows(_)
            | Self::DropSenders(_)
            | Self::DropTunnelFilter
            | Self::DropTable => None,
        }
    }
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Pod => "pod",
        })
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.ns)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.via {
            Via::Link(link) => write!(f, "{} dev {link}", self.dst),
            Via::Gateway { gateway, link } => write!(f, "{} via {gateway} dev {link}", self.dst),
            Via::Nexthop(id) => write!(f, "{} nhid {id}", self.dst),
            Via::Unreachable => write!(f, "unreachable {}", self.dst),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} lookup {}", self.from, self.table)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVeth(v) => write!(f, "create veth {} to {} on pod", v.host, v.pod),
            Self::CreateVxlan(v) => write!(f, "create vxlan {} id {} on {}", v.name, v.vni.get(), v.uplink),
            Self::CreateIfb(ifb) => write!(f, "create ifb {}", ifb.name),
            Self::PutRate(link, rate) => write!(f, "limit {link} to {rate}"),
            Self::AddIngress(link) => write!(f, "add ingress hook to {link}"),
            Self::DropIngress(link) => write!(f, "delete ingress hook of {link}"),
            Self::Redirect(link, to) => write!(f, "redirect what arrives on {link} through {to}"),
            Self::ChangeVxlan(v) => write!(f, "move vxlan {} to {} on {}", v.name, v.local, v.uplink),
            Self::SetLink(link, change) => write!(f, "set {link}{change}"),
            Self::Settle(link) => write!(f, "settle {link}"),
            Self::DeleteLink(link) => write!(f, "delete link {link}"),
            Self::AddAddr(link, addr, _) => write!(f, "add address {addr} to {link}"),
            Self::DropAddr(link, addr) => write!(f, "delete address {addr} from {link}"),
            Self::PutRoute(ns, route, _) => write!(f, "add route {route} on {ns}"),
            Self::DropRoute(ns, route) => write!(f, "delete route {route} on {ns}"),
            Self::PutTableRoute(ns, table, route) => write!(f, "add route {route} table {table} on {ns}"),
            Self::PutRule(ns, rule) => write!(f, "add rule {rule} on {ns}"),
            Self::DropRule(ns, rule) => write!(f, "delete rule {rule} on {ns}"),
            Self::PutNexthop(n) => write!(f, "add nexthop {} via {} dev {}", n.id, n.gateway, n.link),
            Self::DropNexthop(n) => write!(f, "delete nexthop {} via {} dev {}", n.id, n.gateway, n.link),
            Self::PutNeighbour(link, n) => write!(f, "add neighbour {} at {} to {link}", n.ip, n.mac),
            Self::DropNeighbour(link, n) => write!(f, "delete neighbour {} from {link}", n.ip),
            Self::PutFdb(link, e) => write!(f, "add fdb {} to {} on {link}", e.mac, e.node),
            Self::DropFdb(link, e) => write!(f, "delete fdb {} to {} from {link}", e.mac, e.node),
            Self::SetSysctl(ns, key, value) => write!(f, "set sysctl {key}={value} on {ns}"),
            Self::PutMasquerade(m) => write!(f, "masquerade in chain {} of table inet {TABLE}", m.chain),
            Self::DropMasquerade(chain) => write!(f, "delete chain {chain} of table inet {TABLE}"),
            Self::PutGuard => write!(f, "guard against pods' packets in table inet {TABLE}"),
            Self::PutHostPorts(ports) => {
                write!(f, "add host ports of {} to table inet {TABLE}:", ports.holder)?;
                ports.elements.iter().try_for_each(|element| write!(f, " {element};"))
            }
            Self::DropHostPorts(Holding::Of(holder)) => {
                write!(f, "delete host ports of {holder} from table inet {TABLE}")
            }
            Self::DropHostPorts(Holding::These(elements)) => {
                write!(f, "delete host ports from table inet {TABLE}:")?;
                elements.iter().try_for_each(|(element, _)| write!(f, " {element};"))
            }
            Self::ForgetFlows(flows) => {
                f.write_str("forget connections")?;
                flows.iter().try_for_each(|flows| write!(f, " {flows};"))
            }
            Self::PutSenders(senders) => write!(f, "add {senders} of table inet {TABLE}"),
            Self::DropSenders(senders) => write!(f, "delete {senders} of table inet {TABLE}"),
            Self::PutTunnelFilter(t) => {
                write!(f, "drop vxlan {} of strangers on port {}", t.vni.get(), t.port)
            }
            Self::DropTunnelFilter => write!(f, "drop vxlan of strangers no longer"),
            Self::DropTable => write!(f, "delete table inet {TABLE}"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            f.write_str(if up { " up" } else { " down" })?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(size) = self.segment_size {
            write!(f, " segments {size}")?;
        }
        if let Some(alias) = &self.alias {
            write!(f, " alias {alias}")?;
        }
        for (conf, value) in &self.ipv4 {
            write!(f, " {}={value}", conf.as_str())?;
        }
        if self.link_local == Some(LinkLocal::None) {
            f.write_str(" addrgenmode none")?;
        }
        Ok(())
    }
}
