//! Replica sets and replication controllers: a number of pods. After `pkg/controller/replicaset/replica_set.go`.

use k8s_openapi::api::{apps::v1::ReplicaSetStatus, core::v1::Pod};

use super::{
    Action, Decision, Facts,
    member::{count, is_active, is_available, is_ready, least_missed_first, members, uid},
    template,
};

pub(super) fn decide(facts: &Facts<'_>) -> Decision {
    let (own, mut actions) = members(facts);
    let mut active: Vec<&Pod> = own.into_iter().filter(|pod| is_active(pod)).collect();
    let wanted = usize::try_from(facts.workload.replicas().unwrap_or(1)).unwrap_or(0);
    let status = status(facts, &active);
    for _ in active.len()..wanted {
        actions.push(Action::Create(Box::new(template::pod(facts.workload))));
    }
    if active.len() > wanted {
        least_missed_first(&mut active);
        let surplus = active.len() - wanted;
        actions.extend(active.iter().take(surplus).map(|pod| Action::Delete(uid(pod).to_owned())));
    }
    Decision { actions, status }
}

fn status(facts: &Facts<'_>, active: &[&Pod]) -> serde_json::Value {
    let all = || active.iter().copied();
    let seconds = facts.workload.min_ready_seconds();
    let labels =
        facts.workload.template().and_then(|one| one.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let labelled = |pod: &Pod| {
        let own = pod.metadata.labels.as_ref();
        labels.iter().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
    };
    let status = ReplicaSetStatus {
        replicas: count(all(), |_| true),
        fully_labeled_replicas: Some(count(all(), labelled)),
        ready_replicas: Some(count(all(), is_ready)),
        available_replicas: Some(count(all(), |pod| is_available(pod, seconds, facts.now))),
        observed_generation: facts.workload.metadata.generation,
        ..ReplicaSetStatus::default()
    };
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    fn of(pods: &[Pod], replicas: i32) -> Decision {
        let set = workload("ReplicaSet", "web", &format!("{{replicas: {replicas}, {SELECTOR}, {TEMPLATE}}}"));
        decide(&Facts { pods, ..facts(&set) })
    }

    #[test]
    fn what_is_missing_is_made_with_owner_and_labels() {
        let found = of(&[member("web", "a")], 3);
        assert_eq!((found.actions.len(), deleted(&found)), (2, vec![]));
        let pod = created(&found)[0].clone();
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
        let owner = &pod.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("ReplicaSet", "uid-web", Some(true))
        );
        assert_eq!(pod.metadata.labels.unwrap()["app"], "web");
        assert_eq!(
            (found.status["replicas"].as_i64(), found.status["readyReplicas"].as_i64()),
            (Some(1), Some(1))
        );
    }

    #[test]
    fn what_goes_or_is_over_does_not_count() {
        let mut over = member("web", "b");
        over.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        assert_eq!(created(&of(&[leaving(member("web", "a")), over, member("web", "c")], 2)).len(), 1);
    }

    #[test]
    fn of_too_many_go_those_that_are_missed_least() {
        let pods = [
            member("web", "ready"),
            unready(member("web", "unready")),
            pending(member("web", "pending")),
            on(member("web", "crowded"), "n9"),
            on(member("web", "crowded-too"), "n9"),
        ];
        assert_eq!(deleted(&of(&pods, 4)), ["pending"]);
        assert_eq!(deleted(&of(&pods, 3)), ["pending", "unready"]);
        assert_eq!(deleted(&of(&pods, 2)), ["pending", "unready", "crowded"]);
        assert_eq!(deleted(&of(&pods, 5)), Vec::<String>::new());
        assert_eq!(deleted(&of(&pods, 0)).len(), 5);
    }

    #[test]
    fn orphans_that_match_are_adopted_and_count() {
        let mut stranger = orphan("b");
        stranger.metadata.labels = None;
        let found = of(&[orphan("a"), stranger, leaving(orphan("c"))], 1);
        assert_eq!(found.actions, [Action::Adopt("a".to_owned())]);
        let other = member("somebody-else", "d");
        assert_eq!(of(&[other], 0).actions, []);
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_for_long_enough() {
        let set = workload("ReplicaSet", "web", &format!("{{minReadySeconds: 10, {SELECTOR}, {TEMPLATE}}}"));
        let pods = [member("web", "a")];
        let at = |seconds: i64| {
            let now = START + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
            decide(&Facts { pods: &pods, now, ..facts(&set) }).status["availableReplicas"].clone()
        };
        assert_eq!((at(9), at(10)), (0.into(), 1.into()));
    }
}
