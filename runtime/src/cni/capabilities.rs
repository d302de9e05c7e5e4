//! What a pod asks of its network beyond an interface: each plugin is told those that it declares.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

/// A burst without limit, as other runtimes ask for it (2^32 - 1 bits).
const BURST: u32 = u32::MAX;

/// The values, by the name of the capability.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Capabilities(pub(super) Map<String, Value>);

impl Capabilities {
    /// What `pod` asks for.
    pub(crate) fn of(pod: &Pod, cgroup: &str) -> Self {
        let mut all = Map::new();
        let mut put =
            |name: &str, value: Option<Value>| value.map(|value| all.insert(name.to_owned(), value));
        let ports = port_mappings(pod);
        put("portMappings", (!ports.is_empty()).then(|| json!(ports)));
        put("bandwidth", bandwidth(pod));
        put("dns", dns(pod));
        put("cgroupPath", Some(json!(cgroup)));
        let annotations = pod.metadata.annotations.clone().filter(|all| !all.is_empty());
        put("io.kubernetes.cri.pod-annotations", annotations.map(|all| json!(all)));
        Self(all)
    }

    /// Whether the pod has host ports, which are worth nothing on a network that does not know them.
    pub(super) fn has_ports(&self) -> bool {
        self.0.contains_key("portMappings")
    }

    /// Those that `plugin` declares.
    pub(super) fn for_plugin(&self, plugin: &Map<String, Value>) -> Map<String, Value> {
        let declared = plugin.get("capabilities").and_then(Value::as_object);
        let wanted = |name: &String| declared.is_some_and(|all| all.get(name) == Some(&json!(true)));
        self.0.iter().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

fn port_mappings(pod: &Pod) -> Vec<Value> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let wanted =
        ports.filter_map(|port| port.host_port.filter(|number| *number > 0).map(|host| (port, host)));
    let mapping = wanted.map(|(port, host)| {
        json!({
            "hostPort": host,
            "containerPort": port.container_port,
            "protocol": port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
            "hostIP": port.host_ip.clone().unwrap_or_default(),
        })
    });
    mapping.collect()
}

fn bandwidth(pod: &Pod) -> Option<Value> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let mut limits = Map::new();
    for (direction, annotation) in [("ingress", "ingress-bandwidth"), ("egress", "egress-bandwidth")] {
        let rate = annotations.get(&format!("kubernetes.io/{annotation}"));
        if let Some(bits) = rate.and_then(|text| crate::container::quantity(text)) {
            limits.insert(format!("{direction}Rate"), json!(bits));
            limits.insert(format!("{direction}Burst"), json!(BURST));
        }
    }
    (!limits.is_empty()).then_some(Value::Object(limits))
}

fn dns(pod: &Pod) -> Option<Value> {
    let dns = pod.spec.as_ref()?.dns_config.as_ref()?;
    let option = |one: &k8s_openapi::api::core::v1::PodDNSConfigOption| {
        let name = one.name.clone().unwrap_or_default();
        one.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}"))
    };
    let options: Vec<_> = dns.options.iter().flatten().map(option).collect();
    Some(json!({ "servers": dns.nameservers, "searches": dns.searches, "options": options }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_only_what_it_declares() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "annotations": { "kubernetes.io/ingress-bandwidth": "10M" } },
            "spec": { "containers": [{ "name": "c", "ports": [
                { "containerPort": 80, "hostPort": 8080 }, { "containerPort": 81 },
                { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1" } ] }] },
        }))
        .unwrap();
        let all = Capabilities::of(&pod, "/pods/p");
        let plugin =
            json!({ "type": "x", "capabilities": { "portMappings": true, "bandwidth": true, "dns": false } });
        let told = all.for_plugin(plugin.as_object().unwrap());
        assert_eq!(
            Value::Object(told),
            json!({
                "portMappings": [
                    { "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" },
                    { "hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1" },
                ],
                "bandwidth": { "ingressRate": 10_000_000, "ingressBurst": u32::MAX },
            })
        );
        assert!(all.for_plugin(json!({ "type": "y" }).as_object().unwrap()).is_empty());
    }
}
