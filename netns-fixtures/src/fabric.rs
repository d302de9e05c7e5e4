//! A fabric: L2 segments joined by a router, and nodes plugged into them.
//!
//! ```text
//!   n1 eth0 ---+                                  +--- eth0 n3
//!   n2 eth0 ---+--- seg0 (bridge) --- router --- seg1
//! ```
//! The bridges live in one namespace, the router in another. The router knows the segments'
//! prefixes and nothing else, so a packet with a pod address never crosses it unencapsulated.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{Capture, FixtureError, NetNs, Segment, link, link::End};

/// The name of every node's interface to the fabric.
pub const UPLINK: &str = "eth0";

/// Interface numbers in the switch namespace start here; see [`link::add_port`].
const FIRST_INDEX: u32 = 1000;
/// Duplicate address detection would keep an address back for a second or two.
const NO_DAD: [(&str, &str); 2] = [("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")];

/// A node: a namespace with `eth0` on a segment, its addresses, default routes by the router.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub ns: NetNs,
    /// The addresses of `eth0`, IPv4 first.
    pub addresses: Vec<IpNetwork>,
    /// The segment's MTU.
    pub mtu: u32,
    port: String,
}

impl Node {
    /// Its IPv4 address, when the segment has one.
    pub fn v4(&self) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(IpAddr::is_ipv4)
    }

    /// Its cable's end in the switch namespace, for [`set_cable`].
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Its IPv6 address, when the segment has one.
    pub fn v6(&self) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(IpAddr::is_ipv6)
    }
}

/// The segments of a fabric that is about to be built.
#[derive(Debug, Default)]
pub struct FabricBuilder {
    segments: Vec<Segment>,
}

/// Switches and a router, running. Nodes outlive it only as unplugged namespaces.
#[derive(Debug)]
pub struct Fabric {
    /// Where the bridges and the fabric's end of every cable are.
    pub switch: NetNs,
    /// The router between the segments; segment `i` is its `seg{i}`.
    pub router: NetNs,
    segments: Vec<(Segment, u32)>,
    next_index: u32,
}

impl FabricBuilder {
    /// Adds a segment.
    #[must_use]
    pub fn segment(mut self, segment: Segment) -> Self {
        self.segments.push(segment);
        self
    }

    /// Builds switches and router.
    ///
    /// # Errors
    /// When the kernel refuses, or two segments have one name.
    pub fn build(self) -> Result<Fabric, FixtureError> {
        let (switch, router) = (NetNs::new()?, NetNs::new()?);
        // The switch is no host: no addresses of its own, no neighbour discovery.
        link::sysctls(&switch, &[("ipv6/conf/default/disable_ipv6", "1")])?;
        link::sysctls(&router, &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        link::sysctls(&router, &NO_DAD)?;
        let mut fabric = Fabric { switch, router, segments: vec![], next_index: FIRST_INDEX };
        for segment in self.segments {
            fabric.add_segment(segment)?;
        }
        Ok(fabric)
    }
}

impl Fabric {
    /// Starts a description.
    pub fn builder() -> FabricBuilder {
        FabricBuilder::default()
    }

    /// Two segments with IPv4 and IPv6, MTU 1500, joined by a router: `a` and `b`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn two_segments() -> Result<Self, FixtureError> {
        Self::builder()
            .segment(Segment::new("a").v4("192.0.2.0/24").v6("2001:db8:1::/64"))
            .segment(Segment::new("b").v4("198.51.100.0/24").v6("2001:db8:2::/64"))
            .build()
    }

    /// Plugs a new node into `segment`; the first node there gets host number 1, and so on.
    ///
    /// # Errors
    /// When there is no such segment, or the kernel refuses.
    pub fn node(&mut self, name: &str, segment: &str) -> Result<Node, FixtureError> {
        let found = self.segments.iter().position(|(s, _)| s.name == segment);
        let at = found.ok_or_else(|| FixtureError::Plan(format!("no segment {segment}")))?;
        let (segment, taken) = &mut self.segments[at];
        *taken += 1;
        let addresses = segment.addresses(*taken);
        let gateways = segment.router();
        let mtu = segment.mtu;
        let ns = NetNs::new()?;
        link::sysctls(&ns, &[("ipv6/conf/default/accept_dad", "0")])?;
        let port = self.plug(at, &ns, UPLINK)?;
        // The default is for the uplink only: pods' links are the product's own business.
        link::sysctls(&ns, &[("ipv6/conf/default/accept_dad", "1")])?;
        configure(&ns, UPLINK, &addresses, &gateways)?;
        link::wait_for_carrier(&self.switch, &port)?;
        Ok(Node { name: name.to_owned(), ns, addresses, mtu, port })
    }

