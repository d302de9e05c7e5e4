//! Pods detached: CNI DEL succeeds, and nothing of the pods is left on their nodes.

use anyhow::{Context, Result};
use nix::net::if_::if_nameindex;

use super::node::SimNode;
use super::{
    cluster::Cluster,
    report::{Row, Section},
};

/// How the plugin's host ends of pods begin.
const HOST_END: &str = "fn";

pub(super) fn check(cluster: &Cluster) -> Result<Section> {
    let rows = cluster.nodes.iter().map(|node| row(cluster, node)).collect::<Result<_>>()?;
    Ok(Section::new("Pods detached: no link of theirs is left on their nodes", rows))
}

fn row(cluster: &Cluster, node: &SimNode) -> Result<Row> {
    let name = &node.place.name;
    let pods: Vec<_> = cluster.pods.iter().filter(|pod| pod.node == *name).collect();
    let before = links(node)?;
    let mut wrong: Vec<String> = Vec::new();
    for pod in &pods {
        if let Err(error) = cluster.detach(pod) {
            wrong.push(format!("{error:#}"));
        }
    }
    let after = links(node)?;
    let left: Vec<_> = after.iter().filter(|link| link.starts_with(HOST_END)).cloned().collect();
    if before.len() != after.len() + pods.len() || !left.is_empty() {
        wrong.push(format!("links before: {}; after: {}", before.join(" "), after.join(" ")));
    }
    Ok(Row {
        cells: vec![
            ("node", name.clone()),
            ("pods", pods.iter().map(|pod| pod.name).collect::<Vec<_>>().join(" ")),
            ("links before", before.join(" ")),
            ("links after", after.join(" ")),
        ],
        failure: (!wrong.is_empty()).then(|| format!("{name}: {}", wrong.join("; "))),
    })
}

fn links(node: &SimNode) -> Result<Vec<String>> {
    let list = || {
        let list = if_nameindex()?;
        Ok(list.iter().map(|link| link.name().to_string_lossy().into_owned()).collect())
    };
    let listed: nix::Result<Vec<String>> = node.place.ns.run(list)?;
    listed.with_context(|| format!("list the links of {}", node.place.name))
}
