//! What a node is told to do, and the link it has for it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::link::{SegmentSizes, Underlay, UnderlayMtu, Vni};
use crate::names::{IfName, NodeName};

/// How packets travel to the other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// In VXLAN packets to every node.
    Vxlan,
    /// As they are, to nodes on the uplink's own network.
    Direct,
    /// As they are where that is possible, in VXLAN packets elsewhere.
    Auto,
}

/// Not a backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a backend (vxlan, direct or auto)")]
pub struct BackendError(String);

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "vxlan" => Ok(Self::Vxlan),
            "direct" => Ok(Self::Direct),
            "auto" => Ok(Self::Auto),
            _ => Err(BackendError(s.to_owned())),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
            Self::Auto => "auto",
        })
    }
}

/// What this node was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which node this is.
    pub node: NodeName,
    /// How packets travel.
    pub backend: Backend,
    /// VXLAN network identifier.
    pub vni: Vni,
    /// VXLAN's UDP port.
    pub port: u16,
    /// Whether VXLAN packets count only from nodes of the cluster.
    pub peers_only: bool,
    /// Segment size in bytes that the uplink is raised to; `None` leaves it as it is.
    pub uplink_segment_size: Option<u32>,
}

/// The link towards the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: IfName,
    /// Its MTU.
    pub mtu: UnderlayMtu,
    /// Its addresses with their prefix lengths: what lies inside is on-link.
    pub addresses: Vec<IpNetwork>,
    /// Source address of tunnels.
    pub local: IpAddr,
    /// Largest segments it takes.
    pub segments: SegmentSizes,
    /// What every link takes that packets leave the node through, this one included, in bytes.
    pub segment_size: u32,
}

impl Uplink {
    /// Family of the tunnel's outer packets.
    #[must_use]
    pub fn underlay(&self) -> Underlay {
        if self.local.is_ipv4() { Underlay::V4 } else { Underlay::V6 }
    }

    pub(super) fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|prefix| prefix.contains(address))
    }
}
