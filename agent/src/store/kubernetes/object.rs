//! Of a Node object what concerns the network. All else is passed over while it is read, so that a node
//! costs bytes and not the kilobytes that its labels, images and conditions have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flatnet_core::names::NodeName;
use flatnet_core::overlay::flannel::{Annotations, Entry, Network, Offer, SubnetKey};
use flatnet_core::overlay::settings::Settings;
use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::mirror::Peer;

/// Why a node has no subnet, and what helps.
const NO_SUBNET: &str = "it has no podCIDR yet: kube-controller-manager assigns one where it runs with \
                         --allocate-node-cidrs=true and --cluster-cidr";
/// The condition that keeps pods from a node until its network works.
pub(super) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct NodeList {
    pub(super) metadata: ListMetadata,
    pub(super) items: Vec<NodeObject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    /// Where the next page begins; empty on the last one.
    #[serde(default)]
    pub(super) r#continue: Option<String>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum WatchLine {
    Added(Box<NodeObject>),
    Modified(Box<NodeObject>),
    Deleted(Box<NodeObject>),
    /// Nothing but how far the watch has come.
    Bookmark(Versioned),
    Error(Refusal),
}

/// Why the API server does not do something (`metav1.Status`).
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) message: String,
}

/// A Node.
#[derive(Debug, Deserialize)]
pub(super) struct NodeObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

/// Of any object how old it is.
#[derive(Debug, Deserialize)]
pub(super) struct Versioned {
    pub(super) metadata: Version,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) resource_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    creation_timestamp: Option<String>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

/// This node as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// Tells it from another of the same name.
    pub(super) uid: String,
    pub(super) key: Result<SubnetKey, String>,
    pub(super) annotations: Annotations,
    /// Its addresses of type `InternalIP`.
    pub(super) internal: Vec<IpAddr>,
    /// What the condition says, where it is there.
    pub(super) unavailable: Option<String>,
}

impl NodeObject {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// The subnets of the network's families.
    fn key(&self, network: &Network) -> Result<SubnetKey, String> {
        let single = self.spec.pod_cidr.iter().filter(|subnet| !subnet.is_empty());
        let all: Vec<&String> = match &self.spec.pod_cidrs {
            Some(subnets) if !subnets.is_empty() => subnets.iter().collect(),
            _ => single.collect(),
        };
        if all.is_empty() {
            return Err(NO_SUBNET.to_owned());
        }
        let parse = |text: &&String| {
            text.parse::<IpNetwork>().map_err(|_| format!("its podCIDR {text:?} is not a network"))
        };
        let mut subnets = all.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        subnets.retain(|subnet| network.networks.iter().any(|net| net.is_ipv4() == subnet.is_ipv4()));
        SubnetKey::of(&subnets).ok_or_else(|| {
            format!("of its podCIDRs {all:?} none, or several, are of a family of the network")
        })
    }

