//! What a third-party IPAM plugin answers ADD with (CNI SPEC 1.1.0, section 5, "Delegated plugins"), in
//! the shape of any version.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::error::{CniError, Code};

/// Addresses, and what came with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// The pod's addresses. Their prefix lengths and gateways are not used: each is routed to the pod by
    /// itself, through a gateway of our own.
    pub addresses: Vec<IpAddr>,
    /// Destinations to route, without the default routes, which every pod has.
    pub routes: Vec<IpNetwork>,
    /// DNS settings, where there are any.
    pub dns: Option<Value>,
}

/// Reads the answer of the plugin `kind`.
///
/// # Errors
/// It is not the result of an IPAM plugin, or gives no address.
pub fn read(kind: &str, answer: &Value) -> Result<Given, CniError> {
    let wrong = |why: String| CniError::new(Code::Delegate, format!("ipam plugin {kind:?}: {why}"));
    if answer.get("interfaces").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
        return Err(wrong("its result has interfaces; an IPAM plugin makes none".to_owned()));
    }
    let mut given = Given::default();
    let mut take = |entry: &Value, key: &str| {
        let text = entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if entry.get("interface").is_some_and(|index| !index.is_null()) {
            return Err(wrong(format!("address {text:?} names an interface; an IPAM plugin has none")));
        }
        let ip: IpNetwork = text.parse().map_err(|e| wrong(format!("address {text:?}: {e}")))?;
        if given.addresses.contains(&ip.ip()) {
            return Err(wrong(format!("address {text:?} comes twice")));
        }
        given.addresses.push(ip.ip());
        Ok(())
    };
    for entry in list(answer, "ips") {
        take(entry, "address")?;
    }
    let old: Vec<&Value> = ["ip4", "ip6"].into_iter().filter_map(|key| answer.get(key)).collect();
    for entry in &old {
        take(entry, "ip")?;
    }
    if given.addresses.is_empty() {
        return Err(wrong("its result has no address".to_owned()));
    }
    for entry in list(answer, "routes").iter().chain(old.iter().flat_map(|e| list(e, "routes"))) {
        let text = entry.get("dst").and_then(Value::as_str).unwrap_or_default();
        let dst: IpNetwork = text.parse().map_err(|e| wrong(format!("route to {text:?}: {e}")))?;
        let dst = IpNetwork::new(dst.network(), dst.prefix()).unwrap_or(dst);
        if dst.prefix() != 0 && !given.routes.contains(&dst) {
            given.routes.push(dst);
        }
    }
    let dns = answer.get("dns").filter(|dns| dns.as_object().is_some_and(|o| !o.is_empty()));
    given.dns = dns.cloned();
    Ok(given)
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_of_every_version_are_read() {
        let now = json!({ "ips": [{ "address": "10.1.0.5/24", "gateway": "10.1.0.1" }, { "address": "fd00::5/64" }],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.9.0.0/16", "gw": "10.1.0.1" }],
            "dns": { "nameservers": ["10.1.0.1"] } });
        let old = json!({ "ip4": { "ip": "10.1.0.5/24", "routes": [{ "dst": "10.9.0.0/16" }] },
            "ip6": { "ip": "fd00::5/64" }, "dns": { "nameservers": ["10.1.0.1"] } });
        let given = read("x", &now).unwrap();
        assert_eq!(given, read("x", &old).unwrap());
        assert_eq!(given.addresses.len(), 2);
        assert_eq!(given.routes, ["10.9.0.0/16".parse().unwrap()]);
    }

    #[test]
    fn k8_what_is_no_ipam_result_is_refused_with_its_reason() {
        let cases = [
            (json!({}), "no address"),
            (
                json!({ "interfaces": [{ "name": "eth0" }], "ips": [{ "address": "10.1.0.5/24" }] }),
                "interfaces",
            ),
            (json!({ "ips": [{ "address": "10.1.0.5/24", "interface": 0 }] }), "10.1.0.5/24"),
            (json!({ "ips": [{ "address": "10.1.0.500/24" }] }), "10.1.0.500/24"),
            (json!({ "ips": [{ "address": "10.1.0.5/24" }, { "address": "10.1.0.5/32" }] }), "twice"),
            (json!({ "ips": [{ "address": "10.1.0.5/24" }], "routes": [{ "dst": "x" }] }), "\"x\""),
        ];
        for (answer, word) in cases {
            let e = read("x", &answer).unwrap_err();
            assert!(e.msg.contains(word), "{word}: {}", e.msg);
        }
    }
}
