//! Single values of the configuration: read, checked, and named with their key when they cannot be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::conf::{ExtraRoute, overlap};
use super::error::{CniError, Code};
use crate::link::{Mac, OverlayMtu};

/// Keys of `runtimeConfig` match without regard to case, as Go's decoder does: containerd writes
/// `HostPort`, podman `hostPort`.
pub(super) fn lookup<'a>(map: Option<&'a Map<String, Value>>, key: &str) -> Option<&'a Value> {
    map?.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v).filter(|v| !v.is_null())
}

pub(super) fn object(stdin: &[u8]) -> Result<Map<String, Value>, CniError> {
    if stdin.iter().all(u8::is_ascii_whitespace) {
        return Err(CniError::new(Code::Decode, "stdin is empty: a network configuration is expected there"));
    }
    match serde_json::from_slice(stdin) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            Err(CniError::new(Code::Decode, format!("stdin is not a JSON object: {}", shortened(&other))))
        }
        Err(e) => Err(CniError::new(Code::Decode, format!("stdin is not JSON: {e}"))
            .with(shortened(&String::from_utf8_lossy(stdin)))),
    }
}

/// A value for an error message: whole where short, else its beginning.
pub(super) fn shortened(value: &impl ToString) -> String {
    const ENOUGH: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(ENOUGH) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

pub(super) fn mistyped(key: &str, value: &Value, expected: &str) -> CniError {
    CniError::new(Code::Decode, format!("{key} must be {expected}, not {}", shortened(value)))
}

pub(super) fn invalid(key: &str, value: impl ToString, why: impl ToString) -> CniError {
    CniError::new(Code::InvalidConfig, format!("{key} {}: {}", shortened(&value), why.to_string()))
}

pub(super) fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, CniError> {
    value.as_str().ok_or_else(|| mistyped(key, value, "a string"))
}

pub(super) fn array<'a>(key: &str, value: &'a Value) -> Result<&'a Vec<Value>, CniError> {
    value.as_array().ok_or_else(|| mistyped(key, value, "a list"))
}

pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(key: &str, value: &Value) -> Result<T, CniError> {
    text(key, value)?.parse().map_err(|e: T::Err| invalid(key, value, e))
}

/// Refuses keys of one of our objects that we do not know, with key and value.
pub(super) fn closed<'a>(
    key: &str,
    value: &'a Value,
    known: &[&str],
) -> Result<&'a Map<String, Value>, CniError> {
    let map = value.as_object().ok_or_else(|| mistyped(key, value, "an object"))?;
    match map.iter().find(|(k, _)| !known.contains(&k.as_str())) {
        None => Ok(map),
        Some((k, v)) => Err(CniError::new(
            Code::UnsupportedField,
            format!("{key}.{k} is not supported: {}", shortened(v)),
        )
        .with(format!("{key} takes {}", known.join(", ")))),
    }
}

pub(super) fn networks(key: &str, value: &Value) -> Result<Vec<IpNetwork>, CniError> {
    let all = array(key, value)?.iter().map(|v| network(key, v)).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Err(invalid(key, value, "at least one is needed"));
    }
    for (i, a) in all.iter().enumerate() {
        if let Some(b) = all[..i].iter().find(|b| overlap(a, b)) {
            return Err(invalid(key, a, format!("overlaps {b}")));
        }
    }
    Ok(all)
}

pub(super) fn network(key: &str, value: &Value) -> Result<IpNetwork, CniError> {
    let s = text(key, value)?;
    if !s.contains('/') {
        return Err(invalid(key, value, "a prefix length is missing (like /24)"));
    }
    let network: IpNetwork = s.parse().map_err(|e| invalid(key, value, e))?;
    if network.network() != network.ip() {
        let meant = format!("{}/{}", network.network(), network.prefix());
        return Err(invalid(key, value, format!("has host bits set; did you mean {meant}?")));
    }
    Ok(network)
}

pub(super) fn mtu(value: &Value) -> Result<OverlayMtu, CniError> {
    let bytes = value.as_u64().ok_or_else(|| mistyped("mtu", value, "a number"))?;
    OverlayMtu::new(u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(|e| invalid("mtu", value, e))
}

pub(super) fn routes(value: &Value) -> Result<Vec<ExtraRoute>, CniError> {
    array("routes", value)?
        .iter()
        .map(|entry| {
            let map = closed("routes[]", entry, &["dst"])?;
            let dst = map.get("dst").ok_or_else(|| invalid("routes[]", entry, "dst is missing"))?;
            Ok(ExtraRoute { dst: network("routes[].dst", dst)? })
        })
        .collect()
}

pub(super) fn sysctls(value: &Value) -> Result<BTreeMap<String, String>, CniError> {
    let map = value.as_object().ok_or_else(|| mistyped("sysctls", value, "an object"))?;
    map.iter()
        .map(|(k, v)| {
            let key = k.replace('.', "/");
            if !key.starts_with("net/") || key.split('/').any(|part| part.is_empty()) {
                return Err(invalid("sysctls", k, "only settings of the pod's network (net.*) can be set"));
            }
            let value = match v {
                Value::String(s) => s.clone(),
                Value::Number(n) => n.to_string(),
                other => return Err(mistyped(&format!("sysctls.{k}"), other, "a string")),
            };
            Ok((key, value))
        })
        .collect()
}

pub(super) fn dns(value: &Value) -> Result<Value, CniError> {
    closed("dns", value, &["nameservers", "domain", "search", "options"])
        .map(|map| Value::Object(map.clone()))
}

pub(super) fn mac(key: &str, value: &Value) -> Result<Mac, CniError> {
    parse::<Mac>(key, value)?.of_interface().map_err(|e| invalid(key, value, e))
}

/// Addresses come bare or with a prefix length; the pod's is always its own.
pub(super) fn requested(key: &str, value: &Value) -> Result<Vec<IpAddr>, CniError> {
    array(key, value)?
        .iter()
        .map(|v| {
            let s = text(key, v)?;
            let bare = s.split('/').next().unwrap_or(s);
            bare.parse().map_err(|e| invalid(key, v, e))
        })
        .collect()
}
