//! Deployments: one replica set for every version of a template, and the way from the old ones to the new one. After
//! `pkg/controller/deployment/{rolling,recreate,sync}.go`.

use k8s_openapi::{
    api::{
        apps::v1::{DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSetSpec},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use serde_json::Value as Json;

use super::{
    Action, Decision, Facts, Spec, Workload,
    amount::{self, Round},
    is_selected,
    member::{self, count, is_active, is_available, is_owned_by, is_ready},
    template,
};

/// The label that tells the pods of one version from those of another.
const HASH_LABEL: &str = "pod-template-hash";
const RECREATE: &str = "Recreate";

/// A replica set of the deployment.
struct Set<'a> {
    workload: &'a Workload,
    /// How many pods it shall have.
    wanted: i32,
    /// Those that it has, the leaving and the ended ones included.
    pods: Vec<&'a Pod>,
    /// How many of those that it shall have are of use.
    available: i32,
}

/// How many pods there may be.
struct Bounds {
    wanted: i32,
    most: i32,
    least_available: i32,
}

pub(super) fn decide(facts: &Facts<'_>, spec: &DeploymentSpec) -> Decision {
    let hash = template::hash(&spec.template);
    let (mut sets, mut actions) = sets(facts, spec);
    sets.sort_by_key(|set| set.workload.metadata.creation_timestamp.clone().map(|time| time.0));
    let is_new = |set: &Set<'_>| member::label(&set.workload.metadata, HASH_LABEL) == Some(&hash);
    let (new, old): (Vec<_>, Vec<_>) = sets.iter().partition(|set| is_new(set));
    let new = new.first().copied();
    let bounds = bounds(spec);
    let status = status(facts, &bounds, &sets, new);
    if !actions.is_empty() {
        return Decision { actions, status };
    }
    let recreates = spec.strategy.as_ref().and_then(|one| one.type_.as_deref()) == Some(RECREATE);
    let all_wanted: i32 = sets.iter().map(|set| set.wanted).sum();
    let room = if recreates {
        let old_pods = old.iter().flat_map(|set| &set.pods).any(|pod| !member::is_over(pod));
        if old_pods { 0 } else { bounds.wanted }
    } else {
        (bounds.most - all_wanted).max(0)
    };
    let has = new.map_or(0, |set| set.wanted);
    let grown = (has + room.min(bounds.wanted - has).max(0)).min(bounds.wanted);
    match new {
        None => actions.push(Action::Keep(Box::new(version(facts.workload, spec, &hash, grown)))),
        Some(set) => resize(set, grown, spec.min_ready_seconds, &mut actions),
    }
    if actions.is_empty() {
        let new_wanted = new.map_or(0, |set| set.wanted);
        let new_available = new.map_or(0, |set| set.available);
        let spare = all_wanted - bounds.least_available - (new_wanted - new_available);
        let sizes = if recreates {
            old.iter().map(|_| 0).collect()
        } else {
            shrunk(&old, &bounds, spare, new_available)
        };
        for (set, size) in old.iter().zip(sizes) {
            resize(set, size, spec.min_ready_seconds, &mut actions);
        }
    }
    let done = new.is_some_and(|set| set.available >= bounds.wanted);
    let empty = old.iter().filter(|set| done && set.wanted == 0 && set.pods.is_empty());
    actions.extend(empty.map(|set| Action::Drop(set.workload.uid().to_owned())));
    Decision { actions, status }
}

/// The replica sets that are the deployment's; those that nobody owns are kept as its own.
fn sets<'a>(facts: &Facts<'a>, spec: &DeploymentSpec) -> (Vec<Set<'a>>, Vec<Action>) {
    let (mut sets, mut adoptions) = (vec![], vec![]);
    for set in facts.workloads.iter().filter(|one| matches!(one.spec, Spec::ReplicaSet(_))) {
        if is_owned_by(&set.metadata, facts.workload) {
            let pods: Vec<&Pod> = facts.pods.iter().filter(|pod| is_owned_by(&pod.metadata, set)).collect();
            let wanted = set.replicas().unwrap_or(1);
            let seconds = set.min_ready_seconds();
            let is = |pod: &Pod| is_active(pod) && is_available(pod, seconds, facts.now);
            let available = count(pods.iter().copied(), is).min(wanted);
            sets.push(Set { workload: set, wanted, pods, available });
        } else if member::owner(&set.metadata).is_none()
            && set.metadata.namespace == facts.workload.metadata.namespace
            && is_selected(&spec.selector, &set.metadata.labels.clone().unwrap_or_default())
        {
            let mut set = set.clone();
            set.metadata.owner_references = Some(vec![template::reference(facts.workload)]);
            adoptions.push(Action::Keep(Box::new(set)));
        }
    }
    (sets, adoptions)
}

