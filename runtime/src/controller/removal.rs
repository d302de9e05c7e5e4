//! Workloads that go, and what they own: it goes first, or it is set free.

use anyhow::Result;
use flatpod::workload::{Workload, owner};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::Snapshot;
use crate::{
    state::{Cascade, Root},
    supervisor,
};

/// Takes a workload's removal a step further; answers whether anything was done.
pub(super) fn turn(root: &Root, seen: &Snapshot, (workload, cascade): (&Workload, Cascade)) -> Result<bool> {
    let is_own = |metadata: &ObjectMeta| owner(metadata).is_some_and(|owner| owner.uid == workload.uid());
    let pods: Vec<&Pod> = seen.pods.iter().filter(|pod| is_own(&pod.metadata)).collect();
    let below: Vec<&Workload> = seen.workloads.iter().filter(|one| is_own(&one.metadata)).collect();
    let store = root.workloads();
    if pods.is_empty() && below.is_empty() {
        let _nobody_else = store.lock()?;
        store.remove(workload)?;
        return Ok(true);
    }
    let mut acted = false;
    for pod in pods {
        acted |= match cascade {
            Cascade::Foreground => delete(root, seen, pod)?,
            Cascade::Orphan => set_free(seen, pod)?,
        };
    }
    for owned in below {
        let _nobody_else = store.lock()?;
        let Some(now) = store.get(owned.kind(), owned.namespace(), owned.name())? else { continue };
        match cascade {
            Cascade::Foreground if now.removal.is_none() => store.put_removal(owned, cascade)?,
            Cascade::Foreground => continue,
            Cascade::Orphan => {
                let mut free = now.workload;
                free.metadata.owner_references = None;
                store.put(&free)?;
            }
        }
        acted = true;
    }
    Ok(acted)
}

/// Deletes pods whose workload is not there any more; answers whether there were any.
pub(super) fn orphans(root: &Root, seen: &Snapshot) -> Result<bool> {
    let mut acted = false;
    for pod in &seen.pods {
        if owner(&pod.metadata).is_some_and(|owner| seen.workload(&owner.uid).is_none()) {
            acted |= delete(root, seen, pod)?;
        }
    }
    Ok(acted)
}

/// Deletes a pod, wherever it is; answers whether that is new.
fn delete(root: &Root, seen: &Snapshot, pod: &Pod) -> Result<bool> {
    let Some(dir) = seen.dir(pod) else { return Ok(false) };
    // One that waits for its node waits no longer.
    if dir.deletion()?.is_some() {
        return Ok(false);
    }
    supervisor::terminate(root, dir, pod, None)?;
    Ok(true)
}

fn set_free(seen: &Snapshot, pod: &Pod) -> Result<bool> {
    let Some(dir) = seen.dir(pod) else { return Ok(false) };
    if dir.manifest().is_err() {
        return Ok(false);
    }
    dir.change_manifest(|manifest| {
        manifest.metadata.owner_references = None;
        Ok(())
    })?;
    Ok(true)
}
