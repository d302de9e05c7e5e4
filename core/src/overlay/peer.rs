//! How one other node is reached, and why not.

use std::fmt;
use std::net::IpAddr;

use crate::names::{IfName, NodeName};

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub address: IpAddr,
    /// How its pods are reached.
    pub reach: Reach,
    /// Why some of its pods, or all, are not.
    pub problem: Option<PeerProblem>,
}

/// How a node's pods are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Not at all.
    Nowhere,
    /// In VXLAN packets.
    Vxlan,
    /// As they are.
    Direct,
    /// One family as it is, the other in VXLAN packets.
    Mixed,
}

impl Reach {
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nowhere, one) | (one, Self::Nowhere) => one,
            (Self::Vxlan, Self::Vxlan) => Self::Vxlan,
            (Self::Direct, Self::Direct) => Self::Direct,
            (Self::Mixed, _)
            | (_, Self::Mixed)
            | (Self::Vxlan, Self::Direct)
            | (Self::Direct, Self::Vxlan) => Self::Mixed,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "none",
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
            Self::Mixed => "direct+vxlan",
        })
    }
}

/// Why a node's pods cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerProblem {
    /// Backend `direct`, and the node is behind a router.
    #[error(
        "{address} is not on the network of {uplink}, and backend direct reaches no further; \
         use backend auto or vxlan"
    )]
    NotOnLink {
        /// The node's address.
        address: IpAddr,
        /// This node's uplink.
        uplink: IfName,
    },
    /// Backend `direct`, IPv6 pods, IPv4 gateway.
    #[error(
        "its IPv6 pods cannot be routed through the IPv4 address {address}; \
         use backend auto or vxlan, or give the node an IPv6 address"
    )]
    Ipv6ThroughIpv4 {
        /// The node's address.
        address: IpAddr,
    },
    /// A tunnel has the same family at both ends.
    #[error("no tunnel leads from {local} to {address}: one is IPv4, the other IPv6")]
    OtherFamily {
        /// This node's address.
        local: IpAddr,
        /// The node's address.
        address: IpAddr,
    },
}
