//! A pod as Kubernetes shows it: what is wanted with what is, that it shall go, and what is not known of it because
//! its node cannot be reached.

use anyhow::Result;
use flatpod::{status::is_over, workload::node};
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::state::{PodDir, Root};

/// Adds to the manifest of a pod what is; `None` when it has gone meanwhile, and what was read of it may be half of
/// what was.
pub(crate) fn observed(root: &Root, dir: &PodDir, mut pod: Pod) -> Result<Option<Pod>> {
    pod.status = dir.status()?;
    if let Some(deletion) = dir.deletion()? {
        pod.metadata.deletion_timestamp = Some(Time(deletion.requested_at));
        pod.metadata.deletion_grace_period_seconds = i64::try_from(deletion.grace_seconds).ok();
    } else if let Some(since) = dir.eviction()? {
        pod.metadata.deletion_timestamp = Some(Time(since));
    }
    let node = node(&pod).to_owned();
    if root.node(&node).failure()?.is_some() && !pod.status.as_ref().is_some_and(is_over) {
        lose(pod.status.get_or_insert_default(), &node);
    }
    Ok(dir.path().exists().then_some(pod))
}

/// What its supervisor writes is not heard of.
fn lose(status: &mut PodStatus, node: &str) {
    status.phase = Some("Unknown".to_owned());
    status.message = Some(format!("Node {node} cannot be reached"));
    for condition in status.conditions.iter_mut().flatten() {
        if ["Ready", "ContainersReady"].contains(&condition.type_.as_str()) {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
        }
    }
    let inits = status.init_container_statuses.iter_mut().flatten();
    for container in inits.chain(status.container_statuses.iter_mut().flatten()) {
        container.ready = false;
    }
}
