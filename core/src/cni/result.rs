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
        .map(|(dst, gateway)| json!({ "dst": dst.to_string(), "gw": gateway }))
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
    let interfaces = list("interfaces");
    let index = interfaces.iter().position(|i| {
        i.get("name").and_then(Value::as_str) == Some(ifname)
            && i.get("sandbox").and_then(Value::as_str).is_some_and(|s| !s.is_empty())
    });
    let Some(index) = index else { return Promise::default() };
    let mac = interfaces[index].get("mac").and_then(Value::as_str).map(str::to_lowercase);
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
