//! `RTM_NEWADDR`, `RTM_DELADDR`, `RTM_GETADDR`.

use std::net::IpAddr;

use flatnet_core::step::AddrScope;
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::{NEW, family};
use crate::batch::Request;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// IPv6 addresses skip duplicate address detection: whoever adds one here owns it.
pub(crate) fn add(index: u32, addr: IpNetwork, scope: AddrScope) -> Request {
    let mut message = on(index, addr);
    message.header.scope = match scope {
        AddrScope::Global => AddressScope::Universe,
        AddrScope::Host => AddressScope::Host,
    };
    if addr.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request::new(RTM_NEWADDR, NEW, &message)
}

pub(crate) fn remove(index: u32, addr: IpNetwork) -> Request {
    Request::new(RTM_DELADDR, 0, &on(index, addr))
}

pub(crate) fn dump(index: u32) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index;
    Request::new(RTM_GETADDR, 0, &message)
}

fn on(index: u32, addr: IpNetwork) -> AddressMessage {
    let ip: IpAddr = addr.ip();
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = addr.prefix();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}
