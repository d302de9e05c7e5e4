//! The network configuration on stdin: the part every verb needs, and the part that ADD checks whole.
//!
//! Keys at the top level that we do not know pass: runtimes leave their own there. Inside our objects
//! they are error 2.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::bandwidth;
use super::error::{CniError, Code};
use super::port_mappings;
use super::value::{
    array, dns, invalid, lookup, mac, mistyped, mtu, networks, object, parse, requested, routes, sysctls,
    text,
};
use super::version::Version;
use crate::hostport::HostPort;
use crate::link::{Mac, OverlayMtu};
use crate::names::NetworkName;
use crate::rate::Limits;

/// Where state lives when the configuration does not say.
pub const DEFAULT_STATE_DIR: &str = "/run/flatnet";
/// Seconds a freed address rests before it is given to another pod.
pub const DEFAULT_COOLDOWN_SECONDS: u64 = 30;

/// What every verb needs. DEL reads no more than this, so that no mistake elsewhere keeps a pod's
/// address for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// The version to answer in.
    pub version: Version,
    /// The network's name.
    pub name: NetworkName,
    /// Where state lives.
    pub state_dir: PathBuf,
    /// The whole configuration.
    raw: Map<String, Value>,
}

/// A route for the pod beyond the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraRoute {
    /// Destination.
    pub dst: IpNetwork,
}

/// What ADD asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct AddConf {
    /// Pod subnets of this node; absent: the node snapshot's.
    pub subnets: Option<Vec<IpNetwork>>,
    /// Networks where the pods' own addresses are seen; absent: `subnets`.
    pub cluster_networks: Option<Vec<IpNetwork>>,
    /// Whether what leaves the cluster networks takes the node's address. Only without an agent: with
    /// one it is the agent's task.
    pub masquerade: bool,
    /// MTU of the pod's interface; absent: the node snapshot's.
    pub mtu: Option<OverlayMtu>,
    /// Seconds a freed address rests.
    pub cooldown_seconds: u64,
    /// Further routes of the pod.
    pub routes: Vec<ExtraRoute>,
    /// Settings inside the pod, keys with slashes.
    pub sysctls: BTreeMap<String, String>,
    /// Passed through to the result.
    pub dns: Option<Value>,
    /// Addresses asked for (`args.cni.ips`, else the `ips` capability).
    pub requested: Vec<IpAddr>,
    /// MAC asked for (`args.cni.mac`, else the `mac` capability).
    pub mac: Option<Mac>,
    /// Bandwidth limits (the `bandwidth` capability).
    pub limits: Limits,
    /// Ports of the node that lead to the pod (the `portMappings` capability).
    pub host_ports: Vec<HostPort>,
    /// The third-party IPAM plugin that gives the addresses.
    pub ipam: Option<String>,
}

/// An attachment as the runtime names it in GC (SPEC 1.1.0, `cni.dev/valid-attachments`).
pub type AttachmentKey = (String, String);

impl Base {
    /// Reads stdin.
    ///
    /// # Errors
    /// Not a JSON object (6), a version we do not speak (1), no usable name (7).
    pub fn read(stdin: &[u8]) -> Result<Self, CniError> {
        let raw = object(stdin)?;
        let version = match raw.get("cniVersion") {
            None => Version::UNNAMED,
            Some(v) => {
                text("cniVersion", v)?.parse().map_err(|e| CniError::new(Code::IncompatibleVersion, e))?
            }
        };
        let name = match raw.get("name") {
            None => return Err(CniError::new(Code::InvalidConfig, "name is missing: a network needs one")),
            Some(v) => parse("name", v)?,
        };
        let state_dir = match raw.get("stateDir") {
            None => PathBuf::from(DEFAULT_STATE_DIR),
            Some(v) => PathBuf::from(text("stateDir", v)?),
        };
        if !state_dir.is_absolute() {
            return Err(invalid("stateDir", state_dir.display(), "must be an absolute path"));
        }
        Ok(Self { version, name, state_dir, raw })
    }

    /// What error objects answer in: the version that a success would answer in, where it can be told.
    #[must_use]
    pub fn version_of(stdin: &[u8]) -> Version {
        let Ok(raw) = object(stdin) else { return Version::LATEST };
        match raw.get("cniVersion") {
            None => Version::UNNAMED,
            Some(v) => v.as_str().and_then(|v| v.parse().ok()).unwrap_or(Version::LATEST),
        }
    }

