//! The value of a key below `subnets/`: where a node is, and how packets travel to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::field::field;
use super::network::{Carrier, Network};
use crate::link::{Mac, Vni};
use crate::names::NodeName;
use crate::overlay::settings::Settings;

/// The field in which Flatnet adds a node's name; flannel passes over what it does not know.
const NODE: &str = "FlatnetNode";

/// What a node publishes of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// How packets travel to it.
    pub travels: Travels,
    /// Its name, where it runs Flatnet.
    pub node: Option<NodeName>,
}

/// How packets travel to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Travels {
    /// In VXLAN packets.
    Vxlan {
        /// Network identifier.
        vni: Vni,
        /// MAC of the tunnel endpoint at its IPv4 address.
        v4: Option<Mac>,
        /// MAC of the tunnel endpoint at its IPv6 address.
        v6: Option<Mac>,
    },
    /// As they are.
    HostGw,
    /// In another way that flannel knows and Flatnet does not.
    Other(String),
}

/// Why a value says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OfferError(String);

impl OfferError {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }
}

impl Offer {
    /// What the node called `node`, which runs Flatnet at these addresses, publishes in `network`.
    #[must_use]
    pub fn of_node(
        node: &NodeName,
        (v4, v6): (Option<Ipv4Addr>, Option<Ipv6Addr>),
        network: &Network,
        settings: &Settings,
    ) -> Self {
        // An address of a family without pods is no use to the others, unless it is the only one.
        let pods = |v4: bool| network.networks.iter().any(|net| net.is_ipv4() == v4);
        let (only_v4, only_v6) = (v6.is_none(), v4.is_none());
        let (v4, v6) = (v4.filter(|_| pods(true) || only_v4), v6.filter(|_| pods(false) || only_v6));
        let mac = Mac::of_vtep(node);
        let travels = match network.carrier {
            Carrier::HostGw => Travels::HostGw,
            Carrier::Vxlan { .. } => {
                Travels::Vxlan { vni: settings.vni, v4: v4.map(|_| mac), v6: v6.map(|_| mac) }
            }
        };
        Self { v4, v6, travels, node: Some(node.clone()) }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// Not JSON, not of the shape, or without an address.
    pub fn read(value: &[u8]) -> Result<Self, OfferError> {
        let object: Map<String, Value> = serde_json::from_slice(value)
            .map_err(|e| OfferError(format!("the value is not a JSON object: {e}")))?;
        Self::of_object(&object)
    }

    pub(super) fn of_object(object: &Map<String, Value>) -> Result<Self, OfferError> {
        let v4 = parsed::<Ipv4Addr>(object, "PublicIP")?.filter(|ip| !ip.is_unspecified());
        let v6 = parsed::<Ipv6Addr>(object, "PublicIPv6")?.filter(|ip| !ip.is_unspecified());
        if v4.is_none() && v6.is_none() {
            return Err(OfferError("PublicIP and PublicIPv6 are missing".to_owned()));
        }
        let travels = match text(object, "BackendType")?.as_deref() {
            Some("vxlan") => vxlan(object)?,
            Some("host-gw") => Travels::HostGw,
            other => Travels::Other(other.unwrap_or_default().to_owned()),
        };
        // A name is for people; one that is none is as good as none.
        let node = field(object, NODE).and_then(Value::as_str).and_then(|name| name.parse().ok());
        Ok(Self { v4, v6, travels, node })
    }

    /// The value as flannel would write it, and the node's name.
    #[must_use]
    pub fn write(&self) -> String {
        let mut value = json!({
            "PublicIP": self.v4.unwrap_or(Ipv4Addr::UNSPECIFIED).to_string(),
            "PublicIPv6": self.v6.map(|ip| ip.to_string()),
        });
        match &self.travels {
            Travels::Vxlan { vni, v4, v6 } => {
                value["BackendType"] = "vxlan".into();
                for (name, mac) in [("BackendData", v4), ("BackendV6Data", v6)] {
                    if let Some(mac) = mac {
                        value[name] = json!({ "VNI": vni.get(), "VtepMAC": mac.to_string() });
                    }
                }
            }
            Travels::HostGw => value["BackendType"] = "host-gw".into(),
            Travels::Other(other) => value["BackendType"] = other.as_str().into(),
        }
        if let Some(node) = &self.node {
            value[NODE] = node.as_str().into();
        }
        value.to_string()
    }

    /// Where it is reached: its IPv4 address where it has one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or(self.v6.map(IpAddr::V6))
    }

