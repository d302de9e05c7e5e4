//! The phase of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec};

use super::{
    State, find, init_containers, is_sidecar,
    restart::{RestartPolicy, Role, should_restart},
    state,
};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not all of its containers have been started.
    Pending,
    /// All have been, and one runs or will run again.
    Running,
    /// All have ended with 0 and will not run again.
    Succeeded,
    /// All have ended, one of them otherwise, and will not run again.
    Failed,
}

impl Phase {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// The phase of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed].into_iter().find(|p| p.as_str() == name)
    }

    /// Whether the pod is over: such a phase is never left.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What the phase depends on besides the containers.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhaseFacts {
    /// The phase so far, if there was one.
    pub before: Option<Phase>,
    /// No container will be started again: the pod is being deleted, or its deadline has passed.
    pub ending: bool,
    /// An app container has been started in this sandbox.
    pub initialized: bool,
}

/// The phase, by `getPhase` of `pkg/kubelet/kubelet_pods.go`.
///
/// `statuses` are those of init containers and app containers together.
#[must_use]
pub fn phase(spec: &PodSpec, statuses: &[ContainerStatus], facts: PhaseFacts) -> Phase {
    if let Some(over) = facts.before.filter(|phase| phase.is_terminal()) {
        return over;
    }
    let policy = RestartPolicy::of(spec);
    let init = initialization(spec, statuses, policy);
    let mut count = sidecars(spec, statuses);
    count.apps(spec, statuses, policy);
    if init.failed > 0 {
        return Phase::Failed;
    }
    let initializing = init.pending > 0 || (count.pending_sidecars > 0 && !facts.initialized);
    if initializing || count.waiting > 0 {
        return Phase::Pending;
    }
    if count.running > 0 && count.unknown == 0 {
        return Phase::Running;
    }
    if count.running == 0 && count.stopped > 0 && count.unknown == 0 {
        if !facts.ending && count.stopped != count.stopped_for_good {
            return Phase::Running;
        }
        return if count.stopped == count.succeeded { Phase::Succeeded } else { Phase::Failed };
    }
    Phase::Pending
}

/// Init containers that must end before the others start.
#[derive(Default)]
struct Initialization {
    pending: usize,
    /// Ended in failure, and not to be started again.
    failed: usize,
}

fn initialization(spec: &PodSpec, statuses: &[ContainerStatus], policy: RestartPolicy) -> Initialization {
    let mut init = Initialization::default();
    for container in init_containers(spec).iter().filter(|container| !is_sidecar(container)) {
        let ended = match find(statuses, &container.name).map(state) {
            Some(State::Terminated(end) | State::Waiting(Some(end))) => end,
            None | Some(State::Running | State::Waiting(None) | State::Unknown) => {
                init.pending += 1;
                continue;
            }
        };
        if ended.exit_code != 0 && !should_restart(policy, Role::Init, ended.exit_code) {
            init.failed += 1;
        }
    }
    init
}

/// Sidecars and app containers.
#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
    pending_sidecars: usize,
}

fn sidecars(spec: &PodSpec, statuses: &[ContainerStatus]) -> Count {
    let mut count = Count::default();
    for container in init_containers(spec).iter().filter(|container| is_sidecar(container)) {
        let Some(status) = find(statuses, &container.name) else {
            count.unknown += 1;
            continue;
        };
        match state(status) {
            State::Running => {
                count.pending_sidecars += usize::from(status.started != Some(true));
                count.running += 1;
            }
            // One that has ended does not count for the phase.
            State::Terminated(_) | State::Waiting(Some(_)) => {}
            State::Waiting(None) => {
                count.pending_sidecars += 1;
                count.waiting += 1;
            }
            State::Unknown => {
                count.pending_sidecars += 1;
                count.unknown += 1;
            }
        }
    }
    count
}

impl Count {
    fn apps(&mut self, spec: &PodSpec, statuses: &[ContainerStatus], policy: RestartPolicy) {
        for container in &spec.containers {
            match find(statuses, &container.name).map(state) {
                None | Some(State::Unknown) => self.unknown += 1,
                Some(State::Running) => self.running += 1,
                Some(State::Waiting(None)) => self.waiting += 1,
                Some(State::Terminated(end)) => {
                    self.ended(end.exit_code, policy);
                    self.succeeded += usize::from(end.exit_code == 0);
                }
                Some(State::Waiting(Some(end))) => self.ended(end.exit_code, policy),
            }
        }
    }

