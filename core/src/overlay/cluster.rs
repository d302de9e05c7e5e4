//! The cluster: its pod networks and its nodes. Raw as a store delivers it, and checked, in which no two
//! nodes can claim the same name, address or pods.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::link::Mac;
use crate::names::NodeName;

mod error;

pub use error::{ClusterError, ClusterErrors};

/// More new nodes than this are checked with all others.
const SPLICED: usize = 64;

/// The cluster as written by a person or a store. Values are text, so that checking can report all that is
/// wrong at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    /// The pods' networks.
    pub network: RawNetwork,
    /// The nodes.
    pub nodes: Vec<RawNode>,
}

/// The pods' networks, one per family.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNetwork {
    /// IPv4 network.
    #[serde(default)]
    pub ipv4: Option<String>,
    /// IPv6 network.
    #[serde(default)]
    pub ipv6: Option<String>,
}

/// A node as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNode {
    /// Its name.
    pub name: String,
    /// Where the other nodes reach it.
    pub address: String,
    /// The subnets of its pods.
    pub subnets: Vec<String>,
}

/// A cluster that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The pods' networks: one per family, at least one.
    pub networks: Vec<IpNetwork>,
    /// The nodes, in the order of the store.
    pub nodes: Vec<Member>,
}

/// One node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Where the other nodes reach it.
    pub address: IpAddr,
    /// The subnets of its pods: without host bits, inside the cluster's networks, nobody else's.
    pub subnets: Vec<IpNetwork>,
    /// MAC of its tunnel endpoint.
    pub vtep: Mac,
}

impl Cluster {
    /// Checks a raw cluster.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(raw: &RawCluster) -> Result<Self, ClusterErrors> {
        let mut errors = Vec::new();
        let networks = networks(&raw.network, &mut errors);
        let mut nodes = Vec::with_capacity(raw.nodes.len());
        for (index, node) in raw.nodes.iter().enumerate() {
            nodes.extend(member(index, node, &networks, &mut errors));
        }
        if raw.nodes.is_empty() {
            errors.push(ClusterError::NoNodes);
        }
        find_duplicates(&nodes, &mut errors);
        find_overlaps(&nodes, &mut errors);
        if errors.is_empty() { Ok(Self { networks, nodes }) } else { Err(ClusterErrors(errors)) }
    }

    /// The same cluster with the nodes `which` replaced by `raw`. What stays was checked before, so this costs
    /// little where there are few new ones. `None` where the outcome would not hold together, or has too many
    /// new nodes: [`Self::check`] of the whole says why, or does it.
    #[must_use]
    pub fn splice(&self, which: Range<usize>, raw: &[RawNode]) -> Option<Self> {
        let before = self.nodes.get(..which.start)?;
        let after = self.nodes.get(which.end..)?;
        if raw.len() > SPLICED || before.is_empty() && after.is_empty() && raw.is_empty() {
            return None;
        }
        let mut errors = Vec::new();
        let nodes = raw.iter().enumerate();
        let new: Vec<Member> =
            nodes.filter_map(|(index, node)| member(index, node, &self.networks, &mut errors)).collect();
        find_duplicates(&new, &mut errors);
        find_overlaps(&new, &mut errors);
        let clashes = |old: &Member| new.iter().any(|new| new.clashes_with(old));
        if !errors.is_empty() || before.iter().chain(after).any(clashes) {
            return None;
        }
        let mut nodes = Vec::with_capacity(before.len() + new.len() + after.len());
        nodes.extend_from_slice(before);
        nodes.extend(new);
        nodes.extend_from_slice(after);
        Some(Self { networks: self.networks.clone(), nodes })
    }

    /// The node called `name`.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}

impl Member {
    /// Whether both want the same name, address or pods.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        let overlap = |a: &IpNetwork, b: &IpNetwork| a.contains(b.ip()) || b.contains(a.ip());
        self.address == other.address
            || self.name == other.name
            || self.subnets.iter().any(|own| other.subnets.iter().any(|their| overlap(own, their)))
    }
}

fn networks(raw: &RawNetwork, errors: &mut Vec<ClusterError>) -> Vec<IpNetwork> {
    let given = [("ipv4", &raw.ipv4), ("ipv6", &raw.ipv6)];
    if given.iter().all(|(_, value)| value.is_none()) {
        errors.push(ClusterError::NoNetwork);
    }
    let mut networks = Vec::new();
    for (family, value) in given {
        let Some(value) = value else { continue };
        match network(value) {
            Ok(network) if network.is_ipv4() == (family == "ipv4") => networks.push(network),
            Ok(_) => errors.push(ClusterError::Network {
                family,
                value: value.clone(),
                reason: "is of the other family".to_owned(),
            }),
            Err(reason) => errors.push(ClusterError::Network { family, value: value.clone(), reason }),
        }
    }
    networks
}

