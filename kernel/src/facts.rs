//! What the kernel shows: links, addresses, routes and neighbours, as plain values.

use std::io;
use std::net::IpAddr;

use flatnet_core::link::{Mac, SegmentSizes};
use flatnet_core::names::IfName;
use flatnet_core::shaping::SeenLimits;
use flatnet_core::step::{Neighbour, Rule};
use ipnetwork::IpNetwork;
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};
use nix::libc::{EHOSTUNREACH, ENETUNREACH, ENODEV, ENOENT, ESRCH};

use crate::batch::{Netlink, Request};
use crate::{msg, read};

/// Addresses that only a default route leads to: reserved for ever (RFC 1112, section 4), and returned to
/// the pool (RFC 3701). IPv4 first.
pub(crate) const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 1)),
];

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
    pub(crate) index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address; `None` for links without one.
    pub mac: Option<Mac>,
    /// Largest segments it takes.
    pub segments: SegmentSizes,
    /// Its alias.
    pub alias: Option<String>,
    /// Whether it is a veth that has its other end (`IFLA_LINK`, if_link.h).
    pub paired: bool,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// Gateway, where it has one.
    pub gateway: Option<IpAddr>,
    /// Metric; zero where the kernel names none.
    pub metric: u32,
    pub(crate) link_index: Option<u32>,
}

/// Looks a link up by name.
///
/// # Errors
/// The conversation failed; a link that is not there is `None`.
pub fn link(netlink: &mut Netlink, name: &IfName) -> io::Result<Option<SeenLink>> {
    get(netlink, msg::link::get_by_name(name), &[ENODEV], read::link)
}

/// All links.
///
/// # Errors
/// The dump failed.
pub fn links(netlink: &mut Netlink) -> io::Result<Vec<SeenLink>> {
    netlink.dump(&msg::link::dump(), |body| read::link(body).map(Some))
}

/// Addresses of a link.
///
/// # Errors
/// The dump failed.
pub fn addresses(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<IpNetwork>> {
    let all = addresses_at(netlink, link.index)?.into_iter();
    Ok(all.filter(|(index, _)| *index == link.index).map(|(_, address)| address).collect())
}

/// Addresses of all links, each with its link's index.
pub(crate) fn all_addresses(netlink: &mut Netlink) -> io::Result<Vec<(u32, IpNetwork)>> {
    addresses_at(netlink, 0)
}

fn addresses_at(netlink: &mut Netlink, index: u32) -> io::Result<Vec<(u32, IpNetwork)>> {
    netlink.dump(&msg::addr::dump(index), read::address)
}

/// Routes of the main table through one link, both families.
///
/// # Errors
/// A dump failed.
pub fn routes_of(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<SeenRoute>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::route::dump_through(family, link.index), |body| {
            Ok(Some(read::route(body)?).filter(|route| route.link_index == Some(link.index)))
        })?);
    }
    Ok(all)
}

/// Routes of one table other than the main one through one link, both families; a table that is not there
/// has none.
///
/// # Errors
/// A dump failed.
pub fn table_routes_of(netlink: &mut Netlink, link: &SeenLink, table: u32) -> io::Result<Vec<SeenRoute>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let found = netlink.dump(&msg::route::dump_table_through(family, link.index, table), |body| {
            Ok(Some(read::route(body)?).filter(|route| route.link_index == Some(link.index)))
        });
        match found {
            Ok(found) => all.extend(found),
            Err(e) if e.raw_os_error() == Some(ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Routes of the main table, both families.
pub(crate) fn main_routes(netlink: &mut Netlink) -> io::Result<Vec<SeenRoute>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::route::dump_main(family), |body| read::route(body).map(Some))?);
    }
    Ok(all)
}

/// Metrics of the default routes that there are, both families. Cheap where there are none.
///
/// # Errors
/// The conversation failed.
pub fn default_metrics(netlink: &mut Netlink) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for (family, elsewhere) in [AddressFamily::Inet, AddressFamily::Inet6].into_iter().zip(ELSEWHERE) {
        if route_to(netlink, elsewhere)?.is_none() {
            continue;
        }
        all.extend(netlink.dump(&msg::route::dump_main(family), |body| {
            Ok(Some(read::route(body)?).filter(|r| r.dst.prefix() == 0).map(|r| r.metric))
        })?);
    }
    Ok(all)
}

