//! Dumps of what is ours: links, routes, nexthops, neighbours, forwarding entries and settings, as one
//! [`Snapshot`]. Reads only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use flatnet_core::kernel::KernelError;
use flatnet_core::link::{Mac, SegmentSizes, is_host_if};
use flatnet_core::names::IfName;
use flatnet_core::overlay::snapshot::{Link, Observe, Snapshot, VxlanSeen};
use flatnet_core::overlay::{is_tunnel_if, sysctl as keys};
use flatnet_core::step::{Fdb, Nexthop, Ns, ROUTE_PROTOCOL, Route, Via};
use ipnetwork::IpNetwork;
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use crate::apply::NetlinkKernel;
use crate::batch::Netlink;
use crate::facts::{self, ELSEWHERE, SeenLink};
use crate::{msg, read, sysctl, tunnel_filter};

/// Metric of an IPv6 route that was given none (`IP6_RT_PRIO_USER`, include/net/ipv6.h).
const IPV6_DEFAULT_METRIC: u32 = 1024;

impl Observe for NetlinkKernel {
    fn snapshot(&mut self) -> Result<Snapshot, KernelError> {
        let netlink = self.netlink(Ns::Node)?;
        let failed = |what: &'static str| move |e: io::Error| KernelError::from_io(what, &e);
        let mut links = Links::read(netlink).map_err(failed("read links"))?;
        let (routes, pod_routes) = routes(netlink, &links).map_err(failed("read routes"))?;
        let (nexthops, nexthop_ids) = nexthops(netlink, &links).map_err(failed("read nexthops"))?;
        let default_links = default_links(netlink, &links).map_err(failed("look up default routes"))?;
        let (mut neighbours, mut fdb) = (Vec::new(), Vec::new());
        for (seen, name) in links.tunnels() {
            let found = facts::permanent_neighbours(netlink, seen).map_err(failed("read neighbours"))?;
            neighbours.extend(found.into_iter().map(|neighbour| (name.clone(), neighbour)));
            let found = forwarding_entries(netlink, seen.index).map_err(failed("read forwarding entries"))?;
            fdb.extend(found.into_iter().map(|entry| (name.clone(), entry)));
        }
        let pods = std::mem::take(&mut links.pods);
        let links = links.into_links();
        let sysctls = settings(&links);
        let chains = tunnel_filter::chains().map_err(failed("read our nftables chains"))?;
        let filter = tunnel_filter::read().map_err(failed("read whom the tunnel hears"))?;
        Ok(Snapshot {
            pods,
            pod_routes,
            links,
            default_links,
            routes,
            nexthops,
            nexthop_ids,
            neighbours,
            fdb,
            sysctls,
            filter,
            chains,
        })
    }
}

impl NetlinkKernel {
    /// Reads links, their addresses and those of default routes: a small part of [`Observe::snapshot`],
    /// the rest of which stays empty.
    ///
    /// # Errors
    /// Something could not be read.
    pub fn uplinks(&mut self) -> Result<Snapshot, KernelError> {
        let netlink = self.netlink(Ns::Node)?;
        let failed = |what: &'static str| move |e: io::Error| KernelError::from_io(what, &e);
        let links = Links::read(netlink).map_err(failed("read links"))?;
        let default_links = default_links(netlink, &links).map_err(failed("look up default routes"))?;
        Ok(Snapshot { links: links.into_links(), default_links, ..Snapshot::default() })
    }
}

/// Links while their indexes are still known.
struct Links {
    seen: Vec<(SeenLink, Option<RawVxlan>)>,
    names: HashMap<u32, IfName>,
    addresses: HashMap<u32, Vec<IpNetwork>>,
    /// The node's ends of pods' links.
    pods: Vec<(IfName, SegmentSizes)>,
    pod_names: HashMap<u32, IfName>,
}

#[derive(Debug, Default, Clone, Copy)]
struct RawVxlan {
    vni: u32,
    port: u16,
    local: Option<IpAddr>,
    uplink: u32,
    learning: bool,
}

