//! The cluster: its pod networks and its nodes. Raw as a store delivers it, and checked, in which no two
//! nodes can claim the same name, address or pods.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::link::Mac;
use crate::names::{NameError, NodeName};

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

/// Why a cluster does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Neither `network.ipv4` nor `network.ipv6`.
    #[error("network: neither ipv4 nor ipv6 is given")]
    NoNetwork,
    /// A network that cannot be read, or is of the other family.
    #[error("network.{family}: {value:?} {reason}")]
    Network {
        /// `ipv4` or `ipv6`.
        family: &'static str,
        /// As written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of nodes is empty.
    #[error("nodes: the list is empty; a cluster has at least one node")]
    NoNodes,
    /// A name that is none.
    #[error("nodes[{index}]: {source}")]
    Name {
        /// Position in the list, from zero.
        index: usize,
        /// What is wrong with it.
        source: NameError,
    },
    /// The same name twice.
    #[error("node {0} is listed twice")]
    NameTwice(NodeName),
    /// An address that cannot be read or used.
    #[error("node {node}: address {value:?} {reason}")]
    Address {
        /// Whose.
        node: NodeName,
        /// As written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two nodes with one address.
    #[error("nodes {first} and {second} have the same address {address}")]
    AddressTwice {
        /// The earlier node.
        first: NodeName,
        /// The later node.
        second: NodeName,
        /// Their address.
        address: IpAddr,
    },
    /// A subnet that cannot be read or used.
    #[error("node {node}: subnet {value:?} {reason}")]
    Subnet {
        /// Whose.
        node: NodeName,
        /// As written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two subnets that share addresses.
    #[error("subnet {a_subnet} of node {a} overlaps subnet {b_subnet} of node {b}")]
    Overlap {
        /// One node.
        a: NodeName,
        /// Its subnet.
        a_subnet: IpNetwork,
        /// The other node, or the same one.
        b: NodeName,
        /// Its subnet.
        b_subnet: IpNetwork,
    },
}

/// Everything that is wrong with a cluster; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterErrors(pub Vec<ClusterError>);

impl fmt::Display for ClusterErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ClusterErrors {}

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

    /// The node called `name`.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.nodes.iter().find(|node| node.name == *name)
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
    let address: IpAddr = value.parse().map_err(|_| "is not an IP address")?;
    let special = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    if special || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("is not an address that other nodes can reach".to_owned());
    }
    match networks.iter().find(|network| network.contains(address)) {
        Some(network) => Err(format!("lies inside the pods' network {network}")),
        None => Ok(address),
    }
}

