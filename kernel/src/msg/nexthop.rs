//! `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`, `RTM_GETNEXTHOP` (include/uapi/linux/nexthop.h).

use std::net::IpAddr;

use flatnet_core::step::{Nexthop, ROUTE_PROTOCOL};
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NlasIterator};

use super::{PUT, family, nla, octets};
use crate::batch::Request;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const RTNH_F_ONLINK: u32 = 4;
const HEADER: usize = 8;

/// `struct nhmsg` and its attributes.
struct NexthopMessage {
    family: u8,
    protocol: u8,
    flags: u32,
    attributes: Vec<DefaultNla>,
}

impl Emitable for NexthopMessage {
    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..4].copy_from_slice(&[self.family, 0, self.protocol, 0]);
        buffer[4..HEADER].copy_from_slice(&self.flags.to_ne_bytes());
        self.attributes.as_slice().emit(&mut buffer[HEADER..]);
    }
}

pub(crate) fn put(nexthop: &Nexthop, link_index: u32) -> Request {
    let message = NexthopMessage {
        family: family(nexthop.gateway).into(),
        protocol: ROUTE_PROTOCOL,
        flags: RTNH_F_ONLINK,
        attributes: vec![
            nla(NHA_ID, &nexthop.id.to_ne_bytes()),
            nla(NHA_OIF, &link_index.to_ne_bytes()),
            nla(NHA_GATEWAY, &octets(nexthop.gateway)),
        ],
    };
    Request::new(RTM_NEWNEXTHOP, PUT, &message)
}

pub(crate) fn remove(nexthop: &Nexthop) -> Request {
    let attributes = vec![nla(NHA_ID, &nexthop.id.to_ne_bytes())];
    Request::new(RTM_DELNEXTHOP, 0, &NexthopMessage { family: 0, protocol: 0, flags: 0, attributes })
}

pub(crate) fn dump() -> Request {
    Request::new(
        RTM_GETNEXTHOP,
        0,
        &NexthopMessage { family: 0, protocol: 0, flags: 0, attributes: Vec::new() },
    )
}

/// A nexthop object as the kernel shows it; anyone's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenNexthop {
    pub(crate) id: u32,
    pub(crate) protocol: u8,
    pub(crate) link_index: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
}

/// Reads the body of an `RTM_NEWNEXTHOP`.
pub(crate) fn parse(body: &[u8]) -> Result<SeenNexthop, DecodeError> {
    let protocol = *body.get(2).ok_or_else(|| DecodeError::from("nexthop message too short"))?;
    let mut seen = SeenNexthop { id: 0, protocol, link_index: None, gateway: None };
    for attribute in NlasIterator::new(body.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        let value = attribute.value();
        let word = || value.try_into().ok().map(u32::from_ne_bytes);
        match attribute.kind() {
            NHA_ID => seen.id = word().unwrap_or_default(),
            NHA_OIF => seen.link_index = word(),
            NHA_GATEWAY => {
                seen.gateway = <[u8; 4]>::try_from(value)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
                    .ok();
            }
            _ => {}
        }
    }
    Ok(seen)
}