    /// The result of the chain so far.
    ///
    /// # Errors
    /// It is not an object.
    pub fn prev_result(&self) -> Result<Option<&Value>, CniError> {
        match self.raw.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(result) if result.is_object() => Ok(Some(result)),
            Some(other) => Err(mistyped("prevResult", other, "an object")),
        }
    }

    /// The third-party IPAM plugin that the configuration names; `None`: the built-in pool.
    ///
    /// # Errors
    /// `ipam` is malformed, or names a plugin that cannot work with routed pods.
    pub fn ipam(&self) -> Result<Option<&str>, CniError> {
        let Some(ipam) = self.raw.get("ipam").filter(|v| !v.is_null()) else { return Ok(None) };
        let map = ipam.as_object().ok_or_else(|| mistyped("ipam", ipam, "an object"))?;
        if map.is_empty() {
            return Ok(None);
        }
        let kind = map.get("type").ok_or_else(|| invalid("ipam", ipam, "type is missing"))?;
        match text("ipam.type", kind)? {
            "" => Ok(None),
            "dhcp" => Err(CniError::new(Code::UnsupportedField, "ipam.type is not supported: \"dhcp\"")
                .with("a pod's address is routed to it alone: there is no broadcast domain to ask in")),
            "." | ".." => Err(invalid("ipam.type", kind, "is not the name of a plugin")),
            path if path.contains('/') => Err(invalid("ipam.type", kind, "must be a name, not a path")),
            name => Ok(Some(name)),
        }
    }

    /// The `ipam` object as given, for the record.
    #[must_use]
    pub fn raw_ipam(&self) -> Option<&Value> {
        self.raw.get("ipam")
    }

    /// The same configuration with another `ipam` object.
    #[must_use]
    pub fn with_ipam(&self, ipam: &Value) -> Self {
        let mut other = self.clone();
        other.raw.insert("ipam".to_owned(), ipam.clone());
        other
    }

    /// The complete configuration, for a plugin we delegate to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.raw.clone()).to_string().into_bytes()
    }

    /// Attachments that GC must leave alone.
    ///
    /// # Errors
    /// The list is missing or malformed: better to collect nothing.
    pub fn valid_attachments(&self) -> Result<Vec<AttachmentKey>, CniError> {
        let key = "cni.dev/valid-attachments";
        let list = self
            .raw
            .get(key)
            .or_else(|| self.raw.get("cni.dev/attachments"))
            .ok_or_else(|| CniError::new(Code::InvalidConfig, format!("{key} is missing")))?;
        array(key, list)?
            .iter()
            .map(|entry| match (entry.get("containerID"), entry.get("ifname")) {
                (Some(Value::String(id)), Some(Value::String(ifname))) => Ok((id.clone(), ifname.clone())),
                _ => Err(invalid(key, entry, "each entry needs containerID and ifname")),
            })
            .collect()
    }

    /// Reads the rest, for ADD, CHECK and STATUS.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn add_conf(&self) -> Result<AddConf, CniError> {
        let runtime = self.runtime_config()?;
        let list_of = |key: &str| self.raw.get(key).map(|v| networks(key, v)).transpose();
        Ok(AddConf {
            subnets: list_of("subnets")?,
            cluster_networks: list_of("clusterNetworks")?,
            masquerade: match self.truth("masquerade")? {
                Some(given) => given,
                None => self.truth("ipMasq")?.unwrap_or(false),
            },
            mtu: self.raw.get("mtu").map(mtu).transpose()?,
            cooldown_seconds: match self.raw.get("cooldownSeconds") {
                None => DEFAULT_COOLDOWN_SECONDS,
                Some(v) => v.as_u64().ok_or_else(|| mistyped("cooldownSeconds", v, "a number"))?,
            },
            routes: self.raw.get("routes").map_or(Ok(Vec::new()), routes)?,
            sysctls: self.raw.get("sysctls").map_or(Ok(BTreeMap::new()), sysctls)?,
            dns: self.raw.get("dns").map(dns).transpose()?,
            requested: match self.arg("ips") {
                Some(v) => requested("args.cni.ips", v)?,
                None => {
                    lookup(runtime, "ips").map_or(Ok(Vec::new()), |v| requested("runtimeConfig.ips", v))?
                }
            },
            mac: match self.arg("mac") {
                Some(v) => Some(mac("args.cni.mac", v)?),
                None => lookup(runtime, "mac").map(|v| mac("runtimeConfig.mac", v)).transpose()?,
            },
            limits: lookup(runtime, "bandwidth").map_or(Ok(Limits::default()), bandwidth::limits)?,
            host_ports: lookup(runtime, "portMappings").map_or(Ok(Vec::new()), port_mappings::read)?,
            ipam: self.ipam()?.map(str::to_owned),
        })
    }

    /// A key that says yes or no. `ipMasq` is the specification's name for `masquerade` (SPEC 1.1.0, section 1).
    fn truth(&self, key: &str) -> Result<Option<bool>, CniError> {
        let asked = self.raw.get(key);
        asked.map(|v| v.as_bool().ok_or_else(|| mistyped(key, v, "true or false"))).transpose()
    }

    /// A value of `args.cni` (CONVENTIONS, "args in network config"): it goes before all other ways of
    /// asking for the same.
    fn arg(&self, key: &str) -> Option<&Value> {
        self.raw.get("args")?.get("cni")?.get(key).filter(|v| !v.is_null())
    }

    fn runtime_config(&self) -> Result<Option<&Map<String, Value>>, CniError> {
        match self.raw.get("runtimeConfig") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(mistyped("runtimeConfig", other, "an object")),
        }
    }
}

