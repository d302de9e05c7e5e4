//! `RTM_NEWROUTE`, `RTM_DELROUTE`, `RTM_GETROUTE`, main table.

use std::net::IpAddr;

use flatnet_core::step::{Put, ROUTE_PROTOCOL, Route, Via};
use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{NEW, PUT, family};
use crate::batch::Request;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `link_index` is the index of the link that [`Via`] names, zero where it names none.
pub(crate) fn put(route: &Route, link_index: u32, mode: Put) -> Request {
    let flags = match mode {
        Put::New => NEW,
        Put::Replace => PUT,
        Put::Beside => NLM_F_CREATE | NLM_F_APPEND,
    };
    Request::new(RTM_NEWROUTE, flags, &message(route, link_index))
}

/// The same in another table than the main one, in place of any of its key.
pub(crate) fn put_in_table(table: u32, route: &Route, link_index: u32) -> Request {
    Request::new(RTM_NEWROUTE, PUT, &in_table(table, message(route, link_index)))
}

fn in_table(table: u32, mut message: RouteMessage) -> RouteMessage {
    // Numbers above 255 do not fit the header.
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.attributes.push(RouteAttribute::Table(table));
    message
}

pub(crate) fn remove(route: &Route, link_index: u32) -> Request {
    Request::new(RTM_DELROUTE, 0, &message(route, link_index))
}

/// Routes of the main table in one family that have `protocol` as their origin.
pub(crate) fn dump_of(family: AddressFamily, protocol: u8) -> Request {
    let mut message = main_table(family);
    message.header.protocol = RouteProtocol::from(protocol);
    Request::new(RTM_GETROUTE, 0, &message)
}

/// Routes of the main table in one family through one link.
pub(crate) fn dump_through(family: AddressFamily, link_index: u32) -> Request {
    let mut message = main_table(family);
    message.attributes = vec![RouteAttribute::Oif(link_index)];
    Request::new(RTM_GETROUTE, 0, &message)
}

/// The same of another table.
pub(crate) fn dump_table_through(family: AddressFamily, link_index: u32, table: u32) -> Request {
    let mut message = main_table(family);
    message.attributes = vec![RouteAttribute::Oif(link_index)];
    Request::new(RTM_GETROUTE, 0, &in_table(table, message))
}

/// Routes of the main table in one family.
pub(crate) fn dump_main(family: AddressFamily) -> Request {
    Request::new(RTM_GETROUTE, 0, &main_table(family))
}

fn main_table(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message
}

/// The table's own entry that covers `ip`, not the path it resolves to (`RTM_F_FIB_MATCH`).
pub(crate) fn get_match(ip: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![RouteAttribute::Destination(address(ip))];
    Request::new(RTM_GETROUTE, 0, &message)
}

fn message(route: &Route, link_index: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.dst.ip());
    message.header.destination_prefix_length = route.dst.prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    if route.dst.prefix() > 0 {
        message.attributes.push(RouteAttribute::Destination(address(route.dst.network())));
    }
    match &route.via {
        Via::Link(_) => {
            if matches!(route.dst, IpNetwork::V4(_)) {
                message.header.scope = RouteScope::Link;
            }
            message.attributes.push(RouteAttribute::Oif(link_index));
        }
        Via::Gateway { gateway, .. } => {
            message.attributes.push(RouteAttribute::Gateway(address(*gateway)));
            message.attributes.push(RouteAttribute::Oif(link_index));
        }
        Via::Nexthop(id) => message.attributes.push(RouteAttribute::NhId(*id)),
        Via::Unreachable => message.header.kind = RouteType::Unreachable,
    }
    message.attributes.extend(route.source.map(|ip| RouteAttribute::PrefSource(address(ip))));
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    message
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}
