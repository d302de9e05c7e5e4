//! The line of a pod in `get pods`.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus},
    jiff::Timestamp,
};

use super::{age, human_duration, is_sidecar, last_end};

/// The columns of one pod, each as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodColumns {
    /// `NAME`
    pub name: String,
    /// `READY`: `1/2`, sidecars included.
    pub ready: String,
    /// `STATUS`: the phase, or what is more telling.
    pub status: String,
    /// `RESTARTS`: `3 (5m ago)`.
    pub restarts: String,
    /// `AGE`
    pub age: String,
    /// `IP`, or `<none>`.
    pub ip: String,
    /// `NODE`, or `<none>`.
    pub node: String,
    /// `NOMINATED NODE`, or `<none>`.
    pub nominated_node: String,
    /// `READINESS GATES`, or `<none>`.
    pub readiness_gates: String,
}

/// Counts over containers: restarts, when the last was, and how many are ready.
#[derive(Default)]
struct Tally {
    restarts: i32,
    last: Option<Timestamp>,
    ready: usize,
}

impl Tally {
    fn restarted(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let finished = last_end(container).and_then(|end| end.finished_at.as_ref()).map(|time| time.0);
        self.last = self.last.max(finished);
    }
}

/// The columns, by `printPod` of `pkg/printers/internalversion/printers.go`.
#[must_use]
pub fn columns(pod: &Pod, now: Timestamp) -> PodColumns {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let (spec, status) = (pod.spec.as_ref().unwrap_or(&no_spec), pod.status.as_ref().unwrap_or(&no_status));
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container)).count();
    let (reason, tally) = reason_and_tally(pod, spec, status);
    let restarts = match tally.last {
        Some(last) if tally.restarts != 0 => {
            format!("{} ({} ago)", tally.restarts, human_duration(now.duration_since(last)))
        }
        _ => tally.restarts.to_string(),
    };
    let or_none = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("<none>").to_owned();
    PodColumns {
        name: pod.metadata.name.clone().unwrap_or_default(),
        ready: format!("{}/{}", tally.ready, spec.containers.len() + sidecars),
        status: reason,
        restarts,
        age: age(pod.metadata.creation_timestamp.as_ref(), now),
        ip: or_none(status.pod_ips.iter().flatten().next().map(|ip| ip.ip.as_str())),
        node: or_none(spec.node_name.as_deref()),
        nominated_node: or_none(status.nominated_node_name.as_deref()),
        readiness_gates: readiness_gates(spec, status),
    }
}

fn reason_and_tally(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> (String, Tally) {
    let phase = status.phase.as_deref().unwrap_or_default();
    let mut reason = status.reason.as_deref().filter(|reason| !reason.is_empty()).unwrap_or(phase).to_owned();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if conditions.iter().any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"))
    {
        "SchedulingGated".clone_into(&mut reason);
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let (initializing, mut tally, sidecar_tally) = initialization(spec, init);
    if initializing.is_none() || is_true(conditions, "Initialized") {
        // The restarts of init containers that are done are no news.
        tally = Tally { ready: tally.ready, ..sidecar_tally };
        if let Some(waiting) = initializing {
            reason = waiting;
        }
        apps(status, &mut reason, &mut tally);
    } else if let Some(waiting) = initializing {
        reason = waiting;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut reason);
        } else if !["Succeeded", "Failed"].contains(&phase) {
            "Terminating".clone_into(&mut reason);
        }
    }
    (reason, tally)
}

/// What initialization waits for, if it is not done; all counts, and those of sidecars alone.
fn initialization(spec: &PodSpec, statuses: &[ContainerStatus]) -> (Option<String>, Tally, Tally) {
    let (mut tally, mut of_sidecars) = (Tally::default(), Tally::default());
    let containers = spec.init_containers.as_deref().unwrap_or_default();
    for (index, container) in statuses.iter().enumerate() {
        tally.restarted(container);
        let sidecar = containers.iter().any(|own| own.name == container.name && is_sidecar(own));
        if sidecar {
            of_sidecars.restarted(container);
        }
        let state = container.state.clone().unwrap_or_default();
        if state.terminated.as_ref().is_some_and(|end| end.exit_code == 0) {
            continue;
        }
        if sidecar && container.started == Some(true) {
            tally.ready += usize::from(container.ready);
            continue;
        }
        let waits = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        let reason = match (state.terminated, waits) {
            (Some(end), _) => match end.reason.filter(|reason| !reason.is_empty()) {
                Some(reason) => format!("Init:{reason}"),
                None => format!("Init:{}", how(end.signal, end.exit_code)),
            },
            (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{}", containers.len()),
        };
        return (Some(reason), tally, of_sidecars);
    }
    (None, tally, of_sidecars)
}

/// `Signal:9` or `ExitCode:3`.
fn how(signal: Option<i32>, exit_code: i32) -> String {
    match signal {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{exit_code}"),
    }
}

/// The reason of the first app container that has one, and the counts of all.
fn apps(status: &PodStatus, reason: &mut String, tally: &mut Tally) {
    let mut has_running = false;
    // From the last to the first, so that the first one's reason stays.
    for container in status.container_statuses.iter().flatten().rev() {
        tally.restarted(container);
        let state = container.state.clone().unwrap_or_default();
        let waits = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        if let Some(waits) = waits {
            *reason = waits;
        } else if let Some(end) = state.terminated {
            let named = end.reason.filter(|reason| !reason.is_empty());
            *reason = named.unwrap_or_else(|| how(end.signal, end.exit_code));
        } else if container.ready && state.running.is_some() {
            has_running = true;
            tally.ready += 1;
        }
    }
    if reason == "Completed" && has_running {
        let ready = is_true(status.conditions.as_deref().unwrap_or_default(), "Ready");
        *reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn is_true(conditions: &[PodCondition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let open = gates.iter().filter(|gate| is_true(conditions, &gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests;
