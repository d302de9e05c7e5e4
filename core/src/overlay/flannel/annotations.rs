//! What a node says of itself on Kubernetes: annotations of its Node object, in the place of a key in etcd.
//!
//! Source: flannel-io/flannel, `pkg/subnet/kube/annotations.go` and `pkg/subnet/kube/kube.go`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::offer::{Offer, OfferError, Travels};
use crate::names::NodeName;

/// flannel's annotations; all others are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    /// `true` where the node's subnets are those that Kubernetes gave it.
    #[serde(rename = "flannel.alpha.coreos.com/kube-subnet-manager")]
    pub managed: Option<String>,
    /// `vxlan`, `host-gw`, or what Flatnet has not.
    #[serde(rename = "flannel.alpha.coreos.com/backend-type")]
    pub backend_type: Option<String>,
    /// JSON: VNI and MAC of the tunnel endpoint at the IPv4 address; `null` without a tunnel.
    #[serde(rename = "flannel.alpha.coreos.com/backend-data")]
    pub backend_data: Option<String>,
    /// The same for the IPv6 address.
    #[serde(rename = "flannel.alpha.coreos.com/backend-v6-data")]
    pub backend_v6_data: Option<String>,
    /// Where the others reach it.
    #[serde(rename = "flannel.alpha.coreos.com/public-ip")]
    pub public_ip: Option<String>,
    /// The same in IPv6.
    #[serde(rename = "flannel.alpha.coreos.com/public-ipv6")]
    pub public_ipv6: Option<String>,
    /// What a person wants published in the place of `public-ip`.
    #[serde(rename = "flannel.alpha.coreos.com/public-ip-overwrite")]
    pub public_ip_overwrite: Option<String>,
    /// The same in IPv6.
    #[serde(rename = "flannel.alpha.coreos.com/public-ipv6-overwrite")]
    pub public_ipv6_overwrite: Option<String>,
}

impl Annotations {
    /// What a node publishes that offers this. What a person writes is not part of it.
    #[must_use]
    pub fn of(offer: &Offer) -> Self {
        let (backend_type, data, v6_data) = match &offer.travels {
            Travels::Vxlan { vni, v4, v6 } => {
                let end = |mac: crate::link::Mac| {
                    json!({ "VNI": vni.get(), "VtepMAC": mac.to_string() }).to_string()
                };
                ("vxlan", v4.map(end), v6.map(end))
            }
            Travels::HostGw => {
                let null = || Value::Null.to_string();
                ("host-gw", offer.v4.map(|_| null()), offer.v6.map(|_| null()))
            }
            Travels::Other(other) => (other.as_str(), None, None),
        };
        Self {
            managed: Some("true".to_owned()),
            backend_type: Some(backend_type.to_owned()),
            backend_data: data,
            backend_v6_data: v6_data,
            public_ip: offer.v4.map(|ip| ip.to_string()),
            public_ipv6: offer.v6.map(|ip| ip.to_string()),
            public_ip_overwrite: None,
            public_ipv6_overwrite: None,
        }
    }

    /// What the node called `node` offers; `None` where nobody has published anything for it.
    ///
    /// # Errors
    /// What was published makes no sense.
    pub fn offer(&self, node: &NodeName) -> Result<Option<Offer>, OfferError> {
        let Some(backend_type) =
            self.backend_type.as_ref().filter(|_| self.managed.as_deref() == Some("true"))
        else {
            return Ok(None);
        };
        let mut object = Map::new();
        object.insert("BackendType".to_owned(), backend_type.as_str().into());
        for (name, text) in [("PublicIP", &self.public_ip), ("PublicIPv6", &self.public_ipv6)] {
            object.extend(text.as_ref().map(|text| (name.to_owned(), text.as_str().into())));
        }
        for (name, text) in [("BackendData", &self.backend_data), ("BackendV6Data", &self.backend_v6_data)] {
            let Some(text) = text else { continue };
            let data = serde_json::from_str(text)
                .map_err(|e| OfferError::new(format!("{name} {text:?} is not JSON: {e}")))?;
            object.insert(name.to_owned(), data);
        }
        let offer = Offer::of_object(&object)?;
        Ok(Some(Offer { node: Some(node.clone()), ..offer }))
    }

    /// The annotations to write so that `wanted` is published; `null` takes one away. Empty where it is.
    #[must_use]
    pub fn changes(&self, wanted: &Self) -> Map<String, Value> {
        // What a person writes stays as it is.
        let wanted = Self {
            public_ip_overwrite: self.public_ip_overwrite.clone(),
            public_ipv6_overwrite: self.public_ipv6_overwrite.clone(),
            ..wanted.clone()
        };
        match (json!(self), json!(wanted)) {
            (Value::Object(now), Value::Object(wanted)) => {
                wanted.into_iter().filter(|(name, value)| now.get(name) != Some(value)).collect()
            }
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Mac;

    fn node() -> NodeName {
        "n2".parse().unwrap()
    }

    /// As `kubectl get node -o yaml` shows a node of flannel's.
    fn flannel() -> Annotations {
        serde_json::from_value(json!({
            "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"7a:5d:0b:21:c4:9e\"}",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": "192.0.2.7",
            "node.alpha.kubernetes.io/ttl": "0",
        }))
        .unwrap()
    }

    #[test]
    fn flannels_annotations_are_read_and_written() {
        let offer = flannel().offer(&node()).unwrap().unwrap();
        assert_eq!(offer.address(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(offer.vtep().unwrap().to_string(), "7a:5d:0b:21:c4:9e");
        assert_eq!(offer.node, Some(node()));
        assert_eq!(Annotations::of(&offer), flannel());
        assert!(flannel().changes(&Annotations::of(&offer)).is_empty());
    }

    #[test]
    fn what_nobody_published_is_nothing_and_what_makes_no_sense_is_named() {
        assert_eq!(Annotations::default().offer(&node()), Ok(None));
        assert_eq!(Annotations { managed: None, ..flannel() }.offer(&node()), Ok(None));
        for (annotations, part) in [
            (Annotations { backend_data: Some("{".to_owned()), ..flannel() }, "is not JSON"),
            (Annotations { backend_data: None, ..flannel() }, "BackendData is missing"),
            (Annotations { public_ip: Some("here".to_owned()), ..flannel() }, "\"here\""),
            (Annotations { public_ip: None, ..flannel() }, "are missing"),
        ] {
            let e = annotations.offer(&node()).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_left_over_goes() {
        let now = Annotations {
            backend_v6_data: Some("{}".to_owned()),
            public_ip_overwrite: Some("203.0.113.7".to_owned()),
            ..flannel()
        };
        let offer = flannel().offer(&node()).unwrap().unwrap();
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let vni = 1.try_into().unwrap();
        let offer = Offer { travels: Travels::Vxlan { vni, v4: mac, v6: None }, ..offer };
        assert_eq!(
            Value::Object(now.changes(&Annotations::of(&offer))),
            json!({
                "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:01\"}",
                "flannel.alpha.coreos.com/backend-v6-data": null,
            })
        );
    }

    #[test]
    fn without_a_tunnel_there_is_no_data() {
        let offer = flannel().offer(&node()).unwrap().unwrap();
        let written = Annotations::of(&Offer { travels: Travels::HostGw, ..offer });
        assert_eq!(
            (written.backend_type.as_deref(), written.backend_data.as_deref()),
            (Some("host-gw"), Some("null"))
        );
        assert_eq!(written.offer(&node()).unwrap().unwrap().travels, Travels::HostGw);
    }
}
