//! Daemon sets: a pod on every node that is selected. After `pkg/controller/daemon/{daemon_controller,update}.go`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSetSpec, DaemonSetStatus},
        core::v1::{Pod, PodSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Action, Decision, Facts, Node,
    amount::{self, Round},
    member::{count, is_active, is_available, is_leaving, is_over, is_ready, label, members, node, uid},
    template::{self, REVISION_LABEL},
};

/// A node that shall have a pod, and the pod that it has.
struct Place<'a> {
    node: &'a Node,
    pod: Option<&'a Pod>,
}

pub(super) fn decide(facts: &Facts<'_>, spec: &DaemonSetSpec) -> Decision {
    let (own, mut actions) = members(facts);
    let revision = template::hash(&spec.template);
    let (selected, others): (Vec<&Node>, Vec<&Node>) = facts
        .nodes
        .iter()
        .partition(|node| spec.template.spec.as_ref().is_some_and(|spec| runs_on(spec, node)));
    let mut places = vec![];
    for node in selected {
        let mut here: Vec<&Pod> = own.iter().copied().filter(|pod| member_on(pod, node)).collect();
        here.sort_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|time| time.0));
        let staying = here.iter().copied().find(|pod| is_active(pod));
        for pod in here.iter().filter(|pod| !is_leaving(pod)) {
            // One that is over is made anew, and of two the older one stays.
            if is_over(pod) || staying.is_some_and(|staying| uid(staying) != uid(pod)) {
                actions.push(Action::Delete(uid(pod).to_owned()));
            }
        }
        // Never two on one node, not even while one goes.
        if here.is_empty() && node.ready {
            actions.push(Action::Create(Box::new(made(facts, node, &revision))));
        }
        places.push(Place { node, pod: staying });
    }
    let misplaced = |pod: &&Pod| is_active(pod) && !places.iter().any(|place| member_on(pod, place.node));
    actions.extend(own.iter().copied().filter(misplaced).map(|pod| Action::Delete(uid(pod).to_owned())));
    let status = status(
        facts,
        &places,
        &revision,
        count(own.iter().copied(), |pod| is_active(pod) && others.iter().any(|node| member_on(pod, node))),
    );
    if !facts.workload.is_replaced_by_hand() {
        update(facts, spec, &places, &mut actions);
    }
    Decision { actions, status }
}

fn member_on(pod: &Pod, on: &Node) -> bool {
    node(pod) == on.name
}

fn runs_on(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let mut selector = spec.node_selector.as_ref().unwrap_or(&none).iter();
    selector.all(|(key, value)| node.labels.get(key) == Some(value))
        && spec.node_name.as_deref().is_none_or(|name| name.is_empty() || name == node.name)
}

fn made(facts: &Facts<'_>, node: &Node, revision: &str) -> Pod {
    let mut pod = template::pod(facts.workload);
    template::label(&mut pod.metadata, REVISION_LABEL, revision);
    pod.spec.get_or_insert_default().node_name = Some(node.name.clone());
    pod
}

/// Deletes pods of another version: those that are of no use, and of the others as many as may be missing.
fn update(facts: &Facts<'_>, spec: &DaemonSetSpec, places: &[Place<'_>], actions: &mut Vec<Action>) {
    let rolling = spec.update_strategy.as_ref().and_then(|one| one.rolling_update.as_ref());
    let amount = rolling.and_then(|one| one.max_unavailable.clone()).unwrap_or(IntOrString::Int(1));
    let wanted = i32::try_from(places.len()).unwrap_or(i32::MAX);
    let most = amount::of(&amount, wanted, Round::Up).unwrap_or(1).max(1);
    let seconds = facts.workload.min_ready_seconds();
    let revision = template::hash(&spec.template);
    let serves = |place: &&Place<'_>| place.pod.is_some_and(|pod| is_available(pod, seconds, facts.now));
    let missing = places.iter().filter(|place| !serves(place)).count();
    let is_old = |pod: &&Pod| label(&pod.metadata, REVISION_LABEL) != Some(&revision);
    let old: Vec<&Pod> = places.iter().filter_map(|place| place.pod).filter(is_old).collect();
    let (useful, useless): (Vec<&Pod>, Vec<&Pod>) =
        old.into_iter().partition(|pod| is_available(pod, seconds, facts.now));
    let room = usize::try_from(most).unwrap_or(0).saturating_sub(missing);
    let gone = useless.into_iter().chain(useful.into_iter().take(room));
    actions.extend(gone.map(|pod| Action::Delete(uid(pod).to_owned())));
}