/// Rules that choose a table by source address, both families.
///
/// # Errors
/// A dump failed.
pub fn source_rules(netlink: &mut Netlink) -> io::Result<Vec<Rule>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::rule::dump(family), read::source_rule)?);
    }
    Ok(all)
}

/// The link that packets to `ip` leave through.
///
/// # Errors
/// The conversation failed; no route is `None`.
pub fn link_to(netlink: &mut Netlink, ip: IpAddr) -> io::Result<Option<SeenLink>> {
    match route_to(netlink, ip)?.and_then(|route| route.link_index) {
        Some(index) => get(netlink, msg::link::get_by_index(index), &[ENODEV], read::link),
        None => Ok(None),
    }
}

/// The entry of the routing tables that covers `ip`, as it stands in the table.
///
/// # Errors
/// The conversation failed; no entry is `None`.
pub fn route_to(netlink: &mut Netlink, ip: IpAddr) -> io::Result<Option<SeenRoute>> {
    get(netlink, msg::route::get_match(ip), &[ENETUNREACH, EHOSTUNREACH, ESRCH], read::route)
}

/// Whether there is a route to exactly `ip`: somebody has it, whatever our files say.
pub fn is_routed(netlink: &mut Netlink, ip: IpAddr) -> bool {
    let exactly = IpNetwork::from(ip);
    matches!(route_to(netlink, ip), Ok(Some(route)) if route.dst == exactly)
}

/// Permanent neighbour entries of a link, both families.
///
/// # Errors
/// A dump failed.
pub fn permanent_neighbours(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<Neighbour>> {
    let all = neighbours_at(netlink, link.index)?.into_iter();
    Ok(all.filter(|(index, _)| *index == link.index).map(|(_, neighbour)| neighbour).collect())
}

/// Permanent neighbour entries of all links, each with its link's index.
pub(crate) fn all_permanent_neighbours(netlink: &mut Netlink) -> io::Result<Vec<(u32, Neighbour)>> {
    neighbours_at(netlink, 0)
}

fn neighbours_at(netlink: &mut Netlink, index: u32) -> io::Result<Vec<(u32, Neighbour)>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::neigh::dump(family, index), |body| {
            let message = NeighbourMessage::parse(body)?;
            Ok(read::neighbour(&message)
                .filter(|_| message.header.state == NeighbourState::Permanent)
                .map(|neighbour| (message.header.ifindex, neighbour)))
        })?);
    }
    Ok(all)
}

/// The bandwidth limits of a pod's interface: `host` is the node's end of its pair, `shaper` the device that
/// limits what comes from it, where there is one.
///
/// # Errors
/// A dump failed.
pub fn limits(netlink: &mut Netlink, host: &SeenLink, shaper: Option<&SeenLink>) -> io::Result<SeenLimits> {
    let mut seen = SeenLimits::default();
    for (link, limit) in [(Some(host), &mut seen.to_pod), (shaper, &mut seen.from_pod)] {
        let Some(link) = link else { continue };
        let rates = netlink.dump(&msg::tc::dump_qdiscs(), |body| msg::tc::read_rate(body, link.index))?;
        *limit = rates.first().copied();
    }
    if let Some(shaper) = shaper {
        let filters = msg::tc::dump_filters(host.index);
        let ways = netlink.dump(&filters, |body| msg::tc::read_redirect(body, host.index))?;
        seen.redirected = shaper.up && ways.contains(&shaper.index);
    }
    Ok(seen)
}

/// One object; `None` where the kernel answers with one of `absent`.
fn get<T>(
    netlink: &mut Netlink,
    request: Request,
    absent: &[i32],
    read: impl Fn(&[u8]) -> Result<T, DecodeError>,
) -> io::Result<Option<T>> {
    match netlink.request(request)? {
        Ok(bodies) => bodies
            .first()
            .map(|body| read(body).map_err(|e| io::Error::other(format!("netlink: {e}"))))
            .transpose(),
        Err(refusal) if absent.contains(&refusal.errno) => Ok(None),
        Err(refusal) => Err(io::Error::from_raw_os_error(refusal.errno)),
    }
}
