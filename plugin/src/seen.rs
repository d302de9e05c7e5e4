//! Reads the kernel for ADD and CHECK.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use flatnet_core::attach::{SeenAttachment, SeenEnd};
use flatnet_core::link::{OverlayMtu, UnderlayMtu};
use flatnet_core::names::IfName;
use flatnet_core::node::Attachment;
use flatnet_core::shaping::{self, SeenLimits};
use flatnet_core::step::{Ipv4Conf, Ns};
use flatnet_kernel::batch::Netlink;
use flatnet_kernel::{NetlinkKernel, facts, sysctl};
use ipnetwork::IpNetwork;

use crate::context;
use flatnet_core::cni::error::CniError;

/// An address nobody has (TEST-NET-3, RFC 5737): the route to it is the way out.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// What the kernel shows of `attachment`.
pub(crate) fn attachment(
    kernel: &mut NetlinkKernel,
    attachment: &Attachment,
) -> Result<SeenAttachment, CniError> {
    let pod = end(kernel.netlink(Ns::Pod).map_err(|e| context::kernel(&e))?, &attachment.ifname);
    let node = end(kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?, &attachment.host_ifname);
    let mut seen = SeenAttachment {
        pod: pod.map_err(|e| context::io("read the pod's interface", &e))?,
        node: node.map_err(|e| context::io("read the node's interface", &e))?,
    };
    if let Some(node) = &mut seen.node {
        let all = [Ipv4Conf::Forwarding, Ipv4Conf::ProxyArp, Ipv4Conf::RpFilter, Ipv4Conf::RouteLocalnet];
        node.conf = all
            .into_iter()
            .filter_map(|conf| {
                let key = format!("net/ipv4/conf/{}/{}", attachment.host_ifname, conf.as_str());
                Some((conf, sysctl::read(&key).ok()?.parse().ok()?))
            })
            .collect();
    }
    Ok(seen)
}

fn end(netlink: &mut Netlink, name: &IfName) -> io::Result<Option<SeenEnd>> {
    let Some(link) = facts::link(netlink, name)? else { return Ok(None) };
    let routes = facts::routes_of(netlink, &link)?;
    Ok(Some(SeenEnd {
        up: link.up,
        mtu: link.mtu,
        mac: link.mac,
        segments: link.segments,
        addresses: facts::addresses(netlink, &link)?,
        routes: routes.into_iter().map(|r| (r.dst, r.gateway)).collect(),
        neighbours: facts::permanent_neighbours(netlink, &link)?,
        conf: Vec::new(),
    }))
}

/// The bandwidth limits that the kernel shows of `attachment`.
pub(crate) fn limits(kernel: &mut NetlinkKernel, attachment: &Attachment) -> Result<SeenLimits, CniError> {
    let failed = |e: io::Error| context::io("read the bandwidth limits", &e);
    let node = kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?;
    let Some(host) = facts::link(node, &attachment.host_ifname).map_err(failed)? else {
        return Ok(SeenLimits::default());
    };
    let shaper = facts::link(node, &shaping::device(&attachment.host_ifname)).map_err(failed)?;
    facts::limits(node, &host, shaper.as_ref()).map_err(failed)
}

/// Whether the node routes to exactly `ip`: somebody has it, whatever our files say.
pub(crate) fn is_routed(netlink: &mut Netlink, ip: IpAddr) -> bool {
    let exactly = IpNetwork::from(ip);
    matches!(facts::route_to(netlink, ip), Ok(Some(route)) if route.dst == exactly)
}

/// The MTU that packets leaving this node must fit, where no agent says: the default route's link's.
pub(crate) fn uplink_mtu(netlink: &mut Netlink) -> OverlayMtu {
    facts::link_to(netlink, OUTSIDE)
        .ok()
        .flatten()
        .and_then(|link| OverlayMtu::direct(UnderlayMtu(link.mtu)).ok())
        .unwrap_or_default()
}
