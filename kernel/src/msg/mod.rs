//! Pure builders of netlink requests: core types in, messages out. IPv4 and IPv6 part here and nowhere
//! above.

pub(crate) mod addr;
pub(crate) mod link;
pub(crate) mod neigh;
pub(crate) mod nexthop;
pub(crate) mod nfnl;
pub(crate) mod nft;
pub(crate) mod route;
pub(crate) mod rule;
pub(crate) mod tc;

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;

/// Create, and refuse if it is there.
pub(crate) const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Create or replace.
pub(crate) const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn nla(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}
