//! The key `config`: the pods' networks, how they are cut into subnets, and how packets travel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::field::field;
use super::key::SubnetKey;
use crate::link::Vni;
use crate::overlay::settings::{Backend, Settings};

/// A network as flannel understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The pods' networks: one per family, at least one.
    pub networks: Vec<IpNetwork>,
    /// How packets travel.
    pub carrier: Carrier,
    cuts: Vec<Cut>,
}

/// How a network is cut into subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) network: IpNetwork,
    /// Prefix length of every subnet.
    pub(super) prefix: u8,
    /// Base address of the first subnet that nodes may take, as a number.
    pub(super) first: u128,
    /// Of the last.
    pub(super) last: u128,
}

/// How packets travel between the nodes of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// In VXLAN packets.
    Vxlan {
        /// Network identifier, where the network names one.
        vni: Option<Vni>,
        /// UDP port, where the network names one.
        port: Option<u16>,
        /// As they are between nodes of one segment.
        direct: bool,
    },
    /// As they are.
    HostGw,
}

/// What this node's own configuration asks for; absent where it leaves the choice to the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// How packets travel.
    pub backend: Option<Backend>,
    /// VXLAN network identifier.
    pub vni: Option<Vni>,
    /// VXLAN's UDP port.
    pub port: Option<u16>,
}

/// Why a network cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(String);

fn error<T>(text: impl Into<String>) -> Result<T, NetworkError> {
    Err(NetworkError(text.into()))
}

impl Network {
    /// Reads the value of `config`, with flannel's defaults.
    ///
    /// # Errors
    /// Not JSON, a value that flannel would refuse too, or a backend that Flatnet has not.
    pub fn read(value: &[u8]) -> Result<Self, NetworkError> {
        let object: Map<String, Value> = serde_json::from_slice(value)
            .map_err(|e| NetworkError(format!("the value is not a JSON object: {e}")))?;
        let mut cuts = Vec::new();
        if flag(&object, "EnableIPv4")?.unwrap_or(true) {
            cuts.push(cut(&object, &V4)?);
        }
        if flag(&object, "EnableIPv6")?.unwrap_or(false) {
            cuts.push(cut(&object, &V6)?);
        }
        if cuts.is_empty() {
            return error("EnableIPv4 and EnableIPv6 are both false: there is no network");
        }
        let networks = cuts.iter().map(|cut| cut.network).collect();
        Ok(Self { networks, carrier: carrier(&object)?, cuts })
    }

    /// What this node is to do in this network: `base`, but for what the network decides. What both name
    /// must be the same, for nodes that differ do not reach each other.
    ///
    /// # Errors
    /// They differ.
    pub fn settings(&self, base: &Settings, asked: Asked) -> Result<Settings, NetworkError> {
        let mut settings = base.clone();
        let (backend, vni, port) = match self.carrier {
            Carrier::HostGw => (Backend::Direct, None, None),
            Carrier::Vxlan { vni, port, direct } => {
                (if direct { Backend::Auto } else { Backend::Vxlan }, vni, port)
            }
        };
        if let Some(asked) = asked.backend.filter(|asked| *asked != backend) {
            let means = match self.carrier {
                Carrier::HostGw => "\"host-gw\"",
                Carrier::Vxlan { direct: true, .. } => "\"vxlan\" with DirectRouting",
                Carrier::Vxlan { direct: false, .. } => "\"vxlan\" without DirectRouting",
            };
            return error(format!(
                "this node's backend.type is {asked}, the network's Backend is {means}, which is {backend}; \
                 leave backend.type out, or change the network for all nodes"
            ));
        }
        settings.backend = backend;
        settings.vni = agree("vni", "VNI", asked.vni.map(Vni::get), vni.map(Vni::get))?
            .map_or(Ok(base.vni), Vni::try_from)
            .map_err(|e| NetworkError(e.to_string()))?;
        settings.port = agree("port", "Port", asked.port, port)?.unwrap_or(base.port);
        Ok(settings)
    }

    /// Whether a node may have these subnets: of the right families and lengths, between the first and the
    /// last.
    #[must_use]
    pub fn suits(&self, key: SubnetKey) -> bool {
        let subnets: Vec<IpNetwork> = key.subnets().collect();
        let fits = |cut: &Cut, subnet: &IpNetwork| {
            let base = number(subnet.ip());
            subnet.is_ipv4() == cut.network.is_ipv4()
                && subnet.prefix() == cut.prefix
                && (cut.first..=cut.last).contains(&base)
        };
        subnets.len() == self.cuts.len() && self.cuts.iter().zip(&subnets).all(|(cut, net)| fits(cut, net))
    }