    fn ended(&mut self, exit_code: i32, policy: RestartPolicy) {
        self.stopped += 1;
        self.stopped_for_good += usize::from(!should_restart(policy, Role::App, exit_code));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    fn phase_of(policy: &str, containers: &[(Role, ContainerStatus)], facts: PhaseFacts) -> Phase {
        let pod = pod(policy, containers);
        let statuses: Vec<ContainerStatus> = containers.iter().map(|(_, status)| status.clone()).collect();
        phase(&pod.spec.unwrap(), &statuses, facts)
    }

    #[test]
    fn phases_of_pods_without_init_containers() {
        use Phase::{Failed, Pending, Running, Succeeded};
        let crashed = || crash_loop("a", 1, 2);
        let cases: [(&str, Vec<ContainerStatus>, Phase); 14] = [
            ("Always", vec![running("a"), running("b")], Running),
            ("Always", vec![running("a"), waiting("b", "ContainerCreating")], Pending),
            ("Always", vec![running("a"), unknown("b")], Pending),
            ("Always", vec![ended("a", 0), ended("b", 1)], Running),
            ("Always", vec![crashed()], Running),
            ("Always", vec![waiting("a", "ErrImagePull")], Pending),
            ("OnFailure", vec![ended("a", 0), ended("b", 0)], Succeeded),
            ("OnFailure", vec![ended("a", 0), ended("b", 1)], Running),
            ("OnFailure", vec![ended("a", 0), running("b")], Running),
            ("OnFailure", vec![crashed()], Running),
            ("Never", vec![ended("a", 0), ended("b", 0)], Succeeded),
            ("Never", vec![ended("a", 0), ended("b", 7)], Failed),
            ("Never", vec![ended("a", 7), running("b")], Running),
            ("Never", vec![ended("a", 0), unknown("b")], Pending),
        ];
        for (policy, statuses, expected) in cases {
            let containers: Vec<_> = statuses.into_iter().map(|status| (Role::App, status)).collect();
            let found = phase_of(policy, &containers, PhaseFacts::default());
            assert_eq!(found, expected, "{policy} {containers:?}");
        }
    }

    #[test]
    fn phases_of_pods_with_init_containers() {
        use Phase::{Failed, Pending, Running};
        let app = (Role::App, waiting("app", "PodInitializing"));
        let cases = [
            ("Always", vec![(Role::Init, running("i")), app.clone()], Pending),
            ("Always", vec![(Role::Init, ended("i", 0)), app.clone()], Pending),
            ("Always", vec![(Role::Init, ended("i", 0)), (Role::App, running("app"))], Running),
            ("Never", vec![(Role::Init, ended("i", 1)), app.clone()], Failed),
            ("OnFailure", vec![(Role::Init, ended("i", 1)), app.clone()], Pending),
            ("Always", vec![(Role::Init, crash_loop("i", 1, 3)), app], Pending),
        ];
        for (policy, containers, expected) in cases {
            assert_eq!(
                phase_of(policy, &containers, PhaseFacts::default()),
                expected,
                "{policy} {containers:?}"
            );
        }
    }

    #[test]
    fn sidecars_count_while_they_start_and_not_when_they_end() {
        let sidecar = |status| (Role::Sidecar, status);
        let app = |status| (Role::App, status);
        let begun = PhaseFacts { initialized: true, ..PhaseFacts::default() };
        let starting = vec![sidecar(not_started("s")), app(waiting("app", "PodInitializing"))];
        assert_eq!(phase_of("Always", &starting, PhaseFacts::default()), Phase::Pending);
        // The sidecar starts again beside an app that runs.
        let again = vec![sidecar(not_started("s")), app(running("app"))];
        assert_eq!(phase_of("Always", &again, begun), Phase::Running);
        // The app of a job is done, the sidecar has been stopped after it.
        let done = vec![sidecar(ended("s", 137)), app(ended("app", 0))];
        assert_eq!(phase_of("Never", &done, begun), Phase::Succeeded);
        assert_eq!(phase_of("Never", &[sidecar(running("s")), app(ended("app", 0))], begun), Phase::Running);
    }

    #[test]
    fn an_ending_pod_is_over_when_its_containers_are() {
        let ending = PhaseFacts { ending: true, initialized: true, before: Some(Phase::Running) };
        assert_eq!(phase_of("Always", &[(Role::App, ended("a", 0))], ending), Phase::Succeeded);
        assert_eq!(phase_of("Always", &[(Role::App, ended("a", 143))], ending), Phase::Failed);
        assert_eq!(phase_of("Always", &[(Role::App, running("a"))], ending), Phase::Running);
    }

    #[test]
    fn a_terminal_phase_is_never_left() {
        let before = PhaseFacts { before: Some(Phase::Failed), ..PhaseFacts::default() };
        assert_eq!(phase_of("Always", &[(Role::App, running("a"))], before), Phase::Failed);
    }
}