fn status(facts: &Facts<'_>, places: &[Place<'_>], revision: &str, misplaced: i32) -> serde_json::Value {
    let all = || places.iter().filter_map(|place| place.pod);
    let wanted = i32::try_from(places.len()).unwrap_or(i32::MAX);
    let seconds = facts.workload.min_ready_seconds();
    let available = count(all(), |pod| is_available(pod, seconds, facts.now));
    let status = DaemonSetStatus {
        desired_number_scheduled: wanted,
        current_number_scheduled: count(all(), |_| true),
        number_misscheduled: misplaced,
        number_ready: count(all(), is_ready),
        updated_number_scheduled: Some(count(all(), |pod| {
            label(&pod.metadata, REVISION_LABEL) == Some(revision)
        })),
        number_available: Some(available),
        number_unavailable: Some(wanted - available),
        observed_generation: facts.workload.metadata.generation,
        ..DaemonSetStatus::default()
    };
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::workload::Workload;

    fn set(more: &str) -> Workload {
        workload("DaemonSet", "web", &format!("{{{SELECTOR}, {TEMPLATE}{more}}}"))
    }

    fn of(set: &Workload, pods: &[Pod], nodes: &[Node]) -> Decision {
        super::super::decide(&Facts { pods, nodes, ..facts(set) })
    }

    /// A pod of the set's present version.
    fn pod(set: &Workload, name: &str, on_node: &str) -> Pod {
        labelled(on(member("web", name), on_node), REVISION_LABEL, &template::hash(set.template().unwrap()))
    }

    fn nodes_of(decision: &Decision) -> Vec<&str> {
        created(decision).into_iter().map(node).collect()
    }

    #[test]
    fn every_node_has_one_that_is_bound_to_it() {
        let set = set("");
        let nodes = [a_node("n1"), a_node("n2")];
        assert_eq!(nodes_of(&of(&set, &[], &nodes)), ["n1", "n2"]);
        let found = of(&set, &[pod(&set, "a", "n1")], &nodes);
        assert_eq!((nodes_of(&found), deleted(&found)), (vec!["n2"], vec![]));
        assert_eq!(found.status["desiredNumberScheduled"], 2);
        let found = of(&set, &[pod(&set, "a", "n1"), pod(&set, "b", "n2")], &nodes[..1]);
        assert_eq!(deleted(&found), ["b"], "its node is gone");
    }

    #[test]
    fn never_two_on_one_node() {
        let set = set("");
        let nodes = [a_node("n1")];
        assert_eq!(of(&set, &[leaving(pod(&set, "a", "n1"))], &nodes).actions, []);
        let over = in_phase(pod(&set, "a", "n1"), "Failed");
        let found = of(&set, &[over], &nodes);
        assert_eq!((deleted(&found), nodes_of(&found)), (vec!["a".to_owned()], vec![]));
        assert_eq!(deleted(&of(&set, &[pod(&set, "a", "n1"), pod(&set, "b", "n1")], &nodes)).len(), 1);
    }

    #[test]
    fn a_node_that_cannot_be_reached_keeps_its_pod_and_gets_none() {
        let set = set("");
        let lost = [Node { ready: false, ..a_node("n1") }];
        assert_eq!(of(&set, &[unready(pod(&set, "a", "n1"))], &lost).actions, []);
        let found = of(&set, &[], &lost);
        assert_eq!((found.actions.len(), &found.status["desiredNumberScheduled"]), (0, &1.into()));
    }

    #[test]
    fn a_selector_of_nodes_is_followed() {
        let mut set = set("");
        let spec = set.template_mut().unwrap().spec.as_mut().unwrap();
        spec.node_selector = Some([("kubernetes.io/hostname".to_owned(), "n2".to_owned())].into());
        let nodes = [a_node("n1"), a_node("n2")];
        let found = of(&set, &[pod(&set, "a", "n1")], &nodes);
        assert_eq!((nodes_of(&found), deleted(&found)), (vec!["n2"], vec!["a".to_owned()]));
        assert_eq!(found.status["numberMisscheduled"], 1);
    }

    #[test]
    fn a_new_version_comes_node_by_node() {
        let nodes = ["n1", "n2", "n3"].map(a_node);
        let old = |name: &str, node: &str| labelled(on(member("web", name), node), REVISION_LABEL, "old");
        let all = [old("a", "n1"), old("b", "n2"), old("c", "n3")];
        assert_eq!(deleted(&of(&set(""), &all, &nodes)), ["a"]);
        let two = set(", updateStrategy: {rollingUpdate: {maxUnavailable: 50%}}");
        assert_eq!(deleted(&of(&two, &all, &nodes)), ["a", "b"]);
        let waits = [leaving(old("a", "n1")), old("b", "n2"), old("c", "n3")];
        assert_eq!(of(&set(""), &waits, &nodes).actions, []);
        let useless = [old("a", "n1"), unready(old("b", "n2")), old("c", "n3")];
        assert_eq!(deleted(&of(&set(""), &useless, &nodes)), ["b"]);
        assert_eq!(of(&set(", updateStrategy: {type: OnDelete}"), &all, &nodes).actions, []);
    }
}
