//! Jobs: pods that end. After `pkg/controller/job/job_controller.go`.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};

use super::{
    Action, Decision, Facts,
    member::{count, is_active, is_leaving, is_ready, members, phase, restarts, uid},
    template,
};

/// The wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// How often pods may fail, unless the manifest says otherwise.
const BACKOFF_LIMIT: i32 = 6;

/// Why a job is over.
struct Verdict {
    kind: &'static str,
    reason: &'static str,
    message: &'static str,
}

const COMPLETE: Verdict = Verdict {
    kind: "Complete",
    reason: "CompletionsReached",
    message: "Reached expected number of succeeded pods",
};
const TOO_MANY_FAILURES: Verdict = Verdict {
    kind: "Failed",
    reason: "BackoffLimitExceeded",
    message: "Job has reached the specified backoff limit",
};
const TOO_LATE: Verdict = Verdict {
    kind: "Failed",
    reason: "DeadlineExceeded",
    message: "Job was active longer than specified deadline",
};

/// What has become of the pods so far, also of those that are gone.
struct Tally {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

pub(super) fn decide(facts: &Facts<'_>, spec: &JobSpec) -> Decision {
    let before: JobStatus = serde_json::from_value(facts.status.clone()).unwrap_or_default();
    let (own, _) = members(facts);
    let active: Vec<&Pod> = own.iter().copied().filter(|pod| is_active(pod)).collect();
    let tally = tally(&before, &own);
    let start = before.start_time.clone().map_or(facts.now, |time| time.0);
    let over = before.conditions.iter().flatten().any(|one| one.status == "True");
    let verdict = if over { None } else { verdict(facts, spec, &tally, (&active, start)) };
    let mut actions = vec![];
    if over || verdict.is_some() {
        actions.extend(active.iter().map(|pod| Action::Delete(uid(pod).to_owned())));
    } else {
        let wanted = wanted(spec, tally.succeeded.len(), active.len());
        let waits = held_until(&own, facts.longest_wait).is_some_and(|until| facts.now < until);
        let missing = if waits { 0 } else { wanted.saturating_sub(active.len()) };
        actions.extend((0..missing).map(|_| Action::Create(Box::new(made(facts)))));
        let surplus = active.len().saturating_sub(wanted);
        actions.extend(active.iter().rev().take(surplus).map(|pod| Action::Delete(uid(pod).to_owned())));
    }
    let conditions =
        verdict.as_ref().map(|verdict| vec![condition(verdict, facts.now)]).or(before.conditions);
    let complete = verdict.is_some_and(|verdict| verdict.kind == COMPLETE.kind);
    let number = |set: &BTreeSet<String>| i32::try_from(set.len()).ok().filter(|number| *number > 0);
    let status = JobStatus {
        active: Some(count(active.iter().copied(), |_| true)).filter(|number| *number > 0),
        ready: Some(count(active.iter().copied(), is_ready)),
        terminating: Some(count(own.iter().copied(), is_leaving)),
        succeeded: number(&tally.succeeded),
        failed: number(&tally.failed),
        start_time: Some(Time(start)),
        completion_time: complete.then_some(Time(facts.now)).or(before.completion_time),
        conditions,
        // Pods that somebody deletes stay counted.
        uncounted_terminated_pods: Some(UncountedTerminatedPods {
            succeeded: Some(tally.succeeded.into_iter().collect()),
            failed: Some(tally.failed.into_iter().collect()),
        }),
        ..JobStatus::default()
    };
    Decision { actions, status: serde_json::to_value(status).unwrap_or_default() }
}

fn tally(before: &JobStatus, own: &[&Pod]) -> Tally {
    let known = before.uncounted_terminated_pods.clone().unwrap_or_default();
    let with = |known: Option<Vec<String>>, name: &str| {
        let fresh = own.iter().filter(|pod| phase(pod) == name).map(|pod| uid(pod).to_owned());
        known.into_iter().flatten().chain(fresh).collect()
    };
    Tally { succeeded: with(known.succeeded, "Succeeded"), failed: with(known.failed, "Failed") }
}

fn verdict(
    facts: &Facts<'_>,
    spec: &JobSpec,
    tally: &Tally,
    (active, start): (&[&Pod], Timestamp),
) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(BACKOFF_LIMIT);
    let failed = i32::try_from(tally.failed.len()).unwrap_or(i32::MAX);
    // Containers that start again within their pod count as well.
    let again: i32 = active.iter().map(|pod| restarts(pod)).sum();
    if failed > limit || (again > 0 && again >= limit) {
        return Some(TOO_MANY_FAILURES);
    }
    let deadline = spec.active_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| facts.now.duration_since(start) >= deadline) {
        return Some(TOO_LATE);
    }
    let done = match completions(spec) {
        Some(number) => tally.succeeded.len() >= number,
        // A queue of work is empty when one says so and all have ended.
        None => !tally.succeeded.is_empty() && active.is_empty(),
    };
    done.then_some(COMPLETE)
}

