//! The nodes: kubectl's columns as far as there is something to tell, and what is special here.

use anyhow::{Result, bail};
use flatpod::workload;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{GetArgs, format::Shown};
use crate::state::{NodeRecord, Root};

const COLUMNS: [&str; 5] = ["NAME", "STATUS", "INTERNAL-IP", "PODS", "CNI"];

pub(super) fn nodes(root: &Root, args: &GetArgs) -> Result<Shown> {
    let pods: Vec<Pod> = root.pods()?.iter().filter_map(|dir| dir.manifest().ok()).collect();
    let mut shown = Shown {
        resource: "node".to_owned(),
        rows: vec![COLUMNS.map(str::to_owned).to_vec()],
        objects: vec![],
    };
    let known = root.nodes()?;
    if let Some(unknown) = args.which.names.iter().find(|name| !known.contains(name)) {
        bail!("nodes {unknown:?} not found; there are: {}", known.join(", "));
    }
    for name in known.iter().filter(|name| args.which.names.is_empty() || args.which.names.contains(name)) {
        let dir = root.node(name);
        let node = dir.record()?;
        let count = pods.iter().filter(|pod| workload::node(pod) == name).count();
        let (reachable, leaving) = (dir.failure()?.is_none(), dir.is_leaving());
        let address = node.addresses.first().map_or("<none>".to_owned(), ToString::to_string);
        let state = if reachable { "Ready" } else { "NotReady" };
        let state = format!("{state}{}", if leaving { ",SchedulingDisabled" } else { "" });
        let conf = node.cni_conf_dir.display().to_string();
        shown.rows.push(vec![name.clone(), state, address, count.to_string(), conf]);
        shown.objects.push(object(&node, reachable, leaving));
    }
    Ok(shown)
}

/// In the shape of Kubernetes' Node.
fn object(node: &NodeRecord, reachable: bool, leaving: bool) -> Value {
    let internal = node.addresses.iter().map(|ip| json!({ "type": "InternalIP", "address": ip }));
    let name = json!({ "type": "Hostname", "address": node.name });
    let addresses: Vec<Value> = internal.chain([name]).collect();
    let labels: serde_json::Map<String, Value> =
        node.labels().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let ready = if reachable { "True" } else { "Unknown" };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": node.name, "labels": labels },
        "spec": { "unschedulable": leaving },
        "status": { "addresses": addresses, "conditions": [{ "type": "Ready", "status": ready }] },
    })
}
