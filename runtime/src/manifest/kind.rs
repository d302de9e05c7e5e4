//! Which kinds of objects flatpod reads, and what it does with them.

use super::{
    rules::metadata::Name,
    schema::{self, Object},
};

/// What an object is, as its `kind` and `apiVersion` say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A pod.
    Pod,
    /// Data for volumes and environments.
    ConfigMap,
    /// The same, not to be shown.
    Secret,
    /// Makes pods from a template.
    Workload(&'static Workload),
    /// Several objects.
    List,
}

/// A kind that makes pods from a template.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) kind: &'static str,
    pub(super) version: &'static str,
    pub(super) schema: &'static Object,
    /// What its name must be.
    pub(super) name: Name,
    /// The restart policies that its template may have.
    pub(super) restart: &'static [&'static str],
}

/// The workloads.
pub(super) static WORKLOADS: [Workload; 6] = [
    Workload {
        kind: "ReplicaSet",
        version: "apps/v1",
        schema: &schema::REPLICA_SET,
        name: Name::Subdomain,
        restart: &["Always"],
    },
    Workload {
        kind: "ReplicationController",
        version: "v1",
        schema: &schema::REPLICATION_CONTROLLER,
        name: Name::Subdomain,
        restart: &["Always"],
    },
    Workload {
        kind: "Deployment",
        version: "apps/v1",
        schema: &schema::DEPLOYMENT,
        name: Name::Subdomain,
        restart: &["Always"],
    },
    Workload {
        kind: "StatefulSet",
        version: "apps/v1",
        schema: &schema::STATEFUL_SET,
        name: Name::Label,
        restart: &["Always"],
    },
    Workload {
        kind: "DaemonSet",
        version: "apps/v1",
        schema: &schema::DAEMON_SET,
        name: Name::Subdomain,
        restart: &["Always"],
    },
    Workload {
        kind: "Job",
        version: "batch/v1",
        schema: &schema::JOB,
        name: Name::Subdomain,
        restart: &["OnFailure", "Never"],
    },
];

/// Kinds of Kubernetes that flatpod does not have, and why.
const REFUSED: [(&str, &str); 16] = [
    ("Service", "there are no virtual addresses and no cluster DNS here; reach pods by their own addresses"),
    ("Ingress", "there is no HTTP router here; use a hostPort"),
    ("NetworkPolicy", "the pod network is flat: nothing between pods is filtered"),
    ("PodPreset", "Kubernetes removed it in 1.20; write what it injected into the pod"),
    ("PodDisruptionBudget", "pods are never evicted here"),
    ("PodSecurityPolicy", "Kubernetes removed it in 1.25; set securityContext in the pod"),
    ("PodTemplate", "a template alone runs nothing; write a pod or a workload"),
    ("CronJob", "nothing starts by the clock here; write a Job"),
    ("HorizontalPodAutoscaler", "nothing is scaled by load here; set replicas"),
    (
        "PersistentVolumeClaim",
        "there are no claims here; use a hostPath volume for data that outlives the pod",
    ),
    ("PersistentVolume", "there are no claims here; use a hostPath volume for data that outlives the pod"),
    ("StorageClass", "there are no claims here; use a hostPath volume for data that outlives the pod"),
    ("Namespace", "a namespace needs no object here: it is there as soon as a pod names it; leave it out"),
    ("ServiceAccount", "there is no API server here to authenticate to; leave it out"),
    ("Node", "nodes are not made by manifests; see flatpod node"),
    ("PriorityClass", "pods are never preempted here; leave it out"),
];

/// The kind of an object.
///
/// # Errors
///
/// A sentence about a kind or version that flatpod does not read.
pub(super) fn find(version: &str, kind: &str) -> Result<Kind, String> {
    if let Some((found, expected)) = known(kind) {
        if version == expected {
            return Ok(found);
        }
        return Err(format!("{kind} is read in apiVersion {expected}, not {version:?}"));
    }
    if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == kind) {
        return Err(format!("{kind} is not supported: {why}"));
    }
    if let Some(spelled) = names().find(|name| name.eq_ignore_ascii_case(kind)) {
        return Err(format!("no kind {kind:?}; did you mean {spelled}?"));
    }
    let names: Vec<&str> = names().collect();
    Err(format!("{kind:?} ({version}) is not supported: flatpod reads {}", names.join(", ")))
}

fn known(kind: &str) -> Option<(Kind, &'static str)> {
    match kind {
        "Pod" => return Some((Kind::Pod, "v1")),
        "ConfigMap" => return Some((Kind::ConfigMap, "v1")),
        "Secret" => return Some((Kind::Secret, "v1")),
        "List" => return Some((Kind::List, "v1")),
        _ => {}
    }
    if let Some(workload) = WORKLOADS.iter().find(|workload| workload.kind == kind) {
        return Some((Kind::Workload(workload), workload.version));
    }
    // PodList, DeploymentList: what an API server answers.
    let (_, version) = known(kind.strip_suffix("List")?)?;
    Some((Kind::List, version))
}

fn names() -> impl Iterator<Item = &'static str> {
    ["Pod", "ConfigMap", "Secret", "List"].into_iter().chain(WORKLOADS.iter().map(|workload| workload.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_in_their_version_only() {
        assert!(matches!(find("v1", "Pod"), Ok(Kind::Pod)));
        assert!(matches!(find("apps/v1", "Deployment"), Ok(Kind::Workload(_))));
        assert!(matches!(find("v1", "PodList"), Ok(Kind::List)));
        assert!(matches!(find("apps/v1", "DeploymentList"), Ok(Kind::List)));
        let old = find("extensions/v1beta1", "Deployment").unwrap_err();
        assert_eq!(old, "Deployment is read in apiVersion apps/v1, not \"extensions/v1beta1\"");
        assert_eq!(find("v1", "pod").unwrap_err(), "no kind \"pod\"; did you mean Pod?");
        assert!(find("settings.k8s.io/v1alpha1", "PodPreset").unwrap_err().contains("removed"));
        assert!(find("v1", "Frobnicator").unwrap_err().contains("flatpod reads Pod, ConfigMap"));
    }
}
