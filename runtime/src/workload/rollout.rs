//! How far a roll-out is, in kubectl's words: `polymorphichelpers/rollout_status.go` of kubectl.

use serde_json::Value as Json;

use super::{Spec, Workload};

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// It goes on.
    Waiting(String),
    /// All is as it shall be.
    Done(String),
    /// There is nothing to wait for.
    None(String),
}

/// How far the roll-out of a workload with this status is.
#[must_use]
pub fn rollout(workload: &Workload, status: &Json) -> Rollout {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if workload.metadata.generation.unwrap_or(0) > number("observedGeneration") {
        let kind = workload.kind().as_str().to_lowercase();
        return Rollout::Waiting(format!("Waiting for {kind} spec update to be observed..."));
    }
    let name = workload.name();
    match &workload.spec {
        Spec::Deployment(_) => deployment(name, workload.replicas().unwrap_or(1).into(), number),
        Spec::StatefulSet(_) | Spec::DaemonSet(_) if workload.is_replaced_by_hand() => {
            Rollout::None("rollout status is only available for RollingUpdate strategy type".to_owned())
        }
        Spec::StatefulSet(_) => stateful(name, workload.replicas().unwrap_or(1).into(), status),
        Spec::DaemonSet(_) => daemon(name, number),
        Spec::ReplicaSet(_) | Spec::ReplicationController(_) | Spec::Job(_) => {
            Rollout::None(format!("no status viewer has been implemented for {}", workload.kind().as_str()))
        }
    }
}

fn deployment(name: &str, wanted: i64, number: impl Fn(&str) -> i64) -> Rollout {
    let (updated, available) = (number("updatedReplicas"), number("availableReplicas"));
    let old = number("replicas") - updated;
    let waiting = |what: String| {
        Rollout::Waiting(format!("Waiting for deployment {name:?} rollout to finish: {what}..."))
    };
    if updated < wanted {
        waiting(format!("{updated} out of {wanted} new replicas have been updated"))
    } else if old > 0 {
        waiting(format!("{old} old replicas are pending termination"))
    } else if available < updated {
        waiting(format!("{available} of {updated} updated replicas are available"))
    } else {
        Rollout::Done(format!("deployment {name:?} successfully rolled out"))
    }
}

fn stateful(name: &str, wanted: i64, status: &Json) -> Rollout {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let missing = wanted - number("readyReplicas");
    if missing > 0 {
        return Rollout::Waiting(format!("Waiting for {missing} pods to be ready..."));
    }
    if number("updatedReplicas") < wanted || number("replicas") > wanted {
        let revision = status["updateRevision"].as_str().unwrap_or_default();
        let updated = number("updatedReplicas");
        return Rollout::Waiting(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
        ));
    }
    Rollout::Done(format!("statefulset rolling update complete {wanted} pods of {name:?}..."))
}

fn daemon(name: &str, number: impl Fn(&str) -> i64) -> Rollout {
    let wanted = number("desiredNumberScheduled");
    let (updated, available) = (number("updatedNumberScheduled"), number("numberAvailable"));
    let waiting = |what: String| {
        Rollout::Waiting(format!("Waiting for daemon set {name:?} rollout to finish: {what}..."))
    };
    if updated < wanted {
        waiting(format!("{updated} out of {wanted} new pods have been updated"))
    } else if available < wanted {
        waiting(format!("{available} of {wanted} updated pods are available"))
    } else {
        Rollout::Done(format!("daemon set {name:?} successfully rolled out"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::fixture::*, *};

    #[test]
    fn a_deployment_is_rolled_out_when_all_are_new_and_available() {
        let deployment = workload("Deployment", "web", &format!("{{replicas: 3, {SELECTOR}, {TEMPLATE}}}"));
        let of = |status: Json| match rollout(&deployment, &status) {
            Rollout::Waiting(text) | Rollout::Done(text) | Rollout::None(text) => text,
        };
        assert_eq!(of(Json::Null), "Waiting for deployment spec update to be observed...");
        let status = |updated: i32, all: i32, available: i32| json!({ "observedGeneration": 1, "updatedReplicas": updated, "replicas": all, "availableReplicas": available });
        let finish = "Waiting for deployment \"web\" rollout to finish: ";
        assert_eq!(of(status(1, 4, 3)), format!("{finish}1 out of 3 new replicas have been updated..."));
        assert_eq!(of(status(3, 4, 3)), format!("{finish}1 old replicas are pending termination..."));
        assert_eq!(of(status(3, 3, 2)), format!("{finish}2 of 3 updated replicas are available..."));
        assert_eq!(of(status(3, 3, 3)), "deployment \"web\" successfully rolled out");
    }

    #[test]
    fn jobs_are_not_rolled_out() {
        let job = workload("Job", "pi", &format!("{{{TEMPLATE}}}"));
        let status = json!({ "observedGeneration": 1 });
        assert!(matches!(rollout(&job, &status), Rollout::None(_)));
    }
}
