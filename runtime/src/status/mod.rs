//! What the state of a pod is, given the states of its containers: pure functions, as Kubernetes computes them.
//!
//! Phase and conditions are the kubelet's, the columns are kubectl's, restarts and their delays the kubelet's again.
//! Each module names the file it follows. Nothing here knows a process or a clock: the time is an argument.

mod age;
mod column;
mod condition;
mod phase;
mod qos;
mod restart;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus};

pub use age::{age, human_duration};
pub use column::{PodColumns, columns};
pub use condition::{Observed, conditions};
pub use phase::{Phase, PhaseFacts, phase};
pub use qos::{Qos, qos};
pub use restart::{RestartPolicy, Role, should_restart};

/// What a container is to its pod.
#[must_use]
pub fn role(spec: &PodSpec, name: &str) -> Option<Role> {
    let init = spec.init_containers.iter().flatten().find(|container| container.name == name);
    match init {
        Some(container) if is_sidecar(container) => Some(Role::Sidecar),
        Some(_) => Some(Role::Init),
        None => spec.containers.iter().any(|container| container.name == name).then_some(Role::App),
    }
}

/// Whether an init container keeps running beside the others.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a pod has ended by itself, for good.
#[must_use]
pub fn is_over(status: &PodStatus) -> bool {
    status.phase.as_deref().and_then(Phase::named).is_some_and(Phase::is_terminal)
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name)
}

/// A container that runs, has ended, or waits; exactly one, and waiting if nothing is known.
enum State<'a> {
    Running,
    Terminated(&'a k8s_openapi::api::core::v1::ContainerStateTerminated),
    /// With how it ended the last time, if it ran before.
    Waiting(Option<&'a k8s_openapi::api::core::v1::ContainerStateTerminated>),
    Unknown,
}

fn state(status: &ContainerStatus) -> State<'_> {
    let Some(state) = &status.state else { return State::Unknown };
    if state.running.is_some() {
        return State::Running;
    }
    if let Some(terminated) = &state.terminated {
        return State::Terminated(terminated);
    }
    if state.waiting.is_some() {
        return State::Waiting(last_end(status));
    }
    State::Unknown
}

/// How the container ended before its present state.
fn last_end(status: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod fixture;
