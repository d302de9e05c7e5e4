//! What the kernel shows: links, addresses, routes and neighbours, as plain values.

use std::io;
use std::net::IpAddr;

use flatnet_core::link::Mac;
use flatnet_core::names::IfName;
use flatnet_core::step::Neighbour;
use ipnetwork::IpNetwork;
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use nix::libc::{EHOSTUNREACH, ENETUNREACH, ENODEV, ESRCH};

use crate::batch::{Netlink, Request};
use crate::msg;

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
    /// Alias.
    pub alias: Option<String>,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// Gateway, where it has one.
    pub gateway: Option<IpAddr>,
    pub(crate) link_index: Option<u32>,
}

/// Looks a link up by name.
///
/// # Errors
/// The conversation failed; a link that is not there is `None`.
pub fn link(netlink: &mut Netlink, name: &IfName) -> io::Result<Option<SeenLink>> {
    get(netlink, msg::link::get_by_name(name), &[ENODEV], read_link)
}

/// All links of the namespace.
///
/// # Errors
/// The dump failed.
pub fn links(netlink: &mut Netlink) -> io::Result<Vec<SeenLink>> {
    netlink.dump(&msg::link::dump(), |body| Ok(Some(read_link(body)?)))
}

/// Addresses of a link.
///
/// # Errors
/// The dump failed.
pub fn addresses(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<IpNetwork>> {
    netlink.dump(&msg::addr::dump(link.index), |body| {
        let message = AddressMessage::parse(body)?;
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let any = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        Ok(local.or(any).and_then(|ip| IpNetwork::new(ip, message.header.prefix_len).ok()))
    })
}

/// Routes of the main table through one link, both families.
///
/// # Errors
/// A dump failed.
pub fn routes_of(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<SeenRoute>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::route::dump_through(family, link.index), |body| {
            Ok(Some(read_route(body)?).filter(|route| route.link_index == Some(link.index)))
        })?);
    }
    Ok(all)
}

/// The link that packets to `ip` leave through.
///
/// # Errors
/// The conversation failed; no route is `None`.
pub fn link_to(netlink: &mut Netlink, ip: IpAddr) -> io::Result<Option<SeenLink>> {
    match route_to(netlink, ip)?.and_then(|route| route.link_index) {
        Some(index) => get(netlink, msg::link::get_by_index(index), &[ENODEV], read_link),
        None => Ok(None),
    }
}

/// The entry of the routing tables that covers `ip`, as it stands in the table.
///
/// # Errors
/// The conversation failed; no entry is `None`.
pub fn route_to(netlink: &mut Netlink, ip: IpAddr) -> io::Result<Option<SeenRoute>> {
    get(netlink, msg::route::get_match(ip), &[ENETUNREACH, EHOSTUNREACH, ESRCH], read_route)
}

/// Permanent neighbour entries of a link, both families.
///
/// # Errors
/// A dump failed.
pub fn permanent_neighbours(netlink: &mut Netlink, link: &SeenLink) -> io::Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        all.extend(netlink.dump(&msg::neigh::dump(family, link.index), |body| {
            let message = NeighbourMessage::parse(body)?;
            Ok(read_neighbour(&message)
                .filter(|_| message.header.state == NeighbourState::Permanent)
                .filter(|_| message.header.ifindex == link.index))
        })?);
    }
    Ok(all)
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

fn read_link(body: &[u8]) -> Result<SeenLink, DecodeError> {
    let message = LinkMessage::parse(body)?;
    let mut seen = SeenLink {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        alias: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => seen.name = name,
            LinkAttribute::Mtu(mtu) => seen.mtu = mtu,
            LinkAttribute::Address(bytes) => seen.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::IfAlias(alias) => seen.alias = Some(alias),
            _ => {}
        }
    }
    Ok(seen)
}

fn read_route(body: &[u8]) -> Result<SeenRoute, DecodeError> {
    let message = RouteMessage::parse(body)?;
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0u16; 8]),
        _ => IpAddr::from([0u8; 4]),
    };
    let (mut dst, mut gateway, mut link_index) = (any, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address).unwrap_or(any),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => link_index = Some(*index),
            _ => {}
        }
    }
    let dst = IpNetwork::new(dst, message.header.destination_prefix_length)
        .map_err(|e| DecodeError::from(e.to_string()))?;
    Ok(SeenRoute { dst, gateway, link_index })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn read_neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.clone().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour { ip: address?, mac: mac? })
}
