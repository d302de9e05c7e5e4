//! The layout in which flannel keeps a network in etcd, or on Kubernetes' nodes: what keys, values and
//! annotations mean, which subnet a node takes, and the cluster they add up to. Nodes that run flannel and
//! nodes that run Flatnet share one network by it. Pure: who reads and writes is elsewhere.
//!
//! Source: flannel-io/flannel, `pkg/subnet/subnet.go`, `pkg/subnet/config.go`, `pkg/subnet/etcd`,
//! `pkg/lease/lease.go`, `pkg/backend/vxlan/vxlan.go`.

mod annotations;
mod claim;
mod field;
mod key;
mod network;
mod offer;
mod roster;

use std::net::IpAddr;

use super::cluster::Member;
use super::settings::{Backend, Settings};

pub use annotations::Annotations;
pub use claim::{Me, Pods, Standing};
pub use key::{KeyError, SubnetKey};
pub use network::{Asked, Carrier, Network, NetworkError};
pub use offer::{Offer, OfferError, Travels};
pub use roster::{Rejected, Roster};

/// One key below `subnets/`, or one node of Kubernetes, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The subnets that it takes.
    pub key: SubnetKey,
    /// Who has them. A value that cannot be read takes its subnets all the same.
    pub offer: Result<Offer, OfferError>,
    /// When it was created, as etcd's revision or any other number that grows: of two that claim one thing
    /// the lower came first.
    pub created: i64,
}

impl Entry {
    /// The entry that would make a node what it is in a cluster known from before. `None` where no key can
    /// name its subnets.
    #[must_use]
    pub fn of(member: &Member, settings: &Settings) -> Option<Self> {
        let (v4, v6) = match member.address {
            IpAddr::V4(ip) => (Some(ip), None),
            IpAddr::V6(ip) => (None, Some(ip)),
        };
        let travels = match settings.backend {
            Backend::Direct => Travels::HostGw,
            Backend::Vxlan | Backend::Auto => {
                let (v4, v6) = (v4.map(|_| member.vtep), v6.map(|_| member.vtep));
                Travels::Vxlan { vni: settings.vni, v4, v6 }
            }
        };
        let offer = Ok(Offer { v4, v6, travels, node: Some(member.name.clone()) });
        Some(Self { key: SubnetKey::of(&member.subnets)?, offer, created: 0 })
    }
}
