//! The conditions of a pod.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodCondition, PodSpec},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{Phase, State, find, init_containers, is_sidecar, state};

/// What the conditions depend on.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The pod.
    pub spec: &'a PodSpec,
    /// The states of init and app containers together; `None` before anything is known of them.
    pub statuses: Option<&'a [ContainerStatus]>,
    /// The phase that they amount to.
    pub phase: Phase,
    /// Whether the sandbox is there, with its network.
    pub sandbox: bool,
    /// Why no node can take the pod, if none can.
    pub unschedulable: Option<&'a str>,
    /// The conditions so far; those that stay keep the time of their last change.
    pub before: &'a [PodCondition],
}

/// One condition without its times.
struct Verdict {
    so: bool,
    reason: &'static str,
    message: String,
}

const SO: Verdict = Verdict { so: true, reason: "", message: String::new() };

impl Verdict {
    fn not(reason: &'static str, message: String) -> Self {
        Self { so: false, reason, message }
    }
}

/// The conditions, by `pkg/kubelet/status/generate.go` and in the order of `generateAPIPodStatus`.
///
/// A pod without a node has only `PodScheduled`, because only the scheduler has seen it.
#[must_use]
pub fn conditions(observed: &Observed<'_>, now: Timestamp) -> Vec<PodCondition> {
    if let Some(why) = observed.unschedulable {
        let verdict = Verdict::not("Unschedulable", why.to_owned());
        return vec![condition("PodScheduled", verdict, observed.before, now)];
    }
    let sandbox = Verdict { so: observed.sandbox, ..SO };
    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(observed)),
        // There are no readiness gates, so a pod is ready when its containers are.
        ("Ready", containers_ready(observed)),
        ("ContainersReady", containers_ready(observed)),
        ("PodScheduled", SO),
    ]
    .into_iter()
    .map(|(name, verdict)| condition(name, verdict, observed.before, now))
    .collect()
}

fn condition(name: &str, verdict: Verdict, before: &[PodCondition], now: Timestamp) -> PodCondition {
    let status = if verdict.so { "True" } else { "False" };
    let same = before.iter().find(|old| old.type_ == name && old.status == status);
    let given = |text: String| (!text.is_empty()).then_some(text);
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: given(verdict.reason.to_owned()),
        message: given(verdict.message),
        last_transition_time: same.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
        ..PodCondition::default()
    }
}

/// `GenerateContainersReadyCondition`.
fn containers_ready(observed: &Observed<'_>) -> Verdict {
    let Some(statuses) = observed.statuses else {
        return Verdict::not("UnknownContainerStatuses", String::new());
    };
    let sidecars = init_containers(observed.spec).iter().filter(|container| is_sidecar(container));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&observed.spec.containers) {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match observed.phase {
        Phase::Succeeded if unknown.is_empty() => return Verdict::not("PodCompleted", String::new()),
        Phase::Failed => return Verdict::not("PodFailed", String::new()),
        _ => {}
    }
    match complaint(&unknown, &unready, "unready") {
        Some(message) => Verdict::not("ContainersNotReady", message),
        None => SO,
    }
}

