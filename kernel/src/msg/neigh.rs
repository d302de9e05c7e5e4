//! `RTM_NEWNEIGH`, `RTM_DELNEIGH`, `RTM_GETNEIGH`: neighbours, and the forwarding database of VXLAN
//! devices, which the kernel keeps behind the same messages with family `AF_BRIDGE`.

use std::net::IpAddr;

use flatnet_core::step::{Fdb, Neighbour};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{PUT, family};
use crate::batch::Request;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

pub(crate) fn put(index: u32, neighbour: &Neighbour) -> Request {
    let mut message = entry(index, neighbour);
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()));
    Request::new(RTM_NEWNEIGH, PUT, &message)
}

pub(crate) fn remove(index: u32, neighbour: &Neighbour) -> Request {
    Request::new(RTM_DELNEIGH, 0, &entry(index, neighbour))
}

pub(crate) fn put_fdb(index: u32, fdb: &Fdb) -> Request {
    Request::new(RTM_NEWNEIGH, PUT, &fdb_entry(index, fdb))
}

pub(crate) fn remove_fdb(index: u32, fdb: &Fdb) -> Request {
    Request::new(RTM_DELNEIGH, 0, &fdb_entry(index, fdb))
}

/// Entries of one link, or of all for index zero: neighbours of a family, or with [`AddressFamily::Bridge`] its forwarding database.
pub(crate) fn dump(family: AddressFamily, index: u32) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    // The two dumps take the link in different places (`neigh_valid_dump_req`, net/core/neighbour.c;
    // `valid_fdb_dump_strict`, net/core/rtnetlink.c).
    if family == AddressFamily::Bridge {
        message.header.ifindex = index;
    } else if index != 0 {
        message.attributes = vec![NeighbourAttribute::IfIndex(index)];
    }
    Request::new(RTM_GETNEIGH, 0, &message)
}

fn entry(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![NeighbourAttribute::Destination(destination(neighbour.ip))];
    message
}

fn fdb_entry(index: u32, fdb: &Fdb) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(fdb.mac.0.to_vec()),
        NeighbourAttribute::Destination(destination(fdb.node)),
    ];
    message
}

fn destination(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}