    fn internal(&self) -> Vec<IpAddr> {
        let all = self.status.addresses.iter().flatten();
        all.filter(|address| address.r#type == "InternalIP")
            .filter_map(|it| it.address.parse().ok())
            .collect()
    }

    /// Seconds of its creation, as digits: a number that grows, for Kubernetes writes all times in UTC.
    fn created(&self) -> i64 {
        let digits: String = self
            .metadata
            .creation_timestamp
            .iter()
            .flat_map(|text| text.chars())
            .filter(char::is_ascii_digit)
            .collect();
        digits.get(..14).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// This node's own object.
    pub(super) fn own(self, network: &Network) -> Own {
        let conditions = self.status.conditions.iter().flatten();
        let unavailable =
            conditions.filter(|it| it.r#type == NETWORK_UNAVAILABLE).map(|it| it.status.clone()).next();
        Own {
            key: self.key(network),
            internal: self.internal(),
            unavailable,
            uid: self.metadata.uid,
            annotations: self.metadata.annotations.unwrap_or_default(),
        }
    }

    /// Another node: where its pods are and how packets travel there, or why that is not known. A node that
    /// has published nothing yet will run Flatnet, whose tunnel endpoint follows from its name.
    pub(super) fn peer(&self, network: &Network, settings: &Settings) -> Result<Peer, String> {
        let name: NodeName =
            self.metadata.name.parse().map_err(|e: flatnet_core::names::NameError| e.to_string())?;
        let key = self.key(network)?;
        let published = self.metadata.annotations.as_ref().map(|annotations| annotations.offer(&name));
        let (offer, published) = match published.transpose() {
            Ok(Some(Some(offer))) => (offer, true),
            Err(error) => return Err(error.to_string()),
            Ok(None | Some(None)) => {
                let (v4, v6) = by_family(&self.internal());
                if v4.is_none() && v6.is_none() {
                    return Err(
                        "it has neither an address of type InternalIP nor flannel's annotations".to_owned()
                    );
                }
                (Offer::of_node(&name, (v4, v6), network, settings), false)
            }
        };
        Ok(Peer { entry: Entry { key, offer: Ok(offer), created: self.created() }, published })
    }
}

/// The first address of each family.
pub(super) fn by_family(all: &[IpAddr]) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let v4 = all.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
    let v6 = all.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
    (v4, v6)
}

#[cfg(test)]
mod tests {
    use flatnet_core::link::Mac;
    use flatnet_core::overlay::settings::Backend;
    use serde_json::{Value, json};

    use super::*;

    fn network(rest: &str) -> Network {
        let text = format!(r#"{{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan"}}{rest}}}"#);
        Network::read(text.as_bytes()).unwrap()
    }

    fn entry_in(network: &Network, node: Value) -> Result<Entry, String> {
        let settings = Settings {
            node: "n1".parse().unwrap(),
            backend: Backend::Vxlan,
            vni: 1.try_into().unwrap(),
            port: 8472,
            peers_only: true,
            uplink_segment_size: None,
        };
        serde_json::from_value::<NodeObject>(node).unwrap().peer(network, &settings).map(|peer| peer.entry)
    }

    fn node(more: Value) -> Value {
        let mut node = json!({
            "metadata": { "name": "n2", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": { "a": "b" } },
            "spec": { "podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"], "taints": [] },
            "status": {
                "addresses": [
                    { "type": "Hostname", "address": "n2" },
                    { "type": "InternalIP", "address": "192.0.2.2" },
                    { "type": "InternalIP", "address": "2001:db8::2" },
                ],
                "images": [{ "names": ["x"], "sizeBytes": 1 }],
            },
        });
        for (path, value) in more.as_object().unwrap() {
            *node.pointer_mut(path).unwrap() = value.clone();
        }
        node
    }

    #[test]
    fn a_node_that_published_nothing_is_known_by_its_name_and_address() {
        let entry = entry_in(&network(""), node(json!({}))).unwrap();
        let offer = entry.offer.unwrap();
        assert_eq!(entry.key.to_string(), "10.244.2.0-24");
        assert_eq!(entry.created, 20_260_102_030_405);
        assert_eq!((offer.v4, offer.v6), (Some("192.0.2.2".parse().unwrap()), None));
        assert_eq!(offer.vtep(), Some(Mac::of_vtep(&"n2".parse().unwrap())));
    }

    #[test]
    fn what_was_published_wins() {
        let annotations = json!({ "/metadata": {
            "name": "n2", "annotations": {
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"7a:5d:0b:21:c4:9e\"}",
                "flannel.alpha.coreos.com/public-ip": "203.0.113.2",
            },
        }});
        let offer = entry_in(&network(""), node(annotations)).unwrap().offer.unwrap();
        assert_eq!(offer.address(), Some("203.0.113.2".parse().unwrap()));
        assert_eq!(offer.vtep().unwrap().to_string(), "7a:5d:0b:21:c4:9e");
    }

    #[test]
    fn subnets_of_families_without_a_network_do_not_count() {
        let both = json!({ "/spec/podCIDRs": ["fd00:10:244:2::/64", "10.244.2.0/24"] });
        assert_eq!(entry_in(&network(""), node(both.clone())).unwrap().key.to_string(), "10.244.2.0-24");
        let dual = network(r#","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56""#);
        let entry = entry_in(&dual, node(both)).unwrap();
        assert_eq!(entry.key.to_string(), "10.244.2.0-24&fd00:10:244:2::-64");
        let single = json!({ "/spec/podCIDRs": null });
        assert_eq!(entry_in(&network(""), node(single)).unwrap().key.to_string(), "10.244.2.0-24");
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        for (more, part) in [
            (json!({ "/spec": {} }), "--allocate-node-cidrs"),
            (json!({ "/spec/podCIDRs": ["ten"] }), "\"ten\""),
            (json!({ "/spec/podCIDRs": ["fd00::/64"] }), "of a family of the network"),
            (json!({ "/status": {} }), "InternalIP"),
            (json!({ "/metadata/name": "a/b" }), "a/b"),
        ] {
            let e = entry_in(&network(""), node(more)).unwrap_err();
            assert!(e.contains(part), "{e}");
        }
    }

    #[test]
    fn this_nodes_condition_is_known() {
        let conditions = json!({ "/status": { "conditions": [
            { "type": "Ready", "status": "True" }, { "type": "NetworkUnavailable", "status": "True" },
        ]}});
        let own = |node: Value| serde_json::from_value::<NodeObject>(node).unwrap().own(&network(""));
        assert_eq!(own(node(conditions)).unavailable.as_deref(), Some("True"));
        let plain = own(node(json!({})));
        assert_eq!((plain.unavailable, plain.internal.len(), plain.uid.as_str()), (None, 2, "u"));
    }
}