    pub(super) fn cuts(&self) -> &[Cut] {
        &self.cuts
    }
}

/// What both name must be one.
fn agree<T: PartialEq + std::fmt::Display + Copy>(
    ours: &str,
    theirs: &str,
    asked: Option<T>,
    named: Option<T>,
) -> Result<Option<T>, NetworkError> {
    match (asked, named) {
        (Some(asked), Some(named)) if asked != named => error(format!(
            "this node's backend.{ours} is {asked}, the network's Backend.{theirs} is {named}; \
             leave backend.{ours} out, or change the network for all nodes"
        )),
        _ => Ok(named.or(asked)),
    }
}

impl Cut {
    /// How many addresses a subnet has.
    pub(super) fn size(&self) -> u128 {
        1 << (self.width() - self.prefix)
    }

    pub(super) fn width(&self) -> u8 {
        if self.network.is_ipv4() { 32 } else { 128 }
    }

    /// The subnet at `base`.
    pub(super) fn subnet(&self, base: u128) -> Option<IpNetwork> {
        let ip = match self.network {
            IpNetwork::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(base).ok()?)),
            IpNetwork::V6(_) => IpAddr::V6(Ipv6Addr::from(base)),
        };
        IpNetwork::new(ip, self.prefix).ok()
    }
}

/// An address as a number.
pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// What differs between the families.
struct Family {
    network: &'static str,
    length: &'static str,
    first: &'static str,
    last: &'static str,
    width: u8,
    /// Prefix length of a subnet, where the network is large enough and nobody says otherwise.
    usual: u8,
}

const V4: Family = Family {
    network: "Network",
    length: "SubnetLen",
    first: "SubnetMin",
    last: "SubnetMax",
    width: 32,
    usual: 24,
};
const V6: Family = Family {
    network: "IPv6Network",
    length: "IPv6SubnetLen",
    first: "IPv6SubnetMin",
    last: "IPv6SubnetMax",
    width: 128,
    usual: 64,
};

fn cut(object: &Map<String, Value>, family: &Family) -> Result<Cut, NetworkError> {
    let network = network(object, family)?;
    let longest = family.width - 2;
    let prefix = match number_field(object, family.length)?.filter(|n| *n != 0) {
        None if network.prefix() > family.width - 4 => {
            return error(format!("{} {network} is too small for four subnets", family.network));
        }
        // Where it would not give four subnets of the usual length, a network is cut into four.
        None => family.usual.max(network.prefix() + 2),
        Some(n) => u8::try_from(n).ok().filter(|n| (network.prefix() + 2..=longest).contains(n)).ok_or_else(
            || {
                NetworkError(format!(
                    "{} {n} is outside {}..={longest}: {network} must hold four subnets",
                    family.length,
                    network.prefix() + 2
                ))
            },
        )?,
    };
    let whole = Cut { network, prefix, first: 0, last: 0 };
    let (base, size) = (number(network.ip()), whole.size());
    // Added first, so that the last address of all is no overflow.
    let end = base + ((1 << (family.width - network.prefix() - 1)) - 1) * 2 + 1;
    // The first subnet is left out: its base address is the network's own.
    let first = bound(object, family.first, &whole)?.unwrap_or(base + size);
    let last = bound(object, family.last, &whole)?.unwrap_or(end - (size - 1));
    if first > last {
        return error(format!("{} is beyond {}", family.first, family.last));
    }
    Ok(Cut { first, last, ..whole })
}

fn network(object: &Map<String, Value>, family: &Family) -> Result<IpNetwork, NetworkError> {
    let name = family.network;
    let Some(text) = field(object, name).and_then(Value::as_str) else {
        return error(format!("{name} is missing (like \"10.5.0.0/16\" or \"fd00:5::/48\")"));
    };
    let network = text.parse::<IpNetwork>().ok().filter(|net| net.is_ipv4() == (family.width == 32));
    let network = network
        .filter(|_| text.contains('/'))
        .ok_or_else(|| NetworkError(format!("{name} {text:?} is not a network of its family")))?;
    // Not even a /0 has a use, and its size would be no number.
    if network.prefix() == 0 {
        return error(format!("{name} {text:?} is everything"));
    }
    IpNetwork::new(network.network(), network.prefix())
        .map_err(|e| NetworkError(format!("{name} {text:?}: {e}")))
}