    /// MAC of the tunnel endpoint at [`Self::address`].
    #[must_use]
    pub fn vtep(&self) -> Option<Mac> {
        match self.travels {
            Travels::Vxlan { v4, v6, .. } => {
                if self.v4.is_some() {
                    v4
                } else {
                    v6
                }
            }
            Travels::HostGw | Travels::Other(_) => None,
        }
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, OfferError> {
    match field(object, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(OfferError(format!("{name} {other} is not a string"))),
    }
}

fn parsed<T: std::str::FromStr>(object: &Map<String, Value>, name: &str) -> Result<Option<T>, OfferError> {
    let Some(text) = text(object, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| OfferError(format!("{name} {text:?} is not an address of its family")))
}

fn vxlan(object: &Map<String, Value>) -> Result<Travels, OfferError> {
    let mut vnis = Vec::new();
    let mut end = |name: &str| -> Result<Option<Mac>, OfferError> {
        let data = match field(object, name) {
            None => return Ok(None),
            Some(Value::Object(data)) => data,
            Some(other) => return Err(OfferError(format!("{name} {other} is not an object"))),
        };
        let number = field(data, "VNI").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let vni = Vni::try_from(number.unwrap_or(0)).map_err(|e| OfferError(format!("{name}: {e}")))?;
        vnis.push(vni);
        let Some(mac) = text(data, "VtepMAC")? else {
            return Err(OfferError(format!("{name} has no VtepMAC")));
        };
        let mac = mac.parse().and_then(Mac::of_interface);
        mac.map(Some).map_err(|e| OfferError(format!("{name}: {e}")))
    };
    let (v4, v6) = (end("BackendData")?, end("BackendV6Data")?);
    match vnis.as_slice() {
        [] => Err(OfferError("BackendData is missing".to_owned())),
        [vni, rest @ ..] if rest.iter().all(|other| other == vni) => Ok(Travels::Vxlan { vni: *vni, v4, v6 }),
        _ => Err(OfferError("BackendData and BackendV6Data have different VNIs".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLANNEL: &str = r#"{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"7a:5d:0b:21:c4:9e"}}"#;

    #[test]
    fn flannels_value_is_read() {
        let offer = Offer::read(FLANNEL.as_bytes()).unwrap();
        assert_eq!(offer.address(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(offer.vtep().unwrap().to_string(), "7a:5d:0b:21:c4:9e");
        assert_eq!(offer.node, None);
        let host_gw = r#"{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"host-gw"}"#;
        assert_eq!(Offer::read(host_gw.as_bytes()).unwrap().travels, Travels::HostGw);
        let wireguard =
            r#"{"PublicIP":"192.0.2.7","BackendType":"wireguard","BackendData":{"PublicKey":"x"}}"#;
        assert_eq!(
            Offer::read(wireguard.as_bytes()).unwrap().travels,
            Travels::Other("wireguard".to_owned())
        );
    }

    #[test]
    fn a_flannel_node_without_a_name_is_written_as_flannel_does() {
        let ours = Offer::read(FLANNEL.as_bytes()).unwrap().write();
        let (ours, theirs): (Value, Value) =
            (serde_json::from_str(&ours).unwrap(), serde_json::from_str(FLANNEL).unwrap());
        assert_eq!(ours, theirs);
    }

    #[test]
    fn the_address_decides_which_end_counts() {
        let dual = r#"{"PublicIP":"192.0.2.7","PublicIPv6":"2001:db8::7","BackendType":"vxlan",
            "BackendData":{"VNI":1,"VtepMAC":"7a:5d:0b:21:c4:9e"},
            "BackendV6Data":{"VNI":1,"VtepMAC":"7a:5d:0b:21:c4:9f"}}"#;
        let dual = Offer::read(dual.as_bytes()).unwrap();
        assert_eq!(dual.vtep().unwrap().to_string(), "7a:5d:0b:21:c4:9e");
        let six = Offer { v4: None, ..dual };
        assert_eq!(six.address(), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(six.vtep().unwrap().to_string(), "7a:5d:0b:21:c4:9f");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, part) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "PublicIP and PublicIPv6 are missing"),
            (r#"{"PublicIP":"0.0.0.0","BackendType":"host-gw"}"#, "are missing"),
            (r#"{"PublicIP":7}"#, "PublicIP 7 is not a string"),
            (r#"{"PublicIP":"fd00::1"}"#, "PublicIP \"fd00::1\""),
            (r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#, "BackendData is missing"),
            (r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VNI":1}}"#, "no VtepMAC"),
            (
                r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}}"#,
                "BackendData: ",
            ),
            (
                r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"7a:5d:0b:21:c4:9e"}}"#,
                "VNI 0",
            ),
        ] {
            let e = Offer::read(value.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(part), "{value}: {e}");
        }
    }

    /// A value cut anywhere, as a crash of its writer might leave it, is an error and never a panic.
    #[test]
    fn a_cut_value_is_an_error() {
        for end in 0..FLANNEL.len() {
            assert!(Offer::read(&FLANNEL.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn writing_is_reading_backwards(
            v4 in any::<Option<u32>>(), v6 in 1u128.., vni in 1u32..1 << 24, low in any::<[u8; 5]>(),
        ) {
            let mac = |first: u8| Some(Mac([first, low[0], low[1], low[2], low[3], low[4]]));
            let v4 = v4.filter(|ip| *ip != 0).map(Ipv4Addr::from);
            let offer = Offer {
                v4,
                v6: Some(v6.into()),
                travels: Travels::Vxlan {
                    vni: Vni::try_from(vni).unwrap(), v4: v4.and(mac(2)), v6: mac(6),
                },
                node: Some("n1".parse().unwrap()),
            };
            prop_assert_eq!(Offer::read(offer.write().as_bytes()), Ok(offer));
        }
    }
}
