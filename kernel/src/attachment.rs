//! What the kernel shows of one attachment: both ends of its pair, and whether anybody lives behind it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use flatnet_core::attach::{SeenAttachment, SeenEnd, SeenRoute};
use flatnet_core::beside::table_of;
use flatnet_core::kernel::KernelError;
use flatnet_core::life::{self, HostEnd, Moment, Signs};
use flatnet_core::link::is_host_if;
use flatnet_core::names::IfName;
use flatnet_core::node::Attachment;
use flatnet_core::repair::pod_settings;
use flatnet_core::shaping::{self, SeenLimits};
use flatnet_core::step::{Ipv4Conf, Ns, Rule};

use crate::apply::NetlinkKernel;
use crate::batch::Netlink;
use crate::netns::NetnsFd;
use crate::{facts, sysctl};

/// Both ends, and the settings inside the pod that the record speaks of.
///
/// # Errors
/// A dump failed; what is not there is no error.
pub fn see(kernel: &mut NetlinkKernel, attachment: &Attachment) -> Result<SeenAttachment, KernelError> {
    let failed = |what: &'static str| move |e: io::Error| KernelError::from_io(what, &e);
    let node = see_node(kernel.netlink(Ns::Node)?, attachment)?;
    let netlink = kernel.netlink(Ns::Pod)?;
    let pod = end(netlink, &attachment.ifname).map_err(failed("read the pod's interface"))?;
    let lo: IfName = "lo".parse().map_err(|e| KernelError::new("read the pod's lo", e))?;
    let lo = facts::link(netlink, &lo).map_err(failed("read the pod's lo"))?;
    let (own_routes, rules) = see_beside(netlink, attachment).map_err(failed("read the pod's rules"))?;
    let keys = pod_settings(attachment);
    let read = || keys.into_iter().filter_map(|key| Some((key.clone(), sysctl::read(&key).ok()?))).collect();
    let sysctls = match kernel.pod_namespace() {
        Some(ns) => ns.run(read).map_err(|e| KernelError::new("read the pod's settings", e))?,
        None => read(),
    };
    Ok(SeenAttachment { node, pod, loopback_up: lo.is_some_and(|lo| lo.up), sysctls, own_routes, rules })
}

/// Every pod's end on the node, by name, from one dump of each table.
///
/// # Errors
/// A dump failed.
pub fn see_nodes(netlink: &mut Netlink) -> io::Result<HashMap<String, SeenEnd>> {
    let mut ends: HashMap<u32, (String, SeenEnd)> = HashMap::new();
    for link in facts::links(netlink)?.into_iter().filter(|link| link.paired && is_host_if(&link.name)) {
        let conf = host_conf(&link.name);
        ends.insert(link.index, (link.name.clone(), SeenEnd { conf, ..bare(link) }));
    }
    for (index, address) in facts::all_addresses(netlink)? {
        if let Some((_, end)) = ends.get_mut(&index) {
            end.addresses.push(address);
        }
    }
    for seen in facts::main_routes(netlink)? {
        if let Some((_, end)) = seen.link_index.and_then(|index| ends.get_mut(&index)) {
            end.routes.push(route(seen));
        }
    }
    for (index, neighbour) in facts::all_permanent_neighbours(netlink)? {
        if let Some((_, end)) = ends.get_mut(&index) {
            end.neighbours.push(neighbour);
        }
    }
    Ok(ends.into_values().collect())
}

fn host_conf(name: &str) -> Vec<(Ipv4Conf, u32)> {
    [Ipv4Conf::Forwarding, Ipv4Conf::ProxyArp, Ipv4Conf::RpFilter, Ipv4Conf::RouteLocalnet]
        .into_iter()
        .filter_map(|conf| {
            let key = format!("net/ipv4/conf/{name}/{}", conf.as_str());
            Some((conf, sysctl::read(&key).ok()?.parse().ok()?))
        })
        .collect()
}

/// What the link itself shows.
fn bare(link: facts::SeenLink) -> SeenEnd {
    SeenEnd {
        up: link.up,
        mtu: link.mtu,
        mac: link.mac,
        segments: link.segments,
        alias: link.alias,
        ..SeenEnd::default()
    }
}