/// How many pods shall run now.
fn wanted(spec: &JobSpec, succeeded: usize, active: usize) -> usize {
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    match completions(spec) {
        Some(number) => parallelism.min(number.saturating_sub(succeeded)),
        None if succeeded > 0 => active,
        None => parallelism,
    }
}

/// How many pods have to succeed; `None` for a queue of work.
fn completions(spec: &JobSpec) -> Option<usize> {
    let number = spec.completions.or(if spec.parallelism.is_none() { Some(1) } else { None });
    number.map(|number| usize::try_from(number).unwrap_or(0))
}

/// When the next pod may be made: later and later after failures in a row.
fn held_until(own: &[&Pod], longest: Duration) -> Option<Timestamp> {
    let ended =
        |name: &'static str| own.iter().filter(move |pod| phase(pod) == name).filter_map(|pod| ended_at(pod));
    let success = ended("Succeeded").max();
    let failures: Vec<Timestamp> =
        ended("Failed").filter(|at| success.is_none_or(|success| *at > success)).collect();
    let doublings = u32::try_from(failures.len()).unwrap_or(u32::MAX).checked_sub(1)?;
    let wait = FIRST_WAIT.checked_mul(2_u32.saturating_pow(doublings)).unwrap_or(longest).min(longest);
    failures.into_iter().max()?.checked_add(wait).ok()
}

fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.filter_map(|one| one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|time| time.0)
        .max()
}

fn made(facts: &Facts<'_>) -> Pod {
    let job = facts.workload;
    let mut pod = template::pod(job);
    for (key, value) in [("controller-uid", job.uid()), ("job-name", job.name())] {
        template::label(&mut pod.metadata, key, value);
        template::label(&mut pod.metadata, &format!("batch.kubernetes.io/{key}"), value);
    }
    pod
}

