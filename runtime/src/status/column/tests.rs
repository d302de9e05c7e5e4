//! The cases of `TestPrintPod` and its siblings in `printers_test.go`, in the states that a runtime makes.

use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    super::{fixture::*, restart::Role},
    *,
};

fn condition(name: &str) -> PodCondition {
    PodCondition { type_: name.to_owned(), status: "True".to_owned(), ..PodCondition::default() }
}

/// The pod in this phase and these states; conditions that are true are named.
fn pod_in(phase: &str, containers: &[(Role, ContainerStatus)], so: &[&str]) -> Pod {
    let of = |wanted: fn(&Role) -> bool| -> Option<Vec<ContainerStatus>> {
        Some(containers.iter().filter(|(role, _)| wanted(role)).map(|(_, status)| status.clone()).collect())
    };
    Pod {
        status: Some(PodStatus {
            phase: Some(phase.to_owned()),
            container_statuses: of(|role| *role == Role::App),
            init_container_statuses: of(|role| *role != Role::App),
            conditions: Some(so.iter().map(|name| condition(name)).collect()),
            ..PodStatus::default()
        }),
        ..pod("Always", containers)
    }
}

fn line(pod: &Pod) -> String {
    let PodColumns { ready, status, restarts, .. } = columns(pod, now());
    format!("{ready} {status} {restarts}")
}

fn unnamed(name: &str, exit_code: i32, signal: Option<i32>) -> ContainerStatus {
    let mut status = ended(name, exit_code);
    let end = ContainerStateTerminated { exit_code, signal, ..ContainerStateTerminated::default() };
    status.state.as_mut().unwrap().terminated = Some(end);
    status
}

#[test]
fn pods_without_init_containers() {
    let cases: Vec<(&str, Vec<ContainerStatus>, &[&str], &str)> = vec![
        ("Pending", vec![], &[], "0/0 Pending 0"),
        ("Pending", vec![waiting("a", "ContainerCreating")], &[], "0/1 ContainerCreating 0"),
        ("Pending", vec![waiting("a", "ErrImageNeverPull")], &[], "0/1 ErrImageNeverPull 0"),
        ("Running", vec![ready("a"), ready("b")], &["Ready"], "2/2 Running 0"),
        ("Running", vec![ready("a"), running("b")], &[], "1/2 Running 0"),
        ("Running", vec![crash_loop("a", 1, 3)], &[], "0/1 CrashLoopBackOff 3 (5m ago)"),
        ("Running", vec![restarted(ready("a"), 1, 2, 12)], &["Ready"], "1/1 Running 2 (12s ago)"),
        ("Running", vec![ended("a", 1), ready("b")], &[], "1/2 Error 0"),
        ("Running", vec![ready("a"), ended("b", 0)], &["Ready"], "1/2 Running 0"),
        ("Running", vec![ready("a"), ended("b", 0)], &[], "1/2 NotReady 0"),
        ("Running", vec![ended("a", 3), ended("b", 0)], &[], "0/2 Error 0"),
        ("Succeeded", vec![ended("a", 0)], &[], "0/1 Completed 0"),
        ("Failed", vec![unnamed("a", 3, None)], &[], "0/1 ExitCode:3 0"),
        ("Failed", vec![unnamed("a", 137, Some(9))], &[], "0/1 Signal:9 0"),
    ];
    for (phase, statuses, so, expected) in cases {
        let containers: Vec<_> = statuses.into_iter().map(|status| (Role::App, status)).collect();
        assert_eq!(line(&pod_in(phase, &containers, so)), expected, "{containers:?}");
    }
}

#[test]
fn pods_that_initialize() {
    let app = || (Role::App, waiting("app", "PodInitializing"));
    let init = |status| (Role::Init, status);
    let sidecar = |status| (Role::Sidecar, status);
    let later = |name| init(waiting(name, "PodInitializing"));
    let cases = [
        (vec![later("i"), later("j"), app()], "0/1 Init:0/2 0"),
        (vec![init(running("i")), later("j"), app()], "0/1 Init:0/2 0"),
        (vec![init(ended("i", 0)), init(running("j")), app()], "0/1 Init:1/2 0"),
        (vec![init(ended("i", 1)), later("j"), app()], "0/1 Init:Error 0"),
        (vec![init(unnamed("i", 3, None)), later("j"), app()], "0/1 Init:ExitCode:3 0"),
        (vec![init(unnamed("i", 0, None)), init(unnamed("j", 137, Some(9))), app()], "0/1 Init:Signal:9 0"),
        (vec![init(crash_loop("i", 1, 4)), app()], "0/1 Init:CrashLoopBackOff 4 (5m ago)"),
        (vec![init(ended("i", 0)), init(ended("j", 0)), app()], "0/1 PodInitializing 0"),
        (vec![sidecar(not_started("s")), app()], "0/2 Init:0/1 0"),
        (vec![sidecar(ready("s")), init(running("i")), app()], "1/2 Init:1/2 0"),
        (
            vec![sidecar(ready("s")), (Role::App, waiting("app", "ContainerCreating"))],
            "1/2 ContainerCreating 0",
        ),
    ];
    for (containers, expected) in cases {
        assert_eq!(line(&pod_in("Pending", &containers, &[])), expected, "{containers:?}");
    }
}

#[test]
fn sidecars_count_beside_apps() {
    let pod = pod_in(
        "Running",
        &[
            (Role::Init, restarted(ended("i", 0), 1, 7, 900)),
            (Role::Sidecar, restarted(ready("s"), 1, 2, 60)),
            (Role::App, restarted(ready("a"), 1, 1, 90)),
        ],
        &["Initialized", "Ready"],
    );
    // The seven restarts of the init container are over.
    assert_eq!(line(&pod), "2/2 Running 3 (60s ago)");
}

#[test]
fn a_pod_that_goes_says_so_until_it_is_over() {
    let mut pod = pod_in("Running", &[(Role::App, ready("a"))], &["Ready"]);
    pod.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(line(&pod), "1/1 Terminating 0");
    pod.status.as_mut().unwrap().reason = Some("NodeLost".to_owned());
    assert_eq!(line(&pod), "1/1 Unknown 0");
    let mut over = pod_in("Succeeded", &[(Role::App, ended("a", 0))], &[]);
    over.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(line(&over), "0/1 Completed 0");
}

#[test]
fn the_reason_of_the_pod_counts_where_no_container_has_one() {
    let mut pod = pod_in("Failed", &[], &[]);
    pod.status.as_mut().unwrap().reason = Some("DeadlineExceeded".to_owned());
    assert_eq!(columns(&pod, now()).status, "DeadlineExceeded");
}

#[test]
fn wide_columns_have_a_word_for_nothing() {
    let mut pod = pod_in("Pending", &[], &[]);
    pod.metadata.name = Some("web".to_owned());
    let PodColumns { name, age, ip, node, nominated_node, readiness_gates, .. } = columns(&pod, now());
    assert_eq!(
        [name, age, ip, node, nominated_node, readiness_gates],
        ["web", "<unknown>", "<none>", "<none>", "<none>", "<none>"]
    );
}
