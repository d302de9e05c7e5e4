//! Which node a pod goes to: the one that it names, or of those that its selector takes, that can be reached and whose
//! ports are free, the one with the fewest pods.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::{
    state::{NodeRecord, Root},
    supervisor,
};

/// A host port, as far as two of them may be at odds.
#[derive(PartialEq, Eq)]
struct HostPort<'a> {
    number: i32,
    protocol: &'a str,
    address: &'a str,
}

impl HostPort<'_> {
    fn is_at_odds_with(&self, other: &HostPort<'_>) -> bool {
        let any = |one: &HostPort<'_>| matches!(one.address, "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (any(self) || any(other) || self.address == other.address)
    }
}

/// The node for a new pod: `wanted` when its specification names none. The machine counts when there are no others.
pub(crate) fn choose(root: &Root, spec: &PodSpec, wanted: Option<&str>) -> Result<NodeRecord> {
    let selector = spec.node_selector.clone().unwrap_or_default();
    if let Some(name) = spec.node_name.as_deref().or(wanted) {
        let node = supervisor::node_of(root, name)?;
        if root.node(name).is_leaving() {
            bail!("node {name} is being deleted");
        }
        if !node.is_selected(&selector) {
            bail!(
                "node {name} does not match the pod's nodeSelector {selector:?}: it has {:?}",
                node.labels()
            );
        }
        return Ok(node);
    }
    // Those that are over take no room.
    let dirs = root.pods()?.into_iter().filter(|dir| !supervisor::is_over(dir).unwrap_or(false));
    let pods: Vec<Pod> = dirs.filter_map(|dir| dir.manifest().ok()).collect();
    let mut best: Option<(usize, NodeRecord)> = None;
    let mut reasons = vec![];
    let nodes = nodes(root)?;
    for node in &nodes {
        let here: Vec<&PodSpec> = pods.iter().filter_map(|pod| on(pod, node)).collect();
        if let Some(why) = misfit(root, node, spec, &here)? {
            reasons.push(why);
        } else if best.as_ref().is_none_or(|(fewest, _)| here.len() < *fewest) {
            best = Some((here.len(), node.clone()));
        }
    }
    let told = || format!("0/{} nodes are available: {}", nodes.len(), counted(&reasons));
    best.map(|(_, node)| node).with_context(told)
}

/// The nodes there are: simulated ones, or the machine.
pub(crate) fn nodes(root: &Root) -> Result<Vec<NodeRecord>> {
    let names = root.nodes()?;
    if names.is_empty() {
        return Ok(vec![NodeRecord::machine()?]);
    }
    names.iter().map(|name| root.node(name).record()).collect()
}

fn on<'a>(pod: &'a Pod, node: &NodeRecord) -> Option<&'a PodSpec> {
    pod.spec.as_ref().filter(|spec| spec.node_name.as_ref() == Some(&node.name))
}

/// Why a pod cannot go to a node, in the scheduler's words.
fn misfit(root: &Root, node: &NodeRecord, spec: &PodSpec, here: &[&PodSpec]) -> Result<Option<String>> {
    let selector = spec.node_selector.clone().unwrap_or_default();
    let dir = root.node(&node.name);
    Ok(if !node.is_selected(&selector) {
        Some(format!("node(s) didn't match the pod's nodeSelector {selector:?}"))
    } else if dir.is_leaving() {
        Some("node(s) were being deleted".to_owned())
    } else if dir.failure()?.is_some() {
        Some("node(s) were not reachable".to_owned())
    } else if host_ports(spec)
        .any(|own| here.iter().any(|other| host_ports(other).any(|port| own.is_at_odds_with(&port))))
    {
        Some("node(s) didn't have free ports for the requested pod ports".to_owned())
    } else {
        None
    })
}

fn host_ports(spec: &PodSpec) -> impl Iterator<Item = HostPort<'_>> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        Some(HostPort { number, protocol, address: port.host_ip.as_deref().unwrap_or_default() })
    })
}

/// `2 of this, 1 of that`.
fn counted(reasons: &[String]) -> String {
    let mut kinds = reasons.to_vec();
    kinds.sort();
    kinds.dedup();
    let count = |kind: &String| reasons.iter().filter(|one| *one == kind).count();
    kinds.iter().map(|kind| format!("{} {kind}", count(kind))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_at_odds_on_one_address_and_protocol() {
        let port = |number, protocol, address| HostPort { number, protocol, address };
        let own = port(80, "TCP", "192.0.2.1");
        assert!(own.is_at_odds_with(&port(80, "TCP", "192.0.2.1")));
        assert!(
            own.is_at_odds_with(&port(80, "TCP", "")) && port(80, "TCP", "0.0.0.0").is_at_odds_with(&own)
        );
        assert!(!own.is_at_odds_with(&port(80, "TCP", "192.0.2.2")));
        assert!(!own.is_at_odds_with(&port(80, "UDP", "")) && !own.is_at_odds_with(&port(81, "TCP", "")));
    }

    #[test]
    fn reasons_are_counted() {
        let reasons = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(counted(&reasons), "1 a, 2 b");
    }
}