fn condition(verdict: &Verdict, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: verdict.kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(verdict.reason.to_owned()),
        message: Some(verdict.message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus};
    use serde_json::Value as Json;

    use super::{super::fixture::*, *};
    use crate::workload::Workload;

    fn job(spec: &str) -> Workload {
        let template = "template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}";
        workload("Job", "pi", &format!("{{{spec}{template}}}"))
    }

    fn at(job: &Workload, pods: &[Pod], status: &Json, seconds: i64) -> Decision {
        let now = START + SignedDuration::from_secs(seconds);
        super::super::decide(&Facts { pods, status, now, ..facts(job) })
    }

    fn of(job: &Workload, pods: &[Pod]) -> Decision {
        at(job, pods, &Json::Null, 0)
    }

    fn ended(name: &str, phase: &str, seconds: i64) -> Pod {
        let mut pod = in_phase(member("pi", name), phase);
        let end = ContainerStateTerminated {
            finished_at: Some(Time(START + SignedDuration::from_secs(seconds))),
            ..ContainerStateTerminated::default()
        };
        let state = ContainerState { terminated: Some(end), ..ContainerState::default() };
        let status = ContainerStatus { state: Some(state), ..ContainerStatus::default() };
        pod.status.as_mut().unwrap().container_statuses = Some(vec![status]);
        pod
    }

    fn restarted(name: &str, restarts: i32) -> Pod {
        let mut pod = member("pi", name);
        let status = ContainerStatus { restart_count: restarts, ..ContainerStatus::default() };
        pod.status.as_mut().unwrap().container_statuses = Some(vec![status]);
        pod
    }

    fn condition_of(decision: &Decision) -> String {
        let one = &decision.status["conditions"][0];
        format!("{} {}", one["type"].as_str().unwrap_or("-"), one["reason"].as_str().unwrap_or("-"))
    }

    #[test]
    fn as_many_run_as_may_and_as_are_missing() {
        let job = job("completions: 5, parallelism: 2, ");
        assert_eq!(created(&of(&job, &[])).len(), 2);
        assert_eq!(of(&job, &[member("pi", "a"), member("pi", "b")]).actions, []);
        assert_eq!(created(&of(&job, &[member("pi", "a"), ended("b", "Succeeded", 0)])).len(), 1);
        let four: Vec<Pod> = (0..4).map(|n| ended(&n.to_string(), "Succeeded", 0)).collect();
        assert_eq!(created(&of(&job, &four)).len(), 1);
        let pod = of(&job, &[]);
        let labels = created(&pod)[0].metadata.labels.clone().unwrap();
        assert_eq!(
            (labels["job-name"].as_str(), labels["batch.kubernetes.io/controller-uid"].as_str()),
            ("pi", "uid-pi")
        );
    }

    #[test]
    fn it_is_complete_when_enough_have_succeeded_and_stays_so() {
        let job = job("completions: 2, ");
        let pods = [ended("a", "Succeeded", 0), ended("b", "Succeeded", 0), member("pi", "c")];
        let found = of(&job, &pods);
        assert_eq!(
            (condition_of(&found).as_str(), deleted(&found)),
            ("Complete CompletionsReached", vec!["c".to_owned()])
        );
        assert_eq!(found.status["succeeded"], 2);
        // Its pods may go, it stays complete.
        let later = at(&job, &[], &found.status, 60);
        assert_eq!((later.actions.len(), &later.status["succeeded"]), (0, &2.into()));
        assert_eq!(later.status["completionTime"], found.status["completionTime"]);
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_waits() {
        let job = job("");
        let one = [ended("a", "Failed", 0)];
        assert_eq!(created(&at(&job, &one, &Json::Null, 9)).len(), 0);
        assert_eq!(created(&at(&job, &one, &Json::Null, 10)).len(), 1);
        let two = [ended("a", "Failed", 0), ended("b", "Failed", 12)];
        assert_eq!(created(&at(&job, &two, &Json::Null, 31)).len(), 0);
        assert_eq!(created(&at(&job, &two, &Json::Null, 32)).len(), 1);
    }

    #[test]
    fn too_many_failures_end_it() {
        let job = job("backoffLimit: 1, ");
        let two = [ended("a", "Failed", 0), ended("b", "Failed", 0), member("pi", "c")];
        assert_eq!(condition_of(&of(&job, &two[1..])), "- -");
        let found = of(&job, &two);
        assert_eq!(
            (condition_of(&found).as_str(), deleted(&found)),
            ("Failed BackoffLimitExceeded", vec!["c".to_owned()])
        );
        // Somebody removed the traces of the first.
        let first = of(&job, &two[..1]);
        assert_eq!(condition_of(&at(&job, &two[1..], &first.status, 0)), "Failed BackoffLimitExceeded");
        assert_eq!(condition_of(&of(&job, &[restarted("a", 1)])), "Failed BackoffLimitExceeded");
        assert_eq!(condition_of(&of(&super::tests::job(""), &[restarted("a", 5)])), "- -");
    }

    #[test]
    fn a_deadline_ends_it() {
        let job = job("activeDeadlineSeconds: 30, ");
        let begun = of(&job, &[]);
        assert_eq!(condition_of(&at(&job, &[member("pi", "a")], &begun.status, 29)), "- -");
        let late = at(&job, &[member("pi", "a")], &begun.status, 30);
        assert_eq!((condition_of(&late).as_str(), deleted(&late).len()), ("Failed DeadlineExceeded", 1));
    }

    #[test]
    fn a_queue_of_work_is_done_when_one_says_so_and_all_have_ended() {
        let job = job("parallelism: 3, ");
        assert_eq!(created(&of(&job, &[])).len(), 3);
        let some = [ended("a", "Succeeded", 0), member("pi", "b")];
        assert_eq!((of(&job, &some).actions.len(), condition_of(&of(&job, &some)).as_str()), (0, "- -"));
        assert_eq!(condition_of(&of(&job, &some[..1])), "Complete CompletionsReached");
    }

    #[test]
    fn a_pod_that_goes_is_replaced() {
        assert_eq!(created(&of(&job(""), &[leaving(member("pi", "a"))])).len(), 1);
    }
}
