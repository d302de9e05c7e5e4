//! Formats that two programs meet on: the node snapshot (agent to plugin) and the attachment record
//! (plugin to plugin, and to whoever repairs or collects).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::hostport::HostPort;
use crate::link::{Mac, OverlayMtu};
use crate::names::{ContainerId, IfName, NetworkName, NodeName};
use crate::rate::Limits;

/// Version of [`NodeSnapshot`] that this build writes and reads.
pub const NODE_SNAPSHOT_VERSION: u32 = 1;
/// Version of [`Attachment`] that this build writes and reads.
pub const ATTACHMENT_VERSION: u32 = 1;

/// What the plugin needs to know about its node: `STATEDIR/node.json`, written by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSnapshot {
    /// [`NODE_SNAPSHOT_VERSION`].
    pub version: u32,
    /// This node.
    pub node: NodeName,
    /// Pod subnets of this node.
    pub subnets: Vec<IpNetwork>,
    /// Pod networks of the whole cluster.
    pub cluster_networks: Vec<IpNetwork>,
    /// MTU of pods' interfaces.
    pub mtu: OverlayMtu,
    /// Largest segment in bytes that every device a pod's packets leave through takes.
    pub segment_size: u32,
    /// Whether traffic that leaves the cluster networks is masqueraded.
    pub masquerade: bool,
}

/// One pod interface, as recorded before the kernel was touched:
/// `STATEDIR/attachments/HOSTINTERFACE.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// [`ATTACHMENT_VERSION`].
    pub version: u32,
    /// The network configuration's name.
    pub network: NetworkName,
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_IFNAME`: the pod's end of the pair.
    pub ifname: IfName,
    /// The node's end of the pair.
    pub host_ifname: IfName,
    /// `CNI_NETNS` as given.
    pub netns: String,
    /// Inode of that namespace: tells it from a later one at the same path.
    pub netns_inode: u64,
    /// The kernel's own number of that namespace (`SO_NETNS_COOKIE`, socket(7)). An inode's number is free
    /// for the next namespace at once, this one is never used again before the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_cookie: Option<u64>,
    /// The same number of the node's namespace: the one that the node's end is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_cookie: Option<u64>,
    /// The boot it was made in (`/proc/sys/kernel/random/boot_id`): no namespace outlives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// When it was made, in seconds since that boot.
    #[serde(default)]
    pub made_at: u64,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// MAC of the pod's end.
    pub mac: Mac,
    /// MAC of the node's end.
    pub host_mac: Mac,
    /// MTU of both ends.
    pub mtu: OverlayMtu,
    /// Who the pod is, for people: `namespace/name`, where the runtime said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its bandwidth limits.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// Destinations that the configuration routes for it beyond the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<IpNetwork>,
    /// Settings inside the pod, keys with slashes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Metric of its routes, where another interface of the pod has the plain default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Destinations routed for it beyond the configuration's own, as a third-party IPAM plugin asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipam_routes: Vec<IpNetwork>,
    /// The `ipam` object of a third-party IPAM plugin: who gets the addresses back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<serde_json::Value>,
}