/// A network without host bits.
fn network(value: &str) -> Result<IpNetwork, String> {
    let network: IpNetwork = value
        .parse()
        .ok()
        .filter(|_| value.contains('/'))
        .ok_or("is not a network (an address, a slash and a prefix length)")?;
    if network.ip() == network.network() {
        Ok(network)
    } else {
        Err(format!("has host bits; the network is {}/{}", network.network(), network.prefix()))
    }
}

fn member(
    index: usize,
    raw: &RawNode,
    networks: &[IpNetwork],
    errors: &mut Vec<ClusterError>,
) -> Option<Member> {
    let name: NodeName = match raw.name.parse() {
        Ok(name) => name,
        Err(source) => {
            errors.push(ClusterError::Name { index, source });
            return None;
        }
    };
    let address = match address(&raw.address, networks) {
        Ok(address) => Some(address),
        Err(reason) => {
            errors.push(ClusterError::Address { node: name.clone(), value: raw.address.clone(), reason });
            None
        }
    };
    if raw.subnets.is_empty() {
        let reason = "is missing: the list is empty".to_owned();
        errors.push(ClusterError::Subnet { node: name.clone(), value: String::new(), reason });
    }
    let mut subnets = Vec::with_capacity(raw.subnets.len());
    for value in &raw.subnets {
        match subnet(value, networks) {
            Ok(subnet) => subnets.push(subnet),
            Err(reason) => {
                errors.push(ClusterError::Subnet { node: name.clone(), value: value.clone(), reason });
            }
        }
    }
    Some(Member { vtep: Mac::of_vtep(&name), address: address?, name, subnets })
}

fn address(value: &str, networks: &[IpNetwork]) -> Result<IpAddr, String> {
    let address = value.parse().map_err(|_| "is not an IP address")?;
    check_address(address, networks).map(|()| address)
}

/// Whether other nodes can reach a node there.
pub(super) fn check_address(address: IpAddr, networks: &[IpNetwork]) -> Result<(), String> {
    let special = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    if special || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("is not an address that other nodes can reach".to_owned());
    }
    match networks.iter().find(|network| network.contains(address)) {
        Some(network) => Err(format!("lies inside the pods' network {network}")),
        None => Ok(()),
    }
}

fn subnet(value: &str, networks: &[IpNetwork]) -> Result<IpNetwork, String> {
    let subnet = network(value)?;
    check_subnet(subnet, networks).map(|()| subnet)
}

/// Whether a node's pods can have a subnet, which has no host bits.
pub(super) fn check_subnet(subnet: IpNetwork, networks: &[IpNetwork]) -> Result<(), String> {
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        return Err(format!("is too small for pods; at most /{longest}"));
    }
    let Some(network) = networks.iter().find(|network| network.is_ipv4() == subnet.is_ipv4()) else {
        return Err("is of a family that has no network".to_owned());
    };
    if network.contains(subnet.ip()) && network.prefix() <= subnet.prefix() {
        Ok(())
    } else {
        Err(format!("lies outside the pods' network {network}"))
    }
}

fn find_duplicates(nodes: &[Member], errors: &mut Vec<ClusterError>) {
    let mut names = HashMap::with_capacity(nodes.len());
    let mut addresses = HashMap::with_capacity(nodes.len());
    for node in nodes {
        if names.insert(&node.name, ()).is_some() {
            errors.push(ClusterError::NameTwice(node.name.clone()));
        } else if let Some(first) = addresses.insert(node.address, &node.name) {
            errors.push(ClusterError::AddressTwice {
                first: NodeName::clone(first),
                second: node.name.clone(),
                address: node.address,
            });
        }
    }
}

/// Two networks share addresses only where one holds the other, so in order of their first address (wider
/// first) a network overlaps an earlier one exactly where it overlaps the last one that was not held.
fn find_overlaps(nodes: &[Member], errors: &mut Vec<ClusterError>) {
    let mut all: Vec<(IpNetwork, &NodeName)> =
        nodes.iter().flat_map(|node| node.subnets.iter().map(|subnet| (*subnet, &node.name))).collect();
    all.sort_by_key(|(subnet, _)| (subnet.ip(), subnet.prefix()));
    let mut holder: Option<(IpNetwork, &NodeName)> = None;
    for (subnet, node) in all {
        match holder {
            Some((held, of)) if held.contains(subnet.ip()) => errors.push(ClusterError::Overlap {
                a: of.clone(),
                a_subnet: held,
                b: node.clone(),
                b_subnet: subnet,
            }),
            _ => holder = Some((subnet, node)),
        }
    }
}

#[cfg(test)]
mod tests;