/// What a further interface of the pod has beyond the first: routes in its own table, and rules.
fn see_beside(netlink: &mut Netlink, attachment: &Attachment) -> io::Result<(Vec<SeenRoute>, Vec<Rule>)> {
    if attachment.metric.is_none() {
        return Ok((Vec::new(), Vec::new()));
    }
    let routes = match facts::link(netlink, &attachment.ifname)? {
        Some(link) => facts::table_routes_of(netlink, &link, table_of(attachment))?,
        None => Vec::new(),
    };
    Ok((routes.into_iter().map(route).collect(), facts::source_rules(netlink)?))
}

const fn route(seen: facts::SeenRoute) -> SeenRoute {
    SeenRoute { dst: seen.dst, gateway: seen.gateway, metric: seen.metric }
}

/// The node's end.
///
/// # Errors
/// A dump failed; an end that is not there is `None`.
pub fn see_node(netlink: &mut Netlink, attachment: &Attachment) -> Result<Option<SeenEnd>, KernelError> {
    let mut seen = end(netlink, &attachment.host_ifname)
        .map_err(|e| KernelError::from_io("read the node's interface", &e))?;
    if let Some(node) = &mut seen {
        node.conf = host_conf(attachment.host_ifname.as_str());
    }
    Ok(seen)
}

/// The bandwidth limits of its node's end.
///
/// # Errors
/// A dump failed.
pub fn see_limits(netlink: &mut Netlink, attachment: &Attachment) -> Result<SeenLimits, KernelError> {
    let failed = |e: io::Error| KernelError::from_io("read the bandwidth limits", &e);
    let Some(host) = facts::link(netlink, &attachment.host_ifname).map_err(failed)? else {
        return Ok(SeenLimits::default());
    };
    let shaper = facts::link(netlink, &shaping::device(&attachment.host_ifname)).map_err(failed)?;
    facts::limits(netlink, &host, shaper.as_ref()).map_err(failed)
}

/// Whether anybody lives behind it.
///
/// # Errors
/// The conversation with the kernel failed.
pub fn signs(netlink: &mut Netlink, attachment: &Attachment) -> io::Result<Signs> {
    let host_end = match facts::link(netlink, &attachment.host_ifname)? {
        Some(link) if link.paired => HostEnd::Paired,
        Some(_) => HostEnd::Alone,
        None => HostEnd::Gone,
    };
    // A whole pair proves life; only without one does the namespace have to be looked at.
    let namespace = host_end != HostEnd::Paired && namespace(attachment).is_some();
    Ok(Signs { namespace, host_end })
}

/// Whether nobody uses it any more, for long enough. What cannot be looked at is not dead.
pub fn is_dead(netlink: &mut Netlink, attachment: &Attachment, moment: &Moment, grace: u64) -> bool {
    signs(netlink, attachment).is_ok_and(|signs| life::is_dead(attachment, signs, moment, grace))
}

/// The namespace that ADD was given, if its path still leads to it.
#[must_use]
pub fn namespace(attachment: &Attachment) -> Option<NetnsFd> {
    let ns = NetnsFd::open(Path::new(&attachment.netns)).ok()?;
    is_namespace_of(attachment, &ns).then_some(ns)
}

/// Whether `ns` is the one that ADD was given. An inode's number alone would not tell: the next namespace
/// may have it.
#[must_use]
pub fn is_namespace_of(attachment: &Attachment, ns: &NetnsFd) -> bool {
    let cookie = || ns.run(Netlink::open).ok()?.ok()?.namespace_cookie().ok();
    ns.inode() == attachment.netns_inode
        && attachment.netns_cookie.is_none_or(|recorded| cookie().is_none_or(|found| found == recorded))
}

/// The running boot.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    sysctl::read("kernel/random/boot_id")
}

fn end(netlink: &mut Netlink, name: &IfName) -> io::Result<Option<SeenEnd>> {
    let Some(link) = facts::link(netlink, name)? else { return Ok(None) };
    let routes = facts::routes_of(netlink, &link)?;
    Ok(Some(SeenEnd {
        addresses: facts::addresses(netlink, &link)?,
        routes: routes.into_iter().map(route).collect(),
        neighbours: facts::permanent_neighbours(netlink, &link)?,
        ..bare(link)
    }))
}
