//! Nodes that cannot be reached: after a while, the pods of workloads are counted as lost, so that others take their
//! place elsewhere; when the node is back, the lost ones go. Pods of daemon sets stay with their nodes, and bare pods
//! are nobody's concern.

use anyhow::Result;
use flatpod::workload::{self, Kind, is_active, owner};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::Snapshot;
use crate::{
    state::{PodDir, Root},
    supervisor::{self, Events},
};

/// For how many seconds the pods of a failed node are waited for, unless it says otherwise. Kubernetes waits 300.
const GRACE: u64 = 5;

/// Looks at all pods of workloads; answers whether anything was done.
pub(super) fn turn(root: &Root, seen: &Snapshot) -> Result<bool> {
    let mut acted = false;
    for pod in &seen.pods {
        let Some(dir) = seen.dir(pod) else { continue };
        let node = workload::node(pod);
        match root.node(node).failure()? {
            Some(since) if is_active(pod) && is_replaced(seen, pod) => {
                acted |= evict(root, (dir, pod), (node, since))?;
            }
            None if dir.eviction()?.is_some() && dir.deletion()?.is_none() => {
                supervisor::terminate(root, dir, pod, None)?;
                acted = true;
            }
            _ => {}
        }
    }
    Ok(acted)
}

fn is_replaced(seen: &Snapshot, pod: &Pod) -> bool {
    let owner = owner(&pod.metadata).and_then(|owner| seen.workload(&owner.uid));
    owner.is_some_and(|owner| owner.kind() != Kind::DaemonSet)
}

fn evict(root: &Root, (dir, pod): (&PodDir, &Pod), (node, since): (&str, Timestamp)) -> Result<bool> {
    let grace = root.node(node).record()?.grace.unwrap_or(GRACE);
    let now = Timestamp::now();
    if now.duration_since(since) < SignedDuration::from_secs(i64::try_from(grace)?) {
        return Ok(false);
    }
    dir.put_eviction(now)?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let message = format!(
        "Marking for deletion Pod {namespace}/{name}: node {node} has not been reachable for {grace}s (--node-grace)"
    );
    Events::new(dir).warning("TaintManagerEviction", &message);
    Ok(true)
}
