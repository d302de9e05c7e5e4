//! Reads the kernel for ADD.

use std::net::{IpAddr, Ipv4Addr};

use flatnet_core::link::{OverlayMtu, UnderlayMtu};
use flatnet_kernel::batch::Netlink;
use flatnet_kernel::facts;

/// An address nobody has (TEST-NET-3, RFC 5737): the route to it is the way out.
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// The MTU that packets leaving this node must fit, where no agent says: the default route's link's.
pub(crate) fn uplink_mtu(netlink: &mut Netlink) -> OverlayMtu {
    facts::link_to(netlink, OUTSIDE)
        .ok()
        .flatten()
        .and_then(|link| OverlayMtu::direct(UnderlayMtu(link.mtu)).ok())
        .unwrap_or_default()
}
