//! Links, our own programs, and the networks of the nodes there are.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use netns_fixtures::{NetNs, try_kinds};
use serde_json::json;

use super::Finding;
use crate::{
    cni::{Attachment, Capabilities, Network},
    placement,
    programs::Programs,
    state::{NodeRecord, Root, write_json},
};

/// Everything about networks.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = vec![Finding::of("links", links(), "load the modules veth, bridge and vxlan")];
    match Programs::find(None) {
        Ok(programs) => {
            let there = format!("{} and {}", programs.flatnet.display(), programs.flatnetd.display());
            findings.push(Finding::ok("programs", there));
            findings.push(Finding::of(
                "flatnet",
                attach(&programs),
                "a kernel with nftables, NAT and `fib` (modules nft_nat, nft_masq, nft_fib_inet)",
            ));
        }
        Err(error) => {
            let hint = "without them there are no simulated nodes (flatpod up)";
            findings.push(Finding::missing("programs", format!("{error:#}"), hint));
        }
    }
    findings.extend(networks(root));
    findings
}

fn links() -> Result<String> {
    Ok(try_kinds()?.join(" "))
}

/// Attaches a pod with a host port, as `flatnet` does on a node, between two namespaces that nobody else has.
fn attach(programs: &Programs) -> Result<String> {
    let dir = tempfile::Builder::new().prefix("flatpod-doctor-").tempdir().context("make a directory")?;
    let (place, pod) = (NetNs::new()?, NetNs::new()?);
    let plugins = json!([{
        "type": "flatnet", "stateDir": dir.path().join("flatnet"), "subnets": ["10.22.0.0/24", "fd00:22::/64"],
        "clusterNetworks": ["10.22.0.0/16", "fd00:22::/48"], "masquerade": true,
        "capabilities": { "portMappings": true },
    }]);
    let node = NodeRecord {
        netns: Some(place.path()),
        cni_conf_dir: dir.path().to_owned(),
        cni_bin_dirs: programs.flatnet.parent().map(Path::to_owned).into_iter().collect(),
        cni_cache_dir: dir.path().join("cache"),
        ..NodeRecord::machine()?
    };
    let list = json!({ "cniVersion": "1.1.0", "name": "doctor", "plugins": plugins });
    write_json(&dir.path().join("doctor.conflist"), &list)?;
    let wishes: Pod = serde_json::from_value(json!({ "spec": { "containers": [{
        "name": "doctor", "ports": [{ "containerPort": 80, "hostPort": 8080 }],
    }] } }))
    .context("make a pod")?;
    let to = Attachment {
        container_id: "doctor".to_owned(),
        netns: pod.path(),
        namespace: "doctor".to_owned(),
        pod: "doctor".to_owned(),
        uid: "doctor".to_owned(),
    };
    let network = Network::of(&node);
    let added = network.add(&to, &Capabilities::of(&wishes, ""));
    let removed = network.del(&to.container_id);
    added.and(removed)?;
    Ok("attached and detached a pod, with NAT and a host port".to_owned())
}

/// The networks that the nodes have. A machine that has none is a node of no use, but simulated ones bring their own.
fn networks(root: &Path) -> Vec<Finding> {
    let nodes = match nodes(root) {
        Ok(nodes) => nodes,
        Err(error) => {
            return vec![Finding::missing(
                "nodes",
                format!("{error:#}"),
                "choose another directory with --root",
            )];
        }
    };
    let finding = |node: &NodeRecord| {
        let subject = format!("node {}", node.name);
        let found = Network::of(node).programs();
        let places: Vec<_> = node.cni_bin_dirs.iter().map(|dir| dir.display().to_string()).collect();
        match found {
            Err(error) if node.netns.is_none() && !has_files(&node.cni_conf_dir) => {
                Finding::note(subject, format!("{error:#}"), "or make simulated nodes: flatpod up")
            }
            found => {
                let remedy = format!(
                    "mend {}, install plugins in {}",
                    node.cni_conf_dir.display(),
                    places.join(" or ")
                );
                Finding::of(subject, found, &remedy)
            }
        }
    };
    nodes.iter().map(finding).collect()
}

/// Those below `root`, or the machine; nothing is made when there is no such directory yet.
fn nodes(root: &Path) -> Result<Vec<NodeRecord>> {
    if root.join("nodes").is_dir() {
        placement::nodes(&Root::open(root)?)
    } else {
        Ok(vec![NodeRecord::machine()?])
    }
}

fn has_files(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}
