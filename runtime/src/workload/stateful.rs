//! Stateful sets: pods with names that stay, made and deleted in order. After
//! `pkg/controller/statefulset/stateful_set_control.go`.

use k8s_openapi::api::{
    apps::v1::{StatefulSetSpec, StatefulSetStatus},
    core::v1::Pod,
};

use super::{
    Action, Decision, Facts, Workload,
    member::{count, is_available, is_leaving, is_over, is_ready, label, members, name, uid},
    template::{self, POD_NAME_LABEL, REVISION_LABEL},
};

/// The label with a pod's number.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The pods that shall be, in order, with those that are; and those that shall not be, the last one first.
struct Ranks<'a> {
    wanted: Vec<(i32, Option<&'a Pod>)>,
    condemned: Vec<&'a Pod>,
}

pub(super) fn decide(facts: &Facts<'_>, spec: &StatefulSetSpec) -> Decision {
    let (own, adoptions) = members(facts);
    let own: Vec<(i32, &Pod)> =
        own.into_iter().filter_map(|pod| Some((ordinal(facts.workload, pod)?, pod))).collect();
    let revision = format!("{}-{}", facts.workload.name(), template::hash(&spec.template));
    let status = status(facts, &own, &revision);
    let is_own = |action: &Action| match action {
        Action::Adopt(adopted) => own.iter().any(|(_, pod)| uid(pod) == adopted),
        _ => false,
    };
    let mut actions: Vec<Action> = adoptions.into_iter().filter(is_own).collect();
    let ranks = ranks(spec, own);
    let ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    if fill(facts, &ranks, (ordered, &revision), &mut actions)
        && empty(&ranks, ordered, &mut actions)
        && !facts.workload.is_replaced_by_hand()
    {
        update(&ranks, &revision, &mut actions);
    }
    Decision { actions, status }
}

/// Makes what is missing; answers whether all that shall be is there and well, or is not waited for.
fn fill(
    facts: &Facts<'_>,
    ranks: &Ranks<'_>,
    (ordered, revision): (bool, &str),
    actions: &mut Vec<Action>,
) -> bool {
    let seconds = facts.workload.min_ready_seconds();
    for (number, pod) in &ranks.wanted {
        let well = match pod {
            None => {
                actions.push(Action::Create(Box::new(made(facts.workload, *number, revision))));
                false
            }
            Some(pod) if is_over(pod) && !is_leaving(pod) => {
                actions.push(Action::Delete(uid(pod).to_owned()));
                false
            }
            Some(pod) => !is_leaving(pod) && is_available(pod, seconds, facts.now),
        };
        if ordered && !well {
            return false;
        }
    }
    true
}

/// Deletes what is too much, in order one by one; answers whether nothing is.
fn empty(ranks: &Ranks<'_>, ordered: bool, actions: &mut Vec<Action>) -> bool {
    for pod in &ranks.condemned {
        if !is_leaving(pod) {
            actions.push(Action::Delete(uid(pod).to_owned()));
        }
        if ordered {
            return false;
        }
    }
    ranks.condemned.is_empty()
}

/// Deletes the last pod that is of another version, when all behind it are well.
fn update(ranks: &Ranks<'_>, revision: &str, actions: &mut Vec<Action>) {
    for (_, pod) in ranks.wanted.iter().rev() {
        let Some(pod) = pod else { return };
        if label(&pod.metadata, REVISION_LABEL) != Some(revision) && !is_leaving(pod) {
            actions.push(Action::Delete(uid(pod).to_owned()));
            return;
        }
        if is_leaving(pod) || !is_ready(pod) {
            return;
        }
    }
}

fn ranks<'a>(spec: &StatefulSetSpec, own: Vec<(i32, &'a Pod)>) -> Ranks<'a> {
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let numbers = first..first.saturating_add(spec.replicas.unwrap_or(1));
    let at = |number: i32| own.iter().find(|(other, _)| *other == number).map(|(_, pod)| *pod);
    let wanted = numbers.clone().map(|number| (number, at(number))).collect();
    let mut condemned: Vec<_> = own.into_iter().filter(|(number, _)| !numbers.contains(number)).collect();
    condemned.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ranks { wanted, condemned: condemned.into_iter().map(|(_, pod)| pod).collect() }
}

/// The pod of that number.
fn made(set: &Workload, number: i32, revision: &str) -> Pod {
    let mut pod = template::pod(set);
    let name = format!("{}-{number}", set.name());
    pod.metadata.generate_name = None;
    template::label(&mut pod.metadata, POD_NAME_LABEL, &name);
    template::label(&mut pod.metadata, INDEX_LABEL, &number.to_string());
    template::label(&mut pod.metadata, REVISION_LABEL, revision);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    if let super::Spec::StatefulSet(own) = &set.spec {
        spec.subdomain = own.service_name.clone().filter(|name| !name.is_empty());
    }
    pod.metadata.name = Some(name);
    pod
}

/// The number in the pod's name.
fn ordinal(set: &Workload, pod: &Pod) -> Option<i32> {
    let number = name(pod).strip_prefix(set.name())?.strip_prefix('-')?;
    number.parse().ok().filter(|parsed: &i32| parsed.to_string() == number)
}