impl Links {
    /// Of the host ends of pods, which may be many and are the plugin's, only what the agent looks after.
    fn read(netlink: &mut Netlink) -> io::Result<Self> {
        let seen = netlink.dump(&msg::link::dump(), |body| Ok(Some(read_link(body)?)))?;
        let (pods, seen): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(link, _)| is_host_if(&link.name));
        let pod_names = pods.iter().filter_map(|(link, _)| Some((link.index, link.name.parse().ok()?)));
        let pod_names = pod_names.collect();
        let pods = pods.into_iter().filter_map(|(link, _)| Some((link.name.parse().ok()?, link.segments)));
        let pods = pods.collect();
        let names: HashMap<u32, IfName> =
            seen.iter().filter_map(|(link, _)| Some((link.index, link.name.parse().ok()?))).collect();
        let all = netlink.dump(&msg::addr::dump(0), read::address)?;
        let mut addresses: HashMap<u32, Vec<IpNetwork>> = HashMap::new();
        for (index, address) in all {
            addresses.entry(index).or_default().push(address);
        }
        Ok(Self { seen, names, addresses, pods, pod_names })
    }

    fn name(&self, index: Option<u32>) -> Option<&IfName> {
        self.names.get(&index?)
    }

    fn tunnels(&self) -> impl Iterator<Item = (&SeenLink, &IfName)> {
        self.seen
            .iter()
            .filter_map(|(link, _)| Some((link, self.names.get(&link.index)?)))
            .filter(|(link, _)| is_tunnel_if(&link.name))
    }

    fn into_links(mut self) -> Vec<Link> {
        let seen = std::mem::take(&mut self.seen);
        let link = |(link, vxlan): (SeenLink, Option<RawVxlan>)| {
            Some(Link {
                name: self.names.get(&link.index)?.clone(),
                up: link.up,
                mtu: link.mtu,
                mac: link.mac,
                segments: link.segments,
                addresses: self.addresses.get(&link.index).cloned().unwrap_or_default(),
                vxlan: vxlan.map(|raw| VxlanSeen {
                    vni: raw.vni,
                    port: raw.port,
                    local: raw.local,
                    uplink: self.name(Some(raw.uplink)).cloned(),
                    learning: raw.learning,
                }),
            })
        };
        seen.into_iter().filter_map(link).collect()
    }
}

fn read_link(body: &[u8]) -> Result<(SeenLink, Option<RawVxlan>), DecodeError> {
    let message = LinkMessage::parse(body)?;
    let vxlan = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(settings)) => Some(read_vxlan(settings)),
            _ => None,
        }),
        _ => None,
    });
    Ok((read::link_message(&message), vxlan))
}

fn read_vxlan(settings: &[InfoVxlan]) -> RawVxlan {
    let mut vxlan = RawVxlan::default();
    for setting in settings {
        match setting {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(ip) => vxlan.local = Some(IpAddr::V4(*ip)),
            InfoVxlan::Local6(ip) => vxlan.local = Some(IpAddr::V6(*ip)),
            InfoVxlan::Link(index) => vxlan.uplink = *index,
            InfoVxlan::Learning(on) => vxlan.learning = *on,
            _ => {}
        }
    }
    vxlan
}

/// A route through the node's end of a pod's link.
type PodRoute = (IpNetwork, IfName);

/// Our routes to other nodes' pods, and those to this node's own.
fn routes(netlink: &mut Netlink, links: &Links) -> io::Result<(Vec<Route>, Vec<PodRoute>)> {
    let (mut all, mut pods) = (Vec::new(), Vec::new());
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = msg::route::dump_of(family, ROUTE_PROTOCOL);
        for found in netlink.dump(&request, |body| read_route(body, links))? {
            match found {
                Found::Overlay(route) => all.push(route),
                Found::Pod(route) => pods.push(route),
            }
        }
    }
    Ok((all, pods))
}

enum Found {
    Overlay(Route),
    Pod(PodRoute),
}

