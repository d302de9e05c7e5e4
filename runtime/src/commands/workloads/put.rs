//! `apply` for workloads.

use std::time::Duration;

use anyhow::{Result, bail};
use flatpod::workload::{Spec, Workload};
use netns_fixtures::wait_until;

use super::rollout::RESTARTED_AT;
use crate::{admission, controller, state::Root};

/// For a workload of the same name to go that is being deleted: the grace of its pods, and then some.
const PREDECESSOR: Duration = Duration::from_secs(600);

/// Keeps a workload as the manifest says; answers what that changed.
pub(in crate::commands) fn put(root: &Root, wanted: &Workload) -> Result<&'static str> {
    let store = root.workloads();
    let current = || store.get(wanted.kind(), wanted.namespace(), wanted.name());
    loop {
        let nobody_else = store.lock()?;
        let Some(old) = current()? else {
            let mut fresh = wanted.clone();
            admission::register(&mut fresh)?;
            store.put(&fresh)?;
            controller::ensure(root)?;
            return Ok("created");
        };
        if old.removal.is_none() {
            let merged = merged(&old.workload, wanted)?;
            if merged == old.workload {
                return Ok("unchanged");
            }
            store.put(&merged)?;
            return Ok("configured");
        }
        drop(nobody_else);
        controller::ensure(root)?;
        let is_gone =
            || current().map(|now| now.is_none_or(|now| now.removal.is_none()).then_some(())).transpose();
        wait_until(&format!("the deleted {wanted} to be gone"), PREDECESSOR, is_gone)??;
    }
}

/// The old one with what the new one says. What a manifest leaves to others stays: how many replicas, and when it was
/// restarted.
fn merged(old: &Workload, wanted: &Workload) -> Result<Workload> {
    let mut new = wanted.clone();
    let metadata = &mut new.metadata;
    metadata.uid.clone_from(&old.metadata.uid);
    metadata.creation_timestamp.clone_from(&old.metadata.creation_timestamp);
    metadata.generation = old.metadata.generation;
    metadata.owner_references.clone_from(&old.metadata.owner_references);
    if let Some(replicas) = new.replicas_mut() {
        *replicas = replicas.or(old.replicas());
    }
    if let (Some(at), Some(template)) = (restarted_at(old), new.template_mut()) {
        let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.entry(RESTARTED_AT.to_owned()).or_insert(at);
    }
    if let Some(field) = immutable(&old.spec, &new.spec) {
        bail!("{new}: {field}: field is immutable; delete it first (--cascade=orphan keeps its pods)");
    }
    if new.spec != old.spec {
        new.metadata.generation = old.metadata.generation.map(|number| number + 1);
    }
    Ok(new)
}

fn restarted_at(workload: &Workload) -> Option<String> {
    workload.template()?.metadata.as_ref()?.annotations.as_ref()?.get(RESTARTED_AT).cloned()
}

/// The first field that differs but may not.
fn immutable(old: &Spec, new: &Spec) -> Option<&'static str> {
    let differs = |field, differs: bool| differs.then_some(field);
    match (old, new) {
        (Spec::Deployment(old), Spec::Deployment(new)) => {
            differs("spec.selector", old.selector != new.selector)
        }
        (Spec::ReplicaSet(old), Spec::ReplicaSet(new)) => {
            differs("spec.selector", old.selector != new.selector)
        }
        (Spec::DaemonSet(old), Spec::DaemonSet(new)) => {
            differs("spec.selector", old.selector != new.selector)
        }
        (Spec::StatefulSet(old), Spec::StatefulSet(new)) => {
            differs("spec.selector", old.selector != new.selector)
                .or_else(|| differs("spec.serviceName", old.service_name != new.service_name))
                .or_else(|| {
                    differs(
                        "spec.podManagementPolicy",
                        old.pod_management_policy != new.pod_management_policy,
                    )
                })
        }
        (Spec::Job(old), Spec::Job(new)) => differs("spec.template", old.template != new.template)
            .or_else(|| differs("spec.completions", old.completions != new.completions)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(spec: &serde_json::Value) -> Workload {
        let mut whole = json!({ "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } } });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        Workload::from_json(&json!({ "kind": "Deployment", "metadata": { "name": "web" }, "spec": whole }))
            .unwrap()
    }

    #[test]
    fn what_a_manifest_leaves_to_others_stays() {
        let mut old = deployment(&json!({ "replicas": 5 }));
        admission::register(&mut old).unwrap();
        assert_eq!(merged(&old, &deployment(&json!({}))).unwrap(), old);
        let annotations = old.template_mut().unwrap().metadata.get_or_insert_default();
        annotations.annotations = Some([(RESTARTED_AT.to_owned(), "now".to_owned())].into());
        assert_eq!(merged(&old, &deployment(&json!({}))).unwrap(), old);
        let three = merged(&old, &deployment(&json!({ "replicas": 3 }))).unwrap();
        assert_eq!((three.replicas(), three.metadata.generation, three.uid()), (Some(3), Some(2), old.uid()));
        assert_eq!(restarted_at(&three).as_deref(), Some("now"));
    }

    #[test]
    fn a_selector_does_not_change() {
        let old = deployment(&json!({}));
        let other = deployment(&json!({ "selector": { "matchLabels": { "app": "other" } } }));
        let error = merged(&old, &other).unwrap_err().to_string();
        assert!(error.starts_with("deployment.apps/web: spec.selector: field is immutable"), "{error}");
    }
}