/// Whether two networks share an address.
#[must_use]
pub fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(json: &str) -> Result<AddConf, CniError> {
        Base::read(json.as_bytes())?.add_conf()
    }

    /// Each key of the page's table is read: a value that fits no key is an error that names it.
    #[test]
    fn every_documented_setting_is_one() {
        let page = include_str!("../../../docs/plugin.md");
        let table = page.split("## Settings").nth(1).and_then(|rest| rest.split("## ").next()).unwrap();
        let keys: Vec<&str> =
            table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert!(keys.len() > 8, "{keys:?}");
        for key in keys {
            let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","{key}":-1.5}}"#);
            let e = Base::read(text.as_bytes()).and_then(|base| base.add_conf().map(drop)).unwrap_err();
            assert!(e.msg.contains(key), "{key}: {e}");
        }
        assert!(table.contains(&format!("| `cooldownSeconds` | {DEFAULT_COOLDOWN_SECONDS} |")));
        assert!(table.contains(&format!("| `stateDir` | `{DEFAULT_STATE_DIR}` |")));
    }

    #[test]
    fn garbage_truncated_and_empty_input_are_decode_errors() {
        for bad in ["", "  \n", "{", "[]", "null", "{\"name\": \"x\"", "\u{0}\u{1}", "nonsense"] {
            assert_eq!(Base::read(bad.as_bytes()).unwrap_err().code, Code::Decode, "{bad:?}");
        }
    }

    #[test]
    fn wrong_values_are_named_with_key_and_value() {
        let cases = [
            (r#""subnets":["10.0.0.1/24"]"#, Code::InvalidConfig, "10.0.0.0/24"),
            (r#""subnets":["10.0.0.0"]"#, Code::InvalidConfig, "prefix length"),
            (r#""subnets":["10.0.0.0/33"]"#, Code::InvalidConfig, "10.0.0.0/33"),
            (r#""subnets":[]"#, Code::InvalidConfig, "subnets"),
            (r#""subnets":["10.0.0.0/16","10.0.1.0/24"]"#, Code::InvalidConfig, "overlaps"),
            (r#""subnets":"10.0.0.0/24""#, Code::Decode, "a list"),
            (r#""mtu":100"#, Code::InvalidConfig, "100"),
            (r#""mtu":"big""#, Code::Decode, "big"),
            (r#""cooldownSeconds":-1"#, Code::Decode, "-1"),
            (r#""routes":[{"dst":"10.0.0.0/8","gateway":"1.1.1.1"}]"#, Code::UnsupportedField, "gateway"),
            (r#""sysctls":{"kernel.panic":"1"}"#, Code::InvalidConfig, "kernel.panic"),
            (r#""sysctls":{"net/../kernel":"1","net..x":"1"}"#, Code::InvalidConfig, "net"),
            (r#""dns":{"servers":["1.1.1.1"]}"#, Code::UnsupportedField, "servers"),
            (r#""runtimeConfig":{"PortMappings":[{"HostPort":80}]}"#, Code::InvalidConfig, "80"),
            (r#""runtimeConfig":{"mac":"zz"}"#, Code::InvalidConfig, "zz"),
            (r#""runtimeConfig":{"mac":"01:00:5e:00:00:01"}"#, Code::InvalidConfig, "01:00:5e:00:00:01"),
            (r#""args":{"cni":{"ips":["10.0.0.900"]}}"#, Code::InvalidConfig, "args.cni.ips"),
            (r#""args":{"cni":{"mac":"zz"}}"#, Code::InvalidConfig, "args.cni.mac"),
            (r#""stateDir":"relative""#, Code::InvalidConfig, "relative"),
            (r#""ipam":{"type":"dhcp"}"#, Code::UnsupportedField, "dhcp"),
            (r#""ipam":{"type":"../x"}"#, Code::InvalidConfig, "../x"),
            (r#""ipam":{"ranges":[]}"#, Code::InvalidConfig, "type is missing"),
            (r#""ipam":"host-local""#, Code::Decode, "host-local"),
        ];
        for (keys, code, word) in cases {
            let e =
                add(&format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"flatnet",{keys}}}"#)).unwrap_err();
            assert_eq!(e.code, code, "{keys}: {e:?}");
            assert!(e.msg.contains(word), "{keys}: {}", e.msg);
        }
    }

    #[test]
    fn what_runtimes_leave_in_the_request_passes() {
        let conf = add(
            r#"{"cniVersion":"1.0.0","name":"n","type":"flatnet","capabilities":{"portMappings":true},
               "podman_args":["x"],"args":{"cni":{}},"ipam":{},"unknown":{"a":1},
               "runtimeConfig":{"portMappings":[],"IPS":["10.0.0.9/24"],"io.kubernetes.cri.pod-annotations":{}}}"#,
        )
        .unwrap();
        assert_eq!(conf.requested, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn versions_nobody_published_are_code_1() {
        let e = Base::read(br#"{"cniVersion":"9.9.9","name":"n"}"#).unwrap_err();
        assert_eq!(e.code, Code::IncompatibleVersion);
        assert!(e.msg.contains("9.9.9"));
    }
}