fn read_route(body: &[u8], links: &Links) -> Result<Option<Found>, DecodeError> {
    let message = RouteMessage::parse(body)?;
    if message.header.protocol != RouteProtocol::from(ROUTE_PROTOCOL) {
        return Ok(None);
    }
    let v4 = message.header.address_family == AddressFamily::Inet;
    let mut dst: IpAddr = if v4 { [0u8; 4].into() } else { [0u16; 8].into() };
    let (mut gateway, mut link, mut id, mut source, mut metric) = (None, None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = read::ip(address).unwrap_or(dst),
            RouteAttribute::Gateway(address) => gateway = read::ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::NhId(number) => id = Some(*number),
            RouteAttribute::PrefSource(address) => source = read::ip(address),
            RouteAttribute::Priority(number) => metric = Some(*number),
            _ => {}
        }
    }
    let dst = IpNetwork::new(dst, message.header.destination_prefix_length)
        .map_err(|e| DecodeError::from(e.to_string()))?;
    let via = match (message.header.kind, id, links.name(link), gateway) {
        (RouteType::Unreachable, ..) => Via::Unreachable,
        (_, Some(id), ..) => Via::Nexthop(id),
        (_, None, Some(link), Some(gateway)) => Via::Gateway { gateway, link: link.clone() },
        (_, None, Some(link), None) => Via::Link(link.clone()),
        (_, None, None, _) => {
            let pod = link
                .and_then(|index| links.pod_names.get(&index))
                .filter(|_| dst == IpNetwork::from(dst.ip()));
            return Ok(pod.map(|pod| Found::Pod((dst, pod.clone()))));
        }
    };
    let metric = metric.filter(|metric| v4 || *metric != IPV6_DEFAULT_METRIC);
    Ok(Some(Found::Overlay(Route { dst, via, source, metric })))
}

fn nexthops(netlink: &mut Netlink, links: &Links) -> io::Result<(Vec<Nexthop>, HashSet<u32>)> {
    let all = netlink.dump(&msg::nexthop::dump(), |body| Ok(Some(msg::nexthop::parse(body)?)))?;
    let ids = all.iter().map(|nexthop| nexthop.id).collect();
    let ours = all.into_iter().filter(|nexthop| nexthop.protocol == ROUTE_PROTOCOL).filter_map(|nexthop| {
        let link = links.name(nexthop.link_index)?.clone();
        Some(Nexthop { id: nexthop.id, gateway: nexthop.gateway?, link })
    });
    Ok((ours.collect(), ids))
}

fn default_links(netlink: &mut Netlink, links: &Links) -> io::Result<Vec<IfName>> {
    let mut found: Vec<IfName> = Vec::new();
    for ip in ELSEWHERE {
        let route = facts::route_to(netlink, ip)?;
        let link = route.and_then(|route| links.name(route.link_index).cloned());
        found.extend(link.filter(|link| !found.contains(link)));
    }
    Ok(found)
}

fn forwarding_entries(netlink: &mut Netlink, index: u32) -> io::Result<Vec<Fdb>> {
    netlink.dump(&msg::neigh::dump(AddressFamily::Bridge, index), |body| {
        let message = NeighbourMessage::parse(body)?;
        let (mut mac, mut node) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
                NeighbourAttribute::Destination(address) => node = underlay_address(&address),
                _ => {}
            }
        }
        let entry = mac.zip(node).map(|(mac, node)| Fdb { mac, node });
        Ok(entry.filter(|_| message.header.ifindex == index))
    })
}

/// The message's own family is `AF_BRIDGE`, so the address's length tells its family.
fn underlay_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice())
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
            .ok(),
        _ => None,
    }
}

/// Settings that can be read; those of a family that this kernel lacks are left out.
fn settings(links: &[Link]) -> BTreeMap<String, String> {
    let node = [keys::IPV4_FORWARD, keys::IPV6_FORWARD].map(str::to_owned);
    let tunnels = links.iter().filter(|link| is_tunnel_if(link.name.as_str()));
    let per_tunnel = tunnels.map(|link| keys::rp_filter(&link.name));
    let per_link = links.iter().flat_map(|link| {
        [keys::accept_ra(&link.name), keys::ipv4_forwarding(&link.name), keys::ipv6_forwarding(&link.name)]
    });
    let all = node.into_iter().chain(per_tunnel).chain(per_link);
    all.filter_map(|key| sysctl::read(&key).ok().map(|value| (key, value))).collect()
}