/// The replica set of this version of the template.
fn version(deployment: &Workload, spec: &DeploymentSpec, hash: &str, replicas: i32) -> Workload {
    let mut template: PodTemplateSpec = spec.template.clone();
    template::label(template.metadata.get_or_insert_default(), HASH_LABEL, hash);
    let mut selector: LabelSelector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", deployment.name())),
        namespace: deployment.metadata.namespace.clone(),
        labels: template.metadata.as_ref().and_then(|one| one.labels.clone()),
        owner_references: Some(vec![template::reference(deployment)]),
        ..ObjectMeta::default()
    };
    let spec = ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    Workload { metadata, spec: Spec::ReplicaSet(Box::new(spec)) }
}

fn resize(set: &Set<'_>, size: i32, min_ready: Option<i32>, actions: &mut Vec<Action>) {
    let mut changed = set.workload.clone();
    if let Spec::ReplicaSet(spec) = &mut changed.spec {
        spec.replicas = Some(size);
        spec.min_ready_seconds = min_ready;
    }
    if changed != *set.workload {
        actions.push(Action::Keep(Box::new(changed)));
    }
}

/// How large the old replica sets may be: of what is more than must be available, first goes what is not.
fn shrunk(old: &[&Set<'_>], bounds: &Bounds, spare: i32, new_available: i32) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    let mut spare = spare.max(0);
    for (set, size) in old.iter().zip(&mut sizes) {
        let useless = (*size - set.available).clamp(0, spare);
        *size -= useless;
        spare -= useless;
    }
    let available = new_available + old.iter().map(|set| set.available).sum::<i32>();
    let mut surplus = (available - bounds.least_available).clamp(0, spare);
    for size in &mut sizes {
        let gone = surplus.min(*size);
        *size -= gone;
        surplus -= gone;
    }
    sizes
}

/// `ResolveFenceposts` of `pkg/controller/deployment/util/deployment_util.go`.
fn bounds(spec: &DeploymentSpec) -> Bounds {
    let wanted = spec.replicas.unwrap_or(1);
    let rolling =
        spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let quarter = IntOrString::String("25%".to_owned());
    let part = |amount: Option<IntOrString>, round| {
        amount::of(&amount.unwrap_or_else(|| quarter.clone()), wanted, round).unwrap_or(0)
    };
    let surge = part(rolling.max_surge, Round::Up);
    let mut unavailable = part(rolling.max_unavailable, Round::Down);
    if surge == 0 && unavailable == 0 {
        // 25 % of few pods is none, but something has to move.
        unavailable = 1;
    }
    Bounds { wanted, most: wanted + surge, least_available: (wanted - unavailable).max(0) }
}

fn status(facts: &Facts<'_>, bounds: &Bounds, sets: &[Set<'_>], new: Option<&Set<'_>>) -> Json {
    let active = |set: &Set<'_>| count(set.pods.iter().copied(), is_active);
    let all: i32 = sets.iter().map(active).sum();
    let available: i32 = sets.iter().map(|set| set.available).sum();
    let ready = |set: &Set<'_>| count(set.pods.iter().copied(), |pod| is_active(pod) && is_ready(pod));
    let updated = new.map_or(0, active);
    let done = updated == bounds.wanted && all == updated && available >= updated;
    let enough = available >= bounds.least_available;
    let conditions = vec![
        condition(
            facts,
            "Available",
            enough,
            match enough {
                true => ("MinimumReplicasAvailable", "Deployment has minimum availability."),
                false => ("MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
            },
        ),
        condition(
            facts,
            "Progressing",
            true,
            match done {
                true => ("NewReplicaSetAvailable", "ReplicaSet has successfully progressed."),
                false => ("ReplicaSetUpdated", "ReplicaSet is progressing."),
            },
        ),
    ];
    let status = DeploymentStatus {
        replicas: Some(all),
        updated_replicas: Some(updated),
        ready_replicas: Some(sets.iter().map(ready).sum()),
        available_replicas: Some(available),
        unavailable_replicas: Some((bounds.wanted.max(all) - available).max(0)),
        conditions: Some(conditions),
        observed_generation: facts.workload.metadata.generation,
        ..DeploymentStatus::default()
    };
    serde_json::to_value(status).unwrap_or_default()
}

fn condition(
    facts: &Facts<'_>,
    kind: &str,
    so: bool,
    (reason, message): (&str, &str),
) -> DeploymentCondition {
    let status = if so { "True" } else { "False" };
    let old: Option<DeploymentStatus> = serde_json::from_value(facts.status.clone()).ok();
    let old = old.and_then(|old| old.conditions).unwrap_or_default();
    let old = old
        .into_iter()
        .find(|one| one.type_.as_deref() == Some(kind) && one.status.as_deref() == Some(status));
    let now = Some(Time(facts.now));
    let same = old.as_ref().filter(|old| old.reason.as_deref() == Some(reason));
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: same.and_then(|old| old.last_update_time.clone()).or_else(|| now.clone()),
        last_transition_time: old.and_then(|old| old.last_transition_time).or(now),
    }
}

#[cfg(test)]
mod tests;
