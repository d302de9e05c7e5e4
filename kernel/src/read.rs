//! Bodies of messages, as plain values.

use std::net::IpAddr;

use flatnet_core::link::{Mac, SegmentSizes};
use flatnet_core::step::{Neighbour, Rule};
use ipnetwork::IpNetwork;
use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

use crate::facts::{SeenLink, SeenRoute};

pub(crate) fn link(body: &[u8]) -> Result<SeenLink, DecodeError> {
    Ok(link_message(&LinkMessage::parse(body)?))
}

pub(crate) fn link_message(message: &LinkMessage) -> SeenLink {
    let mut seen = SeenLink {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        segments: SegmentSizes::default(),
        alias: None,
        paired: false,
    };
    let (mut other_end, mut is_veth) = (0, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => seen.name.clone_from(name),
            LinkAttribute::GsoMaxSize(size) => seen.segments.gso = *size,
            LinkAttribute::GsoIpv4MaxSize(size) => seen.segments.gso_ipv4 = *size,
            LinkAttribute::GroMaxSize(size) => seen.segments.gro = *size,
            LinkAttribute::GroIpv4MaxSize(size) => seen.segments.gro_ipv4 = *size,
            LinkAttribute::TsoMaxSize(size) => seen.segments.most = *size,
            LinkAttribute::Mtu(mtu) => seen.mtu = *mtu,
            LinkAttribute::Address(bytes) => seen.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::IfAlias(alias) => seen.alias = Some(alias.clone()),
            LinkAttribute::Link(index) => other_end = *index,
            LinkAttribute::LinkInfo(infos) => is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => {}
        }
    }
    seen.paired = is_veth && other_end != 0;
    seen
}

pub(crate) fn route(body: &[u8]) -> Result<SeenRoute, DecodeError> {
    let message = RouteMessage::parse(body)?;
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0u16; 8]),
        _ => IpAddr::from([0u8; 4]),
    };
    let (mut dst, mut gateway, mut metric, mut link_index) = (any, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address).unwrap_or(any),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => link_index = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let dst = IpNetwork::new(dst, message.header.destination_prefix_length)
        .map_err(|e| DecodeError::from(e.to_string()))?;
    Ok(SeenRoute { dst, gateway, metric, link_index })
}

/// A rule that chooses a table by source address alone, as far as we read it.
pub(crate) fn source_rule(body: &[u8]) -> Result<Option<Rule>, DecodeError> {
    let message = RuleMessage::parse(body)?;
    let (mut from, mut table, mut priority) = (None, u32::from(message.header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(ip) => from = Some(*ip),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            _ => {}
        }
    }
    let whole = |ip: &IpAddr| message.header.src_len == IpNetwork::from(*ip).prefix();
    Ok(from.filter(whole).map(|from| Rule { from, table, priority }))
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

pub(crate) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
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

/// The link's index and the address.
pub(crate) fn address(body: &[u8]) -> Result<Option<(u32, IpNetwork)>, DecodeError> {
    let message = AddressMessage::parse(body)?;
    // `IFA_ADDRESS` is the peer on point-to-point links, `IFA_LOCAL` is always ours; IPv6 sends only the
    // former unless there is a peer.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    let address = local.or(any).and_then(|ip| IpNetwork::new(ip, message.header.prefix_len).ok());
    Ok(address.map(|address| (message.header.index, address)))
}
