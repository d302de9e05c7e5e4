//! Everything that can be wrong with a cluster, each with the thing and its value.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::names::{NameError, NodeName};

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
