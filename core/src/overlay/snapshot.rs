//! What the kernel shows of the overlay: everything that is ours, and of the rest what we have to know.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::filter::FilterSeen;
use crate::kernel::{Kernel, KernelError};
use crate::link::{Mac, SegmentSizes};
use crate::names::IfName;
use crate::step::{Fdb, Neighbour, Nexthop, Route, Vxlan};

/// A kernel that can be looked at.
pub trait Observe: Kernel {
    /// Reads everything that is ours, whole or not at all.
    ///
    /// # Errors
    /// Something could not be read; nothing may be concluded.
    fn snapshot(&mut self) -> Result<Snapshot, KernelError>;
}

/// The node's kernel at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Every link but the pods'.
    pub links: Vec<Link>,
    /// The node's ends of pods' links, each with the largest segments it takes.
    pub pods: Vec<(IfName, SegmentSizes)>,
    /// Links of default routes, best first.
    pub default_links: Vec<IfName>,
    /// Routes of ours to pods of this node, each with the node's end of the pod's link.
    pub pod_routes: Vec<(IpNetwork, IfName)>,
    /// Routes of the main table with our protocol number, but the pods'.
    pub routes: Vec<Route>,
    /// Nexthop objects with our protocol number.
    pub nexthops: Vec<Nexthop>,
    /// Numbers of all nexthop objects, anyone's.
    pub nexthop_ids: HashSet<u32>,
    /// Permanent neighbours on tunnel devices of ours.
    pub neighbours: Vec<(IfName, Neighbour)>,
    /// Forwarding entries of tunnel devices of ours.
    pub fdb: Vec<(IfName, Fdb)>,
    /// Settings that matter, by their key in [`super::sysctl`].
    pub sysctls: BTreeMap<String, String>,
    /// Whom the tunnel hears.
    pub filter: FilterSeen,
    /// Chains of our nftables table.
    pub chains: Vec<String>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: IfName,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Largest segments it takes.
    pub segments: SegmentSizes,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNetwork>,
    /// What kind of tunnel it is, if it is a VXLAN device.
    pub vxlan: Option<VxlanSeen>,
}

/// Settings of a VXLAN device that cannot be changed while it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanSeen {
    /// Network identifier.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Source address of outer packets.
    pub local: Option<IpAddr>,
    /// The uplink it is bound to; `None` also when that link is gone.
    pub uplink: Option<IfName>,
    /// Whether it learns from packets where MACs are.
    pub learning: bool,
}

impl VxlanSeen {
    /// As a device is seen that is as it should be.
    pub(super) fn of(device: &Vxlan) -> Self {
        Self {
            vni: device.vni.get(),
            port: device.port,
            local: Some(device.local),
            uplink: Some(device.uplink.clone()),
            learning: false,
        }
    }
}

impl Snapshot {
    /// The link called `name`.
    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }
}