fn status(facts: &Facts<'_>, own: &[(i32, &Pod)], revision: &str) -> serde_json::Value {
    let all = || own.iter().map(|(_, pod)| *pod);
    let staying = |pod: &Pod| !is_leaving(pod);
    let is_new = |pod: &Pod| label(&pod.metadata, REVISION_LABEL) == Some(revision);
    let seconds = facts.workload.min_ready_seconds();
    let updated = count(all(), |pod| staying(pod) && is_new(pod));
    let replicas = count(all(), |_| true);
    let before = facts.status["currentRevision"].as_str().unwrap_or(revision);
    // The new version is the current one when nothing is left of the old one.
    let current = if updated == replicas { revision } else { before };
    let is_current = |pod: &Pod| label(&pod.metadata, REVISION_LABEL) == Some(current);
    let status = StatefulSetStatus {
        replicas,
        ready_replicas: Some(count(all(), |pod| staying(pod) && is_ready(pod))),
        available_replicas: Some(count(all(), |pod| staying(pod) && is_available(pod, seconds, facts.now))),
        current_replicas: Some(count(all(), |pod| staying(pod) && is_current(pod))),
        updated_replicas: Some(updated),
        current_revision: Some(current.to_owned()),
        update_revision: Some(revision.to_owned()),
        observed_generation: facts.workload.metadata.generation,
        ..StatefulSetStatus::default()
    };
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    fn set(replicas: i32, more: &str) -> Workload {
        let spec = format!("{{replicas: {replicas}, serviceName: peers, {SELECTOR}, {TEMPLATE}{more}}}");
        workload("StatefulSet", "web", &spec)
    }

    fn of(set: &Workload, pods: &[Pod]) -> Decision {
        super::super::decide(&Facts { pods, ..facts(set) })
    }

    /// A pod of the set as it is made, that runs and is ready.
    fn pod(set: &Workload, number: i32) -> Pod {
        let revision = format!("web-{}", template::hash(set.template().unwrap()));
        labelled(member("web", &format!("web-{number}")), REVISION_LABEL, &revision)
    }

    fn names(decision: &Decision) -> Vec<&str> {
        created(decision).into_iter().map(name).collect()
    }

    #[test]
    fn pods_are_made_one_by_one_when_the_one_before_is_ready() {
        let set = set(3, "");
        let made = of(&set, &[]);
        assert_eq!(names(&made), ["web-0"]);
        let first = created(&made)[0];
        assert_eq!(label(&first.metadata, POD_NAME_LABEL), Some("web-0"));
        let spec = first.spec.as_ref().unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-0"), Some("peers")));
        assert_eq!(of(&set, &[pending(pod(&set, 0))]).actions, []);
        assert_eq!(names(&of(&set, &[pod(&set, 0)])), ["web-1"]);
        assert_eq!(of(&set, &[pod(&set, 0), pod(&set, 1), pod(&set, 2)]).actions, []);
    }

    #[test]
    fn a_gap_is_filled_first_and_after_the_old_one_is_gone() {
        let set = set(3, "");
        assert_eq!(names(&of(&set, &[pod(&set, 0), pod(&set, 2)])), ["web-1"]);
        assert_eq!(of(&set, &[pod(&set, 0), leaving(pod(&set, 1)), pod(&set, 2)]).actions, []);
        let over = [in_phase(pod(&set, 0), "Failed")];
        assert_eq!(deleted(&of(&set, &over)), ["web-0"]);
    }

    #[test]
    fn pods_go_from_the_last_one_by_one() {
        let set = set(1, "");
        let all = [pod(&set, 2), pod(&set, 10), pod(&set, 0), pod(&set, 1)];
        assert_eq!(deleted(&of(&set, &all)), ["web-10"]);
        assert_eq!(of(&set, &[pod(&set, 0), pod(&set, 1), leaving(pod(&set, 2))]).actions, []);
        // Nothing goes while one that shall stay is not well.
        assert_eq!(of(&set, &[unready(pod(&set, 0)), pod(&set, 1)]).actions, []);
    }

    #[test]
    fn in_parallel_nobody_waits() {
        let policy = ", podManagementPolicy: Parallel";
        assert_eq!(names(&of(&set(3, policy), &[])), ["web-0", "web-1", "web-2"]);
        let none = set(0, policy);
        assert_eq!(deleted(&of(&none, &[pod(&none, 0), pod(&none, 1)])), ["web-1", "web-0"]);
    }

    #[test]
    fn a_new_version_comes_from_the_last_one_on() {
        let set = set(2, "");
        let old = |number| labelled(pod(&set, number), REVISION_LABEL, "web-old");
        assert_eq!(deleted(&of(&set, &[old(0), old(1)])), ["web-1"]);
        assert_eq!(of(&set, &[old(0), unready(pod(&set, 1))]).actions, []);
        let found = of(&set, &[old(0), pod(&set, 1)]);
        assert_eq!(deleted(&found), ["web-0"]);
        assert_eq!(found.status["updatedReplicas"], 1);
        let manual = super::tests::set(2, ", updateStrategy: {type: OnDelete}");
        assert_eq!(of(&manual, &[old(0), old(1)]).actions, []);
    }

    #[test]
    fn numbers_start_where_they_shall() {
        let set = set(2, ", ordinals: {start: 5}, podManagementPolicy: Parallel");
        let found = of(&set, &[pod(&set, 0)]);
        assert_eq!((names(&found), deleted(&found)), (vec!["web-5", "web-6"], vec!["web-0".to_owned()]));
        assert_eq!(ordinal(&set, &orphan("web-07")), None);
        assert_eq!(ordinal(&set, &orphan("web-x")), None);
    }
}
