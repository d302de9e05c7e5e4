//! Pods and containers in given states, for the tests of this module.

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodSpec,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::Role;

/// The time that all tests are at.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn status(name: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus { name: name.to_owned(), state: Some(state), ..ContainerStatus::default() }
}

/// Runs, and is started, but not ready.
pub(super) fn running(name: &str) -> ContainerStatus {
    let running = Some(ContainerStateRunning::default());
    ContainerStatus {
        started: Some(true),
        ..status(name, ContainerState { running, ..ContainerState::default() })
    }
}

/// Runs and is ready.
pub(super) fn ready(name: &str) -> ContainerStatus {
    ContainerStatus { ready: true, ..running(name) }
}

/// Runs, but its startup probe has not succeeded.
pub(super) fn not_started(name: &str) -> ContainerStatus {
    ContainerStatus { started: Some(false), ..running(name) }
}

/// How a container ended, with the reason that the kubelet gives.
pub(super) fn end(exit_code: i32) -> ContainerStateTerminated {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    ContainerStateTerminated {
        exit_code,
        reason: Some(reason.to_owned()),
        ..ContainerStateTerminated::default()
    }
}

/// Has ended; an init container that did so with 0 is ready.
pub(super) fn ended(name: &str, exit_code: i32) -> ContainerStatus {
    let terminated = Some(end(exit_code));
    status(name, ContainerState { terminated, ..ContainerState::default() })
}

/// Has not run yet.
pub(super) fn waiting(name: &str, reason: &str) -> ContainerStatus {
    let waiting = Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message: None });
    status(name, ContainerState { waiting, ..ContainerState::default() })
}

/// Nothing is known of it.
pub(super) fn unknown(name: &str) -> ContainerStatus {
    ContainerStatus { name: name.to_owned(), ..ContainerStatus::default() }
}

/// Waits to be started again after it ended five minutes ago.
pub(super) fn crash_loop(name: &str, exit_code: i32, restarts: i32) -> ContainerStatus {
    restarted(waiting(name, "CrashLoopBackOff"), exit_code, restarts, 300)
}

/// With restarts, the last of them `ago` seconds ago.
pub(super) fn restarted(status: ContainerStatus, exit_code: i32, restarts: i32, ago: i64) -> ContainerStatus {
    let finished_at = Some(Time(Timestamp::from_second(now().as_second() - ago).unwrap()));
    let terminated = Some(ContainerStateTerminated { finished_at, ..end(exit_code) });
    ContainerStatus {
        restart_count: restarts,
        last_state: Some(ContainerState { terminated, ..ContainerState::default() }),
        ..status
    }
}

/// A pod with these containers, as far as its specification goes.
pub(super) fn pod(policy: &str, containers: &[(Role, ContainerStatus)]) -> Pod {
    let of = |wanted: fn(&Role) -> bool| -> Vec<Container> {
        let chosen = containers.iter().filter(|(role, _)| wanted(role));
        chosen
            .map(|(role, status)| Container {
                name: status.name.clone(),
                restart_policy: (*role == Role::Sidecar).then(|| "Always".to_owned()),
                ..Container::default()
            })
            .collect()
    };
    let spec = PodSpec {
        restart_policy: Some(policy.to_owned()),
        containers: of(|role| *role == Role::App),
        init_containers: Some(of(|role| *role != Role::App)),
        ..PodSpec::default()
    };
    Pod { spec: Some(spec), ..Pod::default() }
}