/// A first or last subnet as written: zero means that the choice is open.
fn bound(object: &Map<String, Value>, name: &str, cut: &Cut) -> Result<Option<u128>, NetworkError> {
    let Some(text) = field(object, name).and_then(Value::as_str) else { return Ok(None) };
    let ip = text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == cut.network.is_ipv4());
    let ip = ip.ok_or_else(|| NetworkError(format!("{name} {text:?} is not an address of its family")))?;
    if ip.is_unspecified() {
        return Ok(None);
    }
    if !cut.network.contains(ip) {
        return error(format!("{name} {text} is outside {}", cut.network));
    }
    if !number(ip).is_multiple_of(cut.size()) {
        return error(format!("{name} {text} is not the base of a /{}", cut.prefix));
    }
    Ok(Some(number(ip)))
}

fn flag(object: &Map<String, Value>, name: &str) -> Result<Option<bool>, NetworkError> {
    match field(object, name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => error(format!("{name} {other} is neither true nor false")),
    }
}

fn number_field(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, NetworkError> {
    match field(object, name) {
        None => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| NetworkError(format!("{name} {value} is not a number")))
        }
    }
}

fn carrier(object: &Map<String, Value>) -> Result<Carrier, NetworkError> {
    const REMEDY: &str = "Flatnet has \"vxlan\" and \"host-gw\"";
    let backend = match field(object, "Backend") {
        None => return error(format!("Backend is missing, which means \"udp\" to flannel; {REMEDY}")),
        Some(Value::Object(backend)) => backend,
        Some(other) => return error(format!("Backend {other} is not an object")),
    };
    match field(backend, "Type").and_then(Value::as_str) {
        Some("host-gw") => Ok(Carrier::HostGw),
        Some("vxlan") => {
            if flag(backend, "GBP")? == Some(true) {
                return error("Backend.GBP is true: Flatnet has no group based policy");
            }
            // Zero is what flannel's own defaults write where nobody chose.
            let number =
                |name| -> Result<_, NetworkError> { Ok(number_field(backend, name)?.filter(|n| *n != 0)) };
            let vni = number("VNI")?.map(|n| {
                let vni = u32::try_from(n).unwrap_or(u32::MAX);
                Vni::try_from(vni).map_err(|e| NetworkError(format!("Backend.VNI: {e}")))
            });
            let port = number("Port")?.map(|n| {
                u16::try_from(n).map_err(|_| NetworkError(format!("Backend.Port {n} is not a port")))
            });
            let direct = flag(backend, "DirectRouting")?.unwrap_or(false);
            Ok(Carrier::Vxlan { vni: vni.transpose()?, port: port.transpose()?, direct })
        }
        Some(other) => error(format!("Backend.Type is {other:?}; {REMEDY}")),
        None => error(format!("Backend.Type is missing; {REMEDY}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(s: &str) -> Result<Network, NetworkError> {
        Network::read(s.as_bytes())
    }

    fn v4(rest: &str) -> Network {
        read(&format!(r#"{{"Backend":{{"Type":"vxlan"}},{rest}}}"#)).unwrap()
    }

    fn range(network: &Network) -> (String, String) {
        let cut = network.cuts()[0];
        (cut.subnet(cut.first).unwrap().to_string(), cut.subnet(cut.last).unwrap().to_string())
    }

    /// The examples of flannel's `Documentation/configuration.md`, and its own tests' expectations.
    #[test]
    fn flannels_examples_are_read() {
        let net = read(
            r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0",
                "Backend":{"Type":"vxlan","VNI":7,"Port":7890}}"#,
        )
        .unwrap();
        assert_eq!(range(&net), ("10.10.0.0/20".to_owned(), "10.99.0.0/20".to_owned()));
        let vni = Some(Vni::try_from(7).unwrap());
        assert_eq!(net.carrier, Carrier::Vxlan { vni, port: Some(7890), direct: false });
        assert_eq!(
            range(&v4(r#""Network":"10.3.0.0/16""#)),
            ("10.3.1.0/24".to_owned(), "10.3.255.0/24".to_owned())
        );
        // A network of 64 to 1024 addresses is cut into four.
        assert_eq!(
            range(&v4(r#""Network":"10.3.0.0/26""#)),
            ("10.3.0.16/28".to_owned(), "10.3.0.48/28".to_owned())
        );
        assert_eq!(range(&v4(r#""network":"10.3.0.0/16","subnetlen":28"#)).0, "10.3.0.16/28");
        let dual = v4(r#""Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48""#);
        assert_eq!(dual.networks.len(), 2);
        assert!(dual.suits("10.3.7.0-24&fc00:0:0:9::-64".parse().unwrap()));
        let six = v4(r#""EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48""#);
        assert_eq!(range(&six), ("fc00:0:0:1::/64".to_owned(), "fc00:0:0:ffff::/64".to_owned()));
        let edge = v4(r#""EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"8000::/1""#);
        assert_eq!(range(&edge).1, "ffff:ffff:ffff:ffff::/64");
    }

    #[test]
    fn what_suits_is_of_family_length_and_range() {
        let net = v4(r#""Network":"10.3.0.0/16""#);
        for (key, suits) in [
            ("10.3.7.0-24", true),
            ("10.3.0.0-24", false),
            ("10.4.7.0-24", false),
            ("10.3.7.0-25", false),
            ("10.3.7.0-24&fd00::-64", false),
            ("0.0.0.0-0&fd00::-64", false),
        ] {
            assert_eq!(net.suits(key.parse().unwrap()), suits, "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let vxlan = r#""Backend":{"Type":"vxlan"}"#;
        for (value, part) in [
            ("", "not a JSON object"),
            ("{}", "Network is missing"),
            (r#"{"Network":"10.3.0.0/16"}"#, "means \"udp\""),
            (r#"{"Network":"10.3.0.0/16","Backend":{}}"#, "Backend.Type is missing"),
            (r#"{"Network":"10.3.0.0/16","Backend":{"Type":"wireguard"}}"#, "Backend.Type is \"wireguard\""),
            (r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","GBP":true}}"#, "GBP"),
            (r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#, "Backend.VNI"),
            (r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","Port":65536}}"#, "Backend.Port 65536"),
            (&format!(r#"{{"Network":"10.3.0.0",{vxlan}}}"#), "not a network"),
            (&format!(r#"{{"Network":"10.3.0.0/29",{vxlan}}}"#), "too small"),
            (
                &format!(r#"{{"Network":"10.3.0.0/16","SubnetLen":31,{vxlan}}}"#),
                "SubnetLen 31 is outside 18..=30",
            ),
            (
                &format!(r#"{{"Network":"10.3.0.0/16","SubnetMin":"10.3.0.7",{vxlan}}}"#),
                "not the base of a /24",
            ),
            (
                &format!(r#"{{"Network":"10.3.0.0/16","SubnetMax":"10.4.0.0",{vxlan}}}"#),
                "outside 10.3.0.0/16",
            ),
            (&format!(r#"{{"Network":"10.3.0.0/16","EnableIPv6":true,{vxlan}}}"#), "IPv6Network is missing"),
            (&format!(r#"{{"EnableIPv4":false,{vxlan}}}"#), "both false"),
        ] {
            let e = read(value).unwrap_err().to_string();
            assert!(e.contains(part), "{value}: {e}");
        }
    }

    #[test]
    fn network_and_node_must_agree_on_what_both_name() {
        let base = Settings {
            node: "n1".parse().unwrap(),
            backend: Backend::Auto,
            vni: Vni::try_from(1).unwrap(),
            port: 8472,
            peers_only: true,
            uplink_segment_size: None,
        };
        let net =
            |backend: &str| read(&format!(r#"{{"Network":"10.3.0.0/16","Backend":{backend}}}"#)).unwrap();
        let plain = net(r#"{"Type":"vxlan"}"#);
        let open = Asked::default();
        assert_eq!(
            plain.settings(&base, open).unwrap(),
            Settings { backend: Backend::Vxlan, ..base.clone() }
        );
        let full = net(r#"{"Type":"vxlan","VNI":7,"Port":4789,"DirectRouting":true}"#).settings(&base, open);
        let full = full.unwrap();
        assert_eq!((full.backend, full.vni.get(), full.port), (Backend::Auto, 7, 4789));
        assert_eq!(net(r#"{"Type":"host-gw"}"#).settings(&base, open).unwrap().backend, Backend::Direct);
        // What the network leaves open, the node may name.
        let named = Asked { port: Some(4789), ..open };
        assert_eq!(plain.settings(&Settings { port: 4789, ..base.clone() }, named).unwrap().port, 4789);
        for (asked, part) in [
            (Asked { backend: Some(Backend::Direct), ..open }, "backend.type is direct"),
            (
                Asked { vni: Some(Vni::try_from(8).unwrap()), ..open },
                "backend.vni is 8, the network's Backend.VNI is 7",
            ),
            (Asked { port: Some(1), ..open }, "backend.port is 1"),
        ] {
            let network = net(r#"{"Type":"vxlan","VNI":7,"Port":4789}"#);
            let e = network.settings(&base, asked).unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        }
    }
}
