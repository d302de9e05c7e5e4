//! The result of ADD, in the shape of the asked version.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::version::Version;
use crate::attach::gateway_of;
use crate::node::Attachment;

/// Renders what ADD made.
#[must_use]
pub fn render(version: Version, attachment: &Attachment, extra: &[IpNetwork], dns: Option<&Value>) -> Value {
    let dns = dns.cloned().unwrap_or_else(|| json!({}));
    if version < Version::V0_3_0 {
        return render_old(version, attachment, extra, &dns);
    }
    let mut host = json!({ "name": attachment.host_ifname, "mac": attachment.host_mac });
    let mut pod = json!({
        "name": attachment.ifname,
        "mac": attachment.mac,
        "sandbox": attachment.netns,
    });
    if version >= Version::V1_1_0 {
        host["mtu"] = json!(attachment.mtu);
        pod["mtu"] = json!(attachment.mtu);
    }
    let interfaces = [host, pod];
    let pod_index = interfaces.iter().position(|i| i.get("sandbox").is_some());
    let ips: Vec<Value> = attachment
        .addresses
        .iter()
        .map(|ip| {
            let mut entry = json!({
                "address": IpNetwork::from(*ip).to_string(),
                "gateway": gateway_of(*ip),
                "interface": pod_index,
            });
            if version < Version::V1_0_0 {
                entry["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
            }
            entry
        })
        .collect();
    let routes: Vec<Value> = crate::attach::pod_destinations(attachment, extra)
        .into_iter()
        .map(|(dst, gateway)| {
            let mut entry = json!({ "dst": dst.to_string(), "gw": gateway });
            if let Some(metric) = attachment.metric.filter(|_| version >= Version::V1_1_0) {
                entry["priority"] = json!(metric);
            }
            entry
        })
        .collect();
    json!({
        "cniVersion": version.as_str(),
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        "dns": dns,
    })
}

/// Before 0.3.0 a result is one address per family and nothing about interfaces.
fn render_old(version: Version, attachment: &Attachment, extra: &[IpNetwork], dns: &Value) -> Value {
    let mut result = json!({ "cniVersion": version.as_str(), "dns": dns });
    for ip in &attachment.addresses {
        let key = if ip.is_ipv4() { "ip4" } else { "ip6" };
        if result.get(key).is_some() {
            continue;
        }
        let routes: Vec<Value> = crate::attach::pod_destinations(attachment, extra)
            .into_iter()
            .filter(|(dst, _)| dst.is_ipv4() == ip.is_ipv4())
            .map(|(dst, gateway)| json!({ "dst": dst.to_string(), "gw": gateway }))
            .collect();
        result[key] = json!({
            "ip": IpNetwork::from(*ip).to_string(),
            "gateway": gateway_of(*ip),
            "routes": routes,
        });
    }
    result
}

/// Renders what the loopback plugin found on `lo` (no gateways, no routes).
#[must_use]
pub fn loopback(version: Version, sandbox: &str, addresses: &[IpNetwork]) -> Value {
    let mut result = json!({ "cniVersion": version.as_str(), "dns": {} });
    if version < Version::V0_3_0 {
        for ip in addresses {
            result[if ip.is_ipv4() { "ip4" } else { "ip6" }] = json!({ "ip": ip.to_string() });
        }
        return result;
    }
    let ips = addresses.iter().map(|ip| {
        let mut entry = json!({ "address": ip.to_string(), "interface": 0 });
        if version < Version::V1_0_0 {
            entry["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
        }
        entry
    });
    result["ips"] = ips.collect();
    result["interfaces"] = json!([{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": sandbox }]);
    result
}

/// Adds what we made to the result of a chain so far: nothing that is in it is lost, and indexes keep
/// pointing at their interfaces (SPEC, section 2, ADD: "prevResult").
#[must_use]
pub fn append(before: &Value, ours: Value) -> Value {
    let length = |key: &str| before.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let shift = length("interfaces");
    let mut all = before.clone();
    for key in ["interfaces", "ips", "routes"] {
        let mut entries = ours.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        for entry in &mut entries {
            if let Some(index) = entry.get("interface").and_then(Value::as_u64) {
                entry["interface"] = json!(index + shift as u64);
            }
        }
        match all.get_mut(key).and_then(Value::as_array_mut) {
            Some(list) => list.extend(entries),
            None => all[key] = Value::Array(entries),
        }
    }
    if all.get("dns").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        all["dns"] = ours["dns"].clone();
    }
    all
}

/// Whether a result has the pod's interface `ifname`.
#[must_use]
pub fn has_pod_interface(result: &Value, ifname: &str) -> bool {
    pod_interface(result, ifname).is_some()
}

/// The index and the entry of the pod's interface `ifname`, whatever else is in the list.
fn pod_interface<'a>(result: &'a Value, ifname: &str) -> Option<(usize, &'a Value)> {
    result.get("interfaces")?.as_array()?.iter().enumerate().find(|(_, i)| {
        i.get("name").and_then(Value::as_str) == Some(ifname)
            && i.get("sandbox").and_then(Value::as_str).is_some_and(|s| !s.is_empty())
    })
}

/// What a `prevResult` says about the pod's interface, for CHECK.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promise {
    /// The MAC it names.
    pub mac: Option<String>,
    /// The addresses it names for the interface.
    pub addresses: Vec<IpNetwork>,
}

/// Reads the interface `ifname` out of a `prevResult`, whatever others added to it.
#[must_use]
pub fn promise(prev_result: &Value, ifname: &str) -> Promise {
    let empty = Vec::new();
    let list = |key: &str| prev_result.get(key).and_then(Value::as_array).unwrap_or(&empty).clone();
    let Some((index, interface)) = pod_interface(prev_result, ifname) else { return Promise::default() };
    let mac = interface.get("mac").and_then(Value::as_str).map(str::to_lowercase);
    let addresses = list("ips")
        .iter()
        .filter(|ip| ip.get("interface").and_then(Value::as_u64) == Some(index as u64))
        .filter_map(|ip| ip.get("address")?.as_str()?.parse().ok())
        .collect();
    Promise { mac, addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        crate::attach::tests::attachment(&["10.22.0.5", "fd00:22::5"])
    }

    /// One golden result per published version: runtimes decode exactly these shapes.
    #[test]
    fn every_version_has_its_own_shape() {
        let golden = include_str!("../../tests/golden/results.json");
        let all: Vec<Value> = Version::ALL
            .iter()
            .map(|v| render(*v, &attachment(), &["10.0.0.0/8".parse().unwrap()], None))
            .collect();
        let now = serde_json::to_string_pretty(&all).unwrap() + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/results.json"), &now).unwrap();
            return;
        }
        assert_eq!(now, golden, "run with BLESS=1 if the change is meant");
    }

    #[test]
    fn k2_nothing_of_the_chain_so_far_is_lost() {
        let before = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "x0" }, { "name": "x1" }],
            "ips": [{ "address": "10.9.0.1/24", "interface": 1 }], "dns": { "domain": "x" }, "own": 1 });
        let all = append(&before, render(Version::V1_0_0, &attachment(), &[], None));
        assert_eq!((&all["interfaces"][1], &all["ips"][0]), (&before["interfaces"][1], &before["ips"][0]));
        assert_eq!((&all["dns"], &all["own"]), (&before["dns"], &before["own"]));
        assert_eq!(all["interfaces"].as_array().unwrap().len(), 4);
        assert_eq!(promise(&all, "eth0").addresses.len(), 2, "indexes point at our interface");
        assert!(has_pod_interface(&all, "eth0") && !has_pod_interface(&all, "x0"));
    }

    #[test]
    fn a_promise_survives_what_later_plugins_add() {
        let mut result = render(Version::V1_1_0, &attachment(), &[], None);
        result["interfaces"].as_array_mut().unwrap().insert(0, json!({ "name": "eth0", "mac": "x" }));
        for ip in result["ips"].as_array_mut().unwrap() {
            ip["interface"] = json!(2);
        }
        let promise = promise(&result, "eth0");
        assert_eq!(promise.mac, Some(attachment().mac.to_string()));
        assert_eq!(promise.addresses.len(), 2);
    }
}
