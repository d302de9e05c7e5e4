//! `runtimeConfig.portMappings` (CONVENTIONS, "Dynamic Plugin specific fields"), from whichever runtime.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value};

use super::error::{CniError, Code};
use super::value::{array, invalid, lookup, mistyped, shortened, text};
use crate::hostport::{HostAddress, HostPort, Protocol};

const KEY: &str = "runtimeConfig.portMappings";
const KNOWN: [&str; 4] = ["hostPort", "containerPort", "protocol", "hostIP"];

/// The mappings, each once. One without a host port asks for nothing.
///
/// # Errors
/// One that cannot be, with its value; two that send the same packet to different ports.
pub(super) fn read(value: &Value) -> Result<Vec<HostPort>, CniError> {
    let mut all: Vec<HostPort> = Vec::new();
    for entry in array(KEY, value)? {
        let Some(mapping) = one(entry)? else { continue };
        if let Some(other) = all.iter().find(|other| other.contradicts(&mapping)) {
            let why = format!("{other} leads to port {} of the pod already", other.container_port);
            return Err(invalid(KEY, entry, why));
        }
        if !all.contains(&mapping) {
            all.push(mapping);
        }
    }
    Ok(all)
}

fn one(entry: &Value) -> Result<Option<HostPort>, CniError> {
    let map = entry.as_object().ok_or_else(|| mistyped(KEY, entry, "a list of objects"))?;
    if let Some((key, value)) = map.iter().find(|(key, _)| !KNOWN.iter().any(|k| k.eq_ignore_ascii_case(key)))
    {
        let what = format!("{KEY}[].{key} is not supported: {}", shortened(value));
        return Err(
            CniError::new(Code::UnsupportedField, what).with(format!("known are {}", KNOWN.join(", ")))
        );
    }
    let host_port = port(map, "hostPort")?.unwrap_or(0);
    if host_port == 0 {
        return Ok(None);
    }
    let container_port = port(map, "containerPort")?.filter(|port| *port != 0);
    let container_port =
        container_port.ok_or_else(|| invalid(KEY, entry, "containerPort must be from 1 to 65535"))?;
    Ok(Some(HostPort {
        protocol: protocol(map)?,
        host_address: host_address(map)?,
        host_port,
        container_port,
    }))
}

/// Answers to the IPv6 loopback address find no way back: IPv6 has no `route_localnet`.
fn host_address(map: &Map<String, Value>) -> Result<HostAddress, CniError> {
    let Some(value) = lookup(Some(map), "hostIP") else { return Ok(HostAddress::Any) };
    let key = format!("{KEY}[].hostIP");
    match text(&key, value)?.parse().map_err(|e| invalid(&key, value, e))? {
        HostAddress::One(IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
            Err(CniError::new(Code::UnsupportedField, format!("{key} is not supported: {value}"))
                .with("the kernel leads nothing from ::1 to a pod; 127.0.0.1 works"))
        }
        address => Ok(address),
    }
}

fn port(map: &Map<String, Value>, key: &str) -> Result<Option<u16>, CniError> {
    let Some(value) = lookup(Some(map), key) else { return Ok(None) };
    let key = format!("{KEY}[].{key}");
    if !value.is_i64() && !value.is_u64() {
        return Err(mistyped(&key, value, "a number"));
    }
    let port = value.as_u64().and_then(|number| u16::try_from(number).ok());
    port.map(Some).ok_or_else(|| invalid(&key, value, "a port is from 1 to 65535"))
}

fn protocol(map: &Map<String, Value>) -> Result<Protocol, CniError> {
    let Some(value) = lookup(Some(map), "protocol") else { return Ok(Protocol::Tcp) };
    let key = format!("{KEY}[].protocol");
    match text(&key, value)?.to_ascii_lowercase().as_str() {
        "tcp" | "" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(invalid(&key, value, "is none of tcp, udp, sctp")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_runtimes_write_is_read_the_same() {
        let containerd = json!([{ "HostPort": 18080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" },
            { "HostPort": 18053, "ContainerPort": 53, "Protocol": "UDP", "HostIP": "127.0.0.1" }]);
        let podman = json!([{ "hostPort": 18080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 18053, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1" }]);
        let read = |value| super::read(value).unwrap();
        assert_eq!(read(&containerd), read(&podman));
        assert_eq!(read(&podman)[1].host_address, HostAddress::One("127.0.0.1".parse().unwrap()));
        let nothing = json!([{ "hostPort": 0, "containerPort": 80 }, { "containerPort": 81 }, {}]);
        assert_eq!(read(&nothing), []);
        let canonical = json!([{ "hostPort": 1, "containerPort": 1, "hostIP": "::ffff:192.0.2.1" }]);
        assert_eq!(read(&canonical)[0].host_address, HostAddress::One("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_named_with_their_value() {
        let cases = [
            (json!([{ "hostPort": 65536, "containerPort": 80 }]), Code::InvalidConfig, "65536"),
            (json!([{ "hostPort": -1, "containerPort": 80 }]), Code::InvalidConfig, "-1"),
            (json!([{ "hostPort": "80", "containerPort": 80 }]), Code::Decode, "\"80\""),
            (json!([{ "hostPort": 8.5, "containerPort": 80 }]), Code::Decode, "8.5"),
            (json!([{ "hostPort": 80 }]), Code::InvalidConfig, "containerPort"),
            (json!([{ "hostPort": 80, "containerPort": 0 }]), Code::InvalidConfig, "containerPort"),
            (json!([{ "hostPort": 8, "containerPort": 8, "protocol": "dccp" }]), Code::InvalidConfig, "dccp"),
            (json!([{ "hostPort": 8, "containerPort": 8, "hostIP": "x" }]), Code::InvalidConfig, "\"x\""),
            (json!([{ "hostPort": 8, "containerPort": 8, "hostIP": "::1" }]), Code::UnsupportedField, "::1"),
            (json!([{ "hostPort": 8, "containerPort": 8, "range": 3 }]), Code::UnsupportedField, "range"),
            (json!({ "hostPort": 8 }), Code::Decode, "a list"),
            (json!(["80:80"]), Code::Decode, "80:80"),
        ];
        for (value, code, word) in cases {
            let e = read(&value).unwrap_err();
            assert_eq!(e.code, code, "{value}: {e:?}");
            assert!(e.msg.contains(word), "{value}: {}", e.msg);
        }
    }

    #[test]
    fn the_same_twice_is_once_and_two_ways_for_one_packet_are_refused() {
        let mapping = |host_ip: &str, to: u16, protocol: &str| json!({ "hostPort": 80, "containerPort": to, "hostIP": host_ip, "protocol": protocol });
        let both = |a: Value, b: Value| read(&json!([a, b]));
        assert_eq!(both(mapping("", 80, "tcp"), mapping("", 80, "tcp")).unwrap().len(), 1);
        for (a, b) in
            [("", ""), ("", "192.0.2.1"), ("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1"), ("", "::")]
        {
            let e = both(mapping(a, 80, "tcp"), mapping(b, 81, "tcp")).unwrap_err();
            assert!(e.code == Code::InvalidConfig && e.msg.contains("port 80"), "{a} {b}: {e:?}");
            assert_eq!(both(mapping(a, 80, "tcp"), mapping(b, 81, "udp")).unwrap().len(), 2);
        }
        for (a, b) in [("0.0.0.0", "::"), ("192.0.2.1", "192.0.2.2"), ("0.0.0.0", "2001:db8::1")] {
            assert_eq!(both(mapping(a, 80, "tcp"), mapping(b, 81, "tcp")).unwrap().len(), 2, "{a} {b}");
        }
    }
}