fn subnet(value: &str, networks: &[IpNetwork]) -> Result<IpNetwork, String> {
    let subnet = network(value)?;
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.prefix() > longest {
        return Err(format!("is too small for pods; at most /{longest}"));
    }
    let Some(network) = networks.iter().find(|network| network.is_ipv4() == subnet.is_ipv4()) else {
        return Err("is of a family that has no network".to_owned());
    };
    if network.contains(subnet.ip()) && network.prefix() <= subnet.prefix() {
        Ok(subnet)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str, address: &str, subnets: &[&str]) -> RawNode {
        let subnets = subnets.iter().map(|s| (*s).to_owned()).collect();
        RawNode { name: name.to_owned(), address: address.to_owned(), subnets }
    }

    fn raw(nodes: Vec<RawNode>) -> RawCluster {
        let network =
            RawNetwork { ipv4: Some("10.244.0.0/16".to_owned()), ipv6: Some("fd00:10:244::/56".to_owned()) };
        RawCluster { network, nodes }
    }

    fn errors(nodes: Vec<RawNode>) -> String {
        Cluster::check(&raw(nodes)).unwrap_err().to_string()
    }

    #[test]
    fn a_cluster_that_holds_together_is_taken() {
        let cluster = Cluster::check(&raw(vec![
            node("n1", "192.0.2.1", &["10.244.1.0/24", "fd00:10:244:1::/64"]),
            node("n2", "2001:db8::2", &["10.244.2.0/24"]),
        ]))
        .unwrap();
        assert_eq!(cluster.networks.len(), 2);
        assert_eq!(cluster.member(&"n2".parse().unwrap()).unwrap().address.to_string(), "2001:db8::2");
    }

    #[test]
    fn overlap_names_both_nodes_and_both_subnets() {
        let e = errors(vec![
            node("n1", "192.0.2.1", &["10.244.0.0/20"]),
            node("n2", "192.0.2.2", &["10.244.16.0/24"]),
            node("n3", "192.0.2.3", &["10.244.2.0/24"]),
            node("n4", "192.0.2.4", &["10.244.3.0/24"]),
        ]);
        assert_eq!(
            e,
            "subnet 10.244.0.0/20 of node n1 overlaps subnet 10.244.2.0/24 of node n3; \
             subnet 10.244.0.0/20 of node n1 overlaps subnet 10.244.3.0/24 of node n4"
        );
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let e = errors(vec![
            node("n1", "192.0.2.1", &["10.244.1.7/24"]),
            node("n1", "192.0.2.9", &["10.244.9.0/24"]),
            node("../x", "192.0.2.2", &["10.244.2.0/24"]),
            node("n4", "localhost", &["10.244.3.0/31"]),
            node("n5", "192.0.2.9", &["192.168.0.0/24", "10.244.0.0/8", "fd01::/64"]),
            node("n6", "10.244.77.1", &[]),
            node("n7", "192.0.2.1", &["10.244.4.0"]),
        ]);
        for part in [
            "node n1: subnet \"10.244.1.7/24\" has host bits; the network is 10.244.1.0/24",
            "node n1 is listed twice",
            "nodes[2]: node name \"../x\" must start",
            "node n4: address \"localhost\" is not an IP address",
            "node n4: subnet \"10.244.3.0/31\" is too small for pods",
            "node n5: subnet \"192.168.0.0/24\" lies outside the pods' network 10.244.0.0/16",
            "node n5: subnet \"10.244.0.0/8\" has host bits",
            "node n5: subnet \"fd01::/64\" lies outside the pods' network fd00:10:244::/56",
            "node n6: address \"10.244.77.1\" lies inside the pods' network",
            "node n6: subnet \"\" is missing",
            "nodes n1 and n7 have the same address 192.0.2.1",
            "node n7: subnet \"10.244.4.0\" is not a network",
        ] {
            assert!(e.contains(part), "{part}\n{e}");
        }
    }

    #[test]
    fn nothing_is_not_a_cluster() {
        let e = Cluster::check(&RawCluster { network: RawNetwork::default(), nodes: Vec::new() });
        assert_eq!(
            e.unwrap_err().to_string(),
            "network: neither ipv4 nor ipv6 is given; nodes: the list is empty; a cluster has at least one node"
        );
    }

    proptest! {
        /// The sweep finds an overlap exactly where comparing all pairs finds one.
        #[test]
        fn overlaps_are_found(subnets in prop::collection::vec((0u16..64, 20u8..28), 1..12)) {
            let nodes: Vec<Member> = subnets.iter().enumerate().map(|(i, (block, prefix))| {
                let [a, b] = (block << 8).to_be_bytes();
                let subnet = IpNetwork::new([10, 244, a, b].into(), *prefix).unwrap();
                let name: NodeName = format!("n{i}").parse().unwrap();
                Member {
                    vtep: Mac::of_vtep(&name), name, address: [192, 0, 2, 1].into(),
                    subnets: vec![IpNetwork::new(subnet.network(), *prefix).unwrap()],
                }
            }).collect();
            let mut found = Vec::new();
            find_overlaps(&nodes, &mut found);
            let shares = |a: IpNetwork, b: IpNetwork| a.contains(b.ip()) || b.contains(a.ip());
            let any = nodes.iter().enumerate().any(|(i, a)| {
                nodes[..i].iter().any(|b| shares(a.subnets[0], b.subnets[0]))
            });
            prop_assert_eq!(any, !found.is_empty());
        }
    }
}