/// `GeneratePodInitializedCondition`.
fn initialized(observed: &Observed<'_>) -> Verdict {
    let init = init_containers(observed.spec);
    let Some(statuses) = observed.statuses else {
        return if init.is_empty() { SO } else { Verdict::not("UnknownContainerStatuses", String::new()) };
    };
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in init {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if observed.phase == Phase::Succeeded && unknown.is_empty() {
        return Verdict { so: true, reason: "PodCompleted", message: String::new() };
    }
    if any_app_started(observed.spec, statuses) {
        return SO;
    }
    match complaint(&unknown, &incomplete, "incomplete") {
        Some(message) => Verdict::not("ContainersNotInitialized", message),
        None => SO,
    }
}

/// `HasAnyRegularContainerStarted`: once an app container has run, a sidecar that starts again does not undo the
/// initialization. One that only waits to run again may do so in a new sandbox.
fn any_app_started(spec: &PodSpec, statuses: &[ContainerStatus]) -> bool {
    let mut apps = spec.containers.iter().filter_map(|container| find(statuses, &container.name));
    apps.any(|status| matches!(state(status), State::Running | State::Terminated(_)))
}

/// `containers with unknown status: [a b]`, as Go prints a list.
fn complaint(unknown: &[&str], others: &[&str], what: &str) -> Option<String> {
    let part = |names: &[&str], what: &str| {
        (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
    };
    let parts: Vec<String> = [part(unknown, "unknown"), part(others, what)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixture::*, restart::Role},
        *,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// `Type=Status` or `Type=Status(Reason: message)` of each condition.
    fn shown(conditions: &[PodCondition]) -> Vec<String> {
        let show = |c: &PodCondition| {
            let reason = c.reason.as_deref().map(|r| format!("({r})")).unwrap_or_default();
            format!("{}={}{reason}{}", c.type_, c.status, c.message.as_deref().unwrap_or_default())
        };
        conditions.iter().map(show).collect()
    }

    fn of(containers: &[(Role, ContainerStatus)], phase: Phase) -> Vec<String> {
        let pod = pod("Always", containers);
        let spec = pod.spec.unwrap();
        let statuses: Vec<ContainerStatus> = containers.iter().map(|(_, status)| status.clone()).collect();
        let observed = Observed {
            spec: &spec,
            statuses: Some(&statuses),
            phase,
            sandbox: true,
            unschedulable: None,
            before: &[],
        };
        shown(&conditions(&observed, at(0)))
    }

    #[test]
    fn a_running_pod_is_ready() {
        let all = of(&[(Role::App, ready("a")), (Role::Sidecar, ready("s"))], Phase::Running);
        assert_eq!(
            all,
            [
                "PodReadyToStartContainers=True",
                "Initialized=True",
                "Ready=True",
                "ContainersReady=True",
                "PodScheduled=True"
            ]
        );
    }

    #[test]
    fn what_is_not_ready_is_named() {
        let all = of(&[(Role::App, ready("a")), (Role::App, running("b"))], Phase::Running);
        assert_eq!(all[2], "Ready=False(ContainersNotReady)containers with unready status: [b]");
        let init = of(
            &[
                (Role::Init, running("i")),
                (Role::Sidecar, not_started("s")),
                (Role::App, waiting("a", "PodInitializing")),
            ],
            Phase::Pending,
        );
        assert_eq!(
            init[1],
            "Initialized=False(ContainersNotInitialized)containers with incomplete status: [i s]"
        );
        assert_eq!(init[3], "ContainersReady=False(ContainersNotReady)containers with unready status: [s a]");
    }

    #[test]
    fn a_finished_pod_says_how() {
        let done = of(&[(Role::App, ended("a", 0))], Phase::Succeeded);
        assert_eq!(
            done[1..4],
            [
                "Initialized=True(PodCompleted)",
                "Ready=False(PodCompleted)",
                "ContainersReady=False(PodCompleted)"
            ]
        );
        let failed = of(&[(Role::App, ended("a", 1))], Phase::Failed);
        assert_eq!(failed[2], "Ready=False(PodFailed)");
    }

    #[test]
    fn a_sidecar_that_starts_again_does_not_undo_the_initialization() {
        let all = of(&[(Role::Sidecar, not_started("s")), (Role::App, running("a"))], Phase::Running);
        assert_eq!(all[1], "Initialized=True");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let pod = pod("Always", &[(Role::App, ready("a"))]);
        let spec = pod.spec.unwrap();
        let ready_now = [ready("a")];
        let observed = Observed {
            spec: &spec,
            statuses: Some(&ready_now),
            phase: Phase::Running,
            sandbox: true,
            unschedulable: None,
            before: &[],
        };
        let first = conditions(&observed, at(0));
        let unready = [running("a")];
        let later = conditions(&Observed { statuses: Some(&unready), before: &first, ..observed }, at(60));
        let time = |name: &str| {
            let found = later.iter().find(|c| c.type_ == name).unwrap();
            found.last_transition_time.clone().unwrap().0
        };
        assert_eq!((time("Initialized"), time("Ready")), (at(0), at(60)));
    }

    #[test]
    fn a_pod_without_a_node_is_only_not_scheduled() {
        let spec = PodSpec::default();
        let observed = Observed {
            spec: &spec,
            statuses: None,
            phase: Phase::Pending,
            sandbox: false,
            unschedulable: Some("0/2 nodes match"),
            before: &[],
        };
        assert_eq!(
            shown(&conditions(&observed, at(0))),
            ["PodScheduled=False(Unschedulable)0/2 nodes match"]
        );
    }
}
