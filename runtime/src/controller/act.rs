//! Doing what was decided.

use anyhow::{Context, Result, bail};
use flatpod::workload::{Action, Workload, node, owner, reference};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Controller;
use crate::{
    admission::{self, admit},
    state::Root,
    supervisor::{self, Events},
};

impl Controller {
    /// Does it for a workload; answers whether anything was done. The first thing that cannot be done is told, and
    /// tried again in the next turn.
    pub(super) fn act(&mut self, workload: &Workload, actions: Vec<Action>) -> bool {
        let events = Events::at(self.root.workloads().events_file(workload));
        let mut acted = false;
        for action in actions {
            match act(&self.root, workload, action) {
                Ok(Some((reason, message))) => {
                    acted = true;
                    events.normal(reason, &message);
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("{error:#}");
                    if self.told.get(workload.uid()) != Some(&message) {
                        events.warning("FailedCreate", &message);
                        self.told.insert(workload.uid().to_owned(), message);
                    }
                    return acted;
                }
            }
        }
        self.told.remove(workload.uid());
        acted
    }
}

/// A reason and a message.
type Told = (&'static str, String);

/// Does it; answers what to tell, if it was not in vain because the pod has gone by itself.
fn act(root: &Root, workload: &Workload, action: Action) -> Result<Option<Told>> {
    Ok(Some(match action {
        Action::Create(pod) => {
            let names = root.lock_names()?;
            let dir = admit(root, *pod, None, &names).context("create a pod")?;
            drop(names);
            supervisor::ensure(root, &dir)?;
            let Ok(pod) = dir.manifest() else { return Ok(None) };
            ("SuccessfulCreate", format!("Created pod: {}", name(&pod)))
        }
        Action::Delete(uid) => {
            let dir = root.pod(&uid);
            let Ok(pod) = dir.manifest() else { return Ok(None) };
            if root.node(node(&pod)).failure()?.is_some() {
                // Its node does not hear of it before it can be reached.
                dir.put_eviction(Timestamp::now())?;
            } else {
                supervisor::terminate(root, &dir, &pod, None)?;
            }
            ("SuccessfulDelete", format!("Deleted pod: {}", name(&pod)))
        }
        Action::Adopt(uid) => {
            let dir = root.pod(&uid);
            if dir.manifest().is_err() {
                return Ok(None);
            }
            let mut adopted = false;
            let pod = dir.change_manifest(|pod| {
                adopted = owner(&pod.metadata).is_none();
                if adopted {
                    pod.metadata.owner_references.get_or_insert_default().push(reference(workload));
                }
                Ok(())
            });
            let pod = pod.context("adopt a pod")?;
            if !adopted {
                return Ok(None);
            }
            ("SuccessfulAdopt", format!("Adopted pod: {}", name(&pod)))
        }
        Action::Keep(owned) => keep(root, *owned)?,
        Action::Drop(uid) => {
            let store = root.workloads();
            let _nobody_else = store.lock()?;
            let found = store.all()?.into_iter().find(|one| one.workload.uid() == uid);
            let found = found.with_context(|| format!("workload {uid} is gone"))?;
            store.remove(&found.workload)?;
            ("SuccessfulDelete", format!("Deleted replica set: {}", found.workload.name()))
        }
    }))
}

/// Keeps a workload that another one owns.
fn keep(root: &Root, mut owned: Workload) -> Result<Told> {
    let store = root.workloads();
    let _nobody_else = store.lock()?;
    let old = store.get(owned.kind(), owned.namespace(), owned.name())?;
    match old {
        None if !owned.uid().is_empty() => bail!("{owned} is gone"),
        None => admission::register(&mut owned)?,
        Some(old) if old.workload.uid() != owned.uid() => {
            bail!("{owned} exists already and is another one's")
        }
        Some(old) if old.workload.spec != owned.spec => {
            owned.metadata.generation = old.workload.metadata.generation.map(|number| number + 1);
        }
        Some(_) => {}
    }
    store.put(&owned)?;
    let size = owned.replicas().unwrap_or(1);
    Ok(("ScalingReplicaSet", format!("Scaled replica set {} to {size}", owned.name())))
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}