    /// Pulls the node's cable at the switch: its carrier goes, its settings stay.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self, node: &Node) -> Result<(), FixtureError> {
        self.set_port(&node.port, Cable::Out)
    }

    /// Plugs the node's cable in again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn heal(&self, node: &Node) -> Result<(), FixtureError> {
        self.set_port(&node.port, Cable::In)
    }

    /// Pulls the cable between a segment and the router; its nodes still reach each other.
    ///
    /// # Errors
    /// When there is no such segment, or the kernel refuses.
    pub fn cut_segment(&self, segment: &str) -> Result<(), FixtureError> {
        self.set_port(&self.router_port(segment)?, Cable::Out)
    }

    /// Plugs the cable between a segment and the router in again.
    ///
    /// # Errors
    /// When there is no such segment, or the kernel refuses.
    pub fn heal_segment(&self, segment: &str) -> Result<(), FixtureError> {
        self.set_port(&self.router_port(segment)?, Cable::In)
    }

    /// Captures at the switch what goes over the node's cable, both ways.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn capture(&self, node: &Node) -> Result<Capture, FixtureError> {
        Capture::start(&self.switch, Some(&node.port))
    }

    fn add_segment(&mut self, segment: Segment) -> Result<(), FixtureError> {
        if self.segments.iter().any(|(s, _)| s.name == segment.name) {
            return Err(FixtureError::Plan(format!("two segments named {}", segment.name)));
        }
        let (at, index) = (self.segments.len(), self.take_index());
        let (bridge, mtu) = (format!("seg{at}"), segment.mtu);
        link::netlink(&self.switch, &format!("add bridge {bridge}"), async |h| {
            link::add_bridge(&h, End { name: &bridge, index }, mtu).await
        })?;
        let addresses = segment.router();
        self.segments.push((segment, 0));
        let router = self.router.clone();
        let port = self.plug(at, &router, &bridge)?;
        configure(&router, &bridge, &addresses, &[])?;
        link::wait_for_carrier(&self.switch, &port)
    }

    /// Lays a cable from segment `at` to a new interface `far` in `ns`, and names its switch end.
    fn plug(&mut self, at: usize, ns: &NetNs, far: &str) -> Result<String, FixtureError> {
        let index = self.take_index();
        let (port, mtu) = (format!("port{index}"), self.segments[at].0.mtu);
        let bridge = link::index_of(&self.switch, &format!("seg{at}"))?;
        link::netlink(&self.switch, &format!("add veth {port} to {far}"), async |h| {
            let near = End { name: &port, index };
            link::add_port(&h, near, bridge, (far, ns.as_raw_fd()), mtu).await
        })?;
        Ok(port)
    }

    fn set_port(&self, port: &str, cable: Cable) -> Result<(), FixtureError> {
        set_cable(&self.switch, port, cable)
    }

    /// The router's port of a segment is the first one that was made after the bridge.
    fn router_port(&self, segment: &str) -> Result<String, FixtureError> {
        let at = self.segments.iter().position(|(s, _)| s.name == segment);
        let at = at.ok_or_else(|| FixtureError::Plan(format!("no segment {segment}")))?;
        let bridge = link::index_of(&self.switch, &format!("seg{at}"))?;
        Ok(format!("port{}", bridge + 1))
    }

    fn take_index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }
}

/// Whether a cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// It is.
    In,
    /// It is pulled: its carrier goes, its settings stay.
    Out,
}

/// Plugs a cable in or pulls it, in the switch namespace of a fabric that may have been made by another process.
///
/// # Errors
/// When there is no such port, or the kernel refuses.
pub fn set_cable(switch: &NetNs, port: &str, cable: Cable) -> Result<(), FixtureError> {
    link::netlink(switch, &format!("set {port} {cable:?}"), async |h| match cable {
        Cable::In => link::set_up(&h, port).await,
        Cable::Out => link::set_down(&h, port).await,
    })?;
    match cable {
        Cable::In => link::wait_for_carrier(switch, port),
        Cable::Out => Ok(()),
    }
}

/// Brings a link up with addresses and default routes, and waits until it carries.
fn configure(
    ns: &NetNs,
    name: &str,
    addresses: &[IpNetwork],
    gateways: &[IpNetwork],
) -> Result<(), FixtureError> {
    let index = link::index_of(ns, name)?;
    link::netlink(ns, &format!("configure {name}"), async |h| {
        link::set_up(&h, name).await?;
        link::add_addresses(&h, index, addresses).await?;
        for gateway in gateways {
            link::add_default(&h, gateway.ip()).await?;
        }
        Ok(())
    })?;
    link::wait_for_carrier(ns, name)
}
