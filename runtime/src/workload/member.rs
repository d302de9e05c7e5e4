//! What a pod is to its workload.

use std::cmp::Reverse;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::{SignedDuration, Timestamp},
};

use super::{Action, Facts, Workload, is_selected};

/// Who manages an object, if anybody does.
#[must_use]
pub fn owner(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|one| one.controller == Some(true))
}

/// Whether the pod shall go.
pub(super) fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod is or will be of use.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_leaving(pod) && !is_over(pod)
}

/// Whether the pod serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    ready(pod).is_some_and(|condition| condition.status == "True")
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod has ended by itself.
pub(super) fn is_over(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(crate::status::is_over)
}

/// Whether the pod has been ready for long enough.
pub(super) fn is_available(pod: &Pod, seconds: i32, now: Timestamp) -> bool {
    let wait = SignedDuration::from_secs(seconds.into());
    let since = ready(pod).and_then(|condition| condition.last_transition_time.as_ref());
    is_ready(pod) && (seconds == 0 || since.is_some_and(|since| now.duration_since(since.0) >= wait))
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The node that the pod is on; empty before it is on one.
#[must_use]
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub(super) fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// How often containers were started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let inits = status.and_then(|status| status.init_container_statuses.as_ref());
    let apps = status.and_then(|status| status.container_statuses.as_ref());
    inits.into_iter().chain(apps).flatten().map(|one| one.restart_count).sum()
}

/// As many as `i32`, which Kubernetes counts in.
pub(super) fn count<'a>(pods: impl IntoIterator<Item = &'a Pod>, is: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.into_iter().filter(|pod| is(pod)).count()).unwrap_or(i32::MAX)
}

/// The pods of a workload: those that it owns, and those that it is to adopt because they are as its pods are and
/// nobody owns them.
pub(super) fn members<'a>(facts: &Facts<'a>) -> (Vec<&'a Pod>, Vec<Action>) {
    let mut own: Vec<&Pod> =
        facts.pods.iter().filter(|pod| is_owned_by(&pod.metadata, facts.workload)).collect();
    let Some(selector) = facts.workload.selector() else {
        return (own, vec![]);
    };
    let is_orphan = |pod: &&Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        pod.metadata.namespace == facts.workload.metadata.namespace
            && owner(&pod.metadata).is_none()
            && is_active(pod)
            && is_selected(&selector, &labels)
    };
    let orphans: Vec<&Pod> = facts.pods.iter().filter(is_orphan).collect();
    let adoptions = orphans.iter().map(|pod| Action::Adopt(uid(pod).to_owned())).collect();
    own.extend(orphans);
    (own, adoptions)
}

pub(super) fn is_owned_by(metadata: &ObjectMeta, workload: &Workload) -> bool {
    owner(metadata).is_some_and(|owner| owner.uid == workload.uid())
}

/// Sorts pods by who is missed least: `ActivePodsWithRanks` of `pkg/controller/controller_utils.go`.
pub(super) fn least_missed_first(pods: &mut [&Pod]) {
    let all: Vec<&Pod> = pods.to_vec();
    let crowd = |pod: &Pod| all.iter().filter(|other| node(other) == node(pod)).count();
    pods.sort_by_key(|pod| {
        let progress = match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let since = ready(pod).and_then(|one| one.last_transition_time.as_ref()).map(|time| time.0);
        let age = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (
            (progress, is_ready(pod), Reverse(crowd(pod))),
            (Reverse(since.filter(|_| is_ready(pod))), Reverse(restarts(pod)), Reverse(age)),
            name(pod).to_owned(),
        )
    });
}

fn ready(pod: &Pod) -> Option<&PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}
