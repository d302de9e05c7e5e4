//! Workloads and pods for tests.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use serde_json::{Value as Json, json};

use super::{Action, Decision, Facts, Node, Workload};

/// When everything in the tests was made and became ready.
pub(super) const START: Timestamp = Timestamp::UNIX_EPOCH;
pub(super) const SELECTOR: &str = "selector: {matchLabels: {app: web}}";
pub(super) const TEMPLATE: &str =
    "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}";

/// A workload of unique id `uid-NAME`.
pub(super) fn workload(kind: &str, name: &str, spec: &str) -> Workload {
    let spec: Json = serde_saphyr::from_str(spec).unwrap();
    let metadata = json!({ "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
        "creationTimestamp": Time(START) });
    Workload::from_json(&json!({ "kind": kind, "metadata": metadata, "spec": spec })).unwrap()
}

pub(super) fn facts(workload: &Workload) -> Facts<'_> {
    let longest_wait = Duration::from_secs(600);
    Facts { workload, status: &Json::Null, pods: &[], workloads: &[], nodes: &[], now: START, longest_wait }
}

/// A pod that runs and is ready, on a node of its own; its unique id is its name.
pub(super) fn orphan(name: &str) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        uid: Some(name.to_owned()),
        labels: Some([("app".to_owned(), "web".to_owned())].into()),
        creation_timestamp: Some(Time(START)),
        ..ObjectMeta::default()
    };
    let spec = PodSpec { node_name: Some(format!("node-of-{name}")), ..PodSpec::default() };
    let ready = PodCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(START)),
        ..PodCondition::default()
    };
    let status = PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(vec![ready]),
        ..PodStatus::default()
    };
    Pod { metadata, spec: Some(spec), status: Some(status) }
}

/// One that the workload of that name owns.
pub(super) fn member(owner: &str, name: &str) -> Pod {
    let mut pod = orphan(name);
    let owner =
        OwnerReference { uid: format!("uid-{owner}"), controller: Some(true), ..OwnerReference::default() };
    pod.metadata.owner_references = Some(vec![owner]);
    pod
}

pub(super) fn on(mut pod: Pod, node: &str) -> Pod {
    pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    pod
}

pub(super) fn labelled(mut pod: Pod, key: &str, value: &str) -> Pod {
    pod.metadata.labels.as_mut().unwrap().insert(key.to_owned(), value.to_owned());
    pod
}

pub(super) fn leaving(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(START));
    pod
}

pub(super) fn unready(mut pod: Pod) -> Pod {
    pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    pod
}

pub(super) fn in_phase(pod: Pod, phase: &str) -> Pod {
    let mut pod = unready(pod);
    pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
    pod
}

pub(super) fn pending(pod: Pod) -> Pod {
    in_phase(pod, "Pending")
}

pub(super) fn a_node(name: &str) -> Node {
    let labels = [("kubernetes.io/hostname".to_owned(), name.to_owned())].into();
    Node { name: name.to_owned(), labels, ready: true }
}

pub(super) fn created(decision: &Decision) -> Vec<&Pod> {
    let all = decision.actions.iter();
    all.filter_map(|action| if let Action::Create(pod) = action { Some(&**pod) } else { None }).collect()
}

pub(super) fn deleted(decision: &Decision) -> Vec<String> {
    let all = decision.actions.iter();
    all.filter_map(|action| if let Action::Delete(uid) = action { Some(uid.clone()) } else { None }).collect()
}

pub(super) fn kept(decision: &Decision) -> Vec<&Workload> {
    let all = decision.actions.iter();
    all.filter_map(|action| if let Action::Keep(set) = action { Some(&**set) } else { None }).collect()
}
