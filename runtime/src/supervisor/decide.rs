//! What a pod needs next: a pure function of what its manifest says and what was seen of its containers. The
//! rules are the kubelet's (`computePodActions`, `getPhase`, `doBackOff`).

use std::{collections::BTreeMap, time::Duration};

use flatpod::status::{RestartPolicy, Role, is_sidecar, should_restart};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::{container::ephemeral, state::ExitRecord};

/// The first wait that is longer than none.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait, unless the node says otherwise.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// However little time is left, a container gets this much between being asked to end and being killed.
pub(super) const FLOOR: SignedDuration = SignedDuration::from_secs(2);

/// One container, as seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: State,
    /// Restarts in a row that count for the back-off.
    pub(super) backoff_step: u32,
    /// It could not even be made; not again before this.
    pub(super) held_until: Option<Timestamp>,
    /// When it was asked to end.
    pub(super) asked_at: Option<Timestamp>,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It was never started.
    Never,
    /// It runs, or is about to. `started` is what the next container may count on.
    Active { started: bool },
    /// It has ended.
    Ended(ExitRecord),
}

/// What decisions are made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) now: Timestamp,
    pub(super) sandbox_ready: bool,
    pub(super) seen: BTreeMap<String, Seen>,
    pub(super) longest_wait: Duration,
}

/// Something to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    MakeSandbox,
    Start { name: String, backoff_step: u32 },
    Ask { name: String },
    Kill { name: String },
}

/// What comes of the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    /// Look again at this time, whatever happens.
    pub(super) wake_at: Option<Timestamp>,
    /// Containers that wait to be restarted, and for how long they wait in all.
    pub(super) backing_off: BTreeMap<String, Duration>,
    /// Nothing of the pod will run again by itself.
    pub(super) finished: Option<Outcome>,
}

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
}

/// Every container, init containers first, in the order of the manifest.
pub(super) fn containers(spec: &PodSpec) -> impl DoubleEndedIterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

impl Facts<'_> {
    /// What to do for a pod that shall run.
    pub(super) fn decide(&self) -> Decision {
        let mut decision = Decision::default();
        if !self.sandbox_ready {
            decision.actions.push(Action::MakeSandbox);
            return decision;
        }
        // Beside everything else, and once.
        for name in self.ephemeral().filter(|name| self.state_of(name) == &State::Never) {
            self.start(name, 0, &mut decision);
        }
        let initialized = self.spec.containers.iter().any(|app| self.state(app) != &State::Never);
        for init in self.spec.init_containers.iter().flatten() {
            if self.consider_init(init, initialized, &mut decision) == Gate::Closed {
                return decision;
            }
        }
        let kept = self.spec.containers.iter().filter(|app| self.consider_app(app, &mut decision)).count();
        if kept == 0 {
            let succeeded = self.spec.containers.iter().all(|app| exit_code(self.state(app)) == Some(0));
            let outcome = if succeeded { Outcome::Succeeded } else { Outcome::Failed };
            decision = Decision { finished: Some(outcome), ..Decision::default() };
        }
        decision
    }

    /// What to do for a pod that shall end by `deadline`: apps first, then sidecars, the last one first. Ephemeral
    /// containers end with the apps, but no sidecar waits for them.
    pub(super) fn decide_end(&self, deadline: Timestamp) -> Decision {
        let mut decision = Decision::default();
        let mut waits_for_later = false;
        let is_active = |name: &str| matches!(self.state_of(name), State::Active { .. });
        for name in self.ephemeral().filter(|name| is_active(name)) {
            self.ask_or_kill(name, deadline, &mut decision);
        }
        let is_init = |container: &Container| {
            self.spec.init_containers.iter().flatten().any(|init| init.name == container.name)
        };
        for container in containers(self.spec).rev().filter(|one| is_active(&one.name)) {
            let sidecar = is_init(container) && is_sidecar(container);
            let is_asked = self.seen.get(&container.name).is_some_and(|seen| seen.asked_at.is_some());
            if sidecar && waits_for_later && !is_asked && self.now < deadline {
                decision.wake_at(deadline);
            } else {
                self.ask_or_kill(&container.name, deadline, &mut decision);
            }
            waits_for_later = true;
        }
        decision
    }

    fn ask_or_kill(&self, name: &str, deadline: Timestamp, decision: &mut Decision) {
        let asked_at = self.seen.get(name).and_then(|seen| seen.asked_at);
        let name = name.to_owned();
        match asked_at.map(|asked_at| deadline.max(asked_at + FLOOR)) {
            None => decision.actions.push(Action::Ask { name }),
            Some(kill_at) if self.now >= kill_at => decision.actions.push(Action::Kill { name }),
            Some(kill_at) => decision.wake_at(kill_at),
        }
    }

    fn ephemeral(&self) -> impl Iterator<Item = &str> {
        ephemeral(self.spec).map(|one| one.name.as_str())
    }

    fn consider_init(&self, init: &Container, initialized: bool, decision: &mut Decision) -> Gate {
        let sidecar = is_sidecar(init);
        match self.state(init) {
            _ if initialized && !sidecar => Gate::Open,
            State::Never => {
                self.start(&init.name, 0, decision);
                Gate::when(initialized)
            }
            State::Active { started } => Gate::when(initialized || sidecar && *started),
            State::Ended(ended) if sidecar => {
                self.restart(init, ended, decision);
                Gate::when(initialized)
            }
            State::Ended(ended) if ended.exit_code == 0 => Gate::Open,
            State::Ended(ended) if self.runs_again(Role::Init, ended) => {
                self.restart(init, ended, decision);
                Gate::Closed
            }
            State::Ended(_) => {
                *decision = Decision { finished: Some(Outcome::Failed), ..Decision::default() };
                Gate::Closed
            }
        }
    }

    /// Answers whether the pod goes on for this container's sake.
    fn consider_app(&self, app: &Container, decision: &mut Decision) -> bool {
        match self.state(app) {
            State::Never => {
                self.start(&app.name, 0, decision);
                true
            }
            State::Active { .. } => true,
            State::Ended(ended) => {
                let again = self.runs_again(Role::App, ended);
                if again {
                    self.restart(app, ended, decision);
                }
                again
            }
        }
    }

    fn restart(&self, container: &Container, ended: &ExitRecord, decision: &mut Decision) {
        let step = self.seen.get(&container.name).map_or(0, |seen| seen.backoff_step);
        let ran =
            ended.started_at.map_or(SignedDuration::ZERO, |from| ended.finished_at.duration_since(from));
        let long = SignedDuration::try_from(self.longest_wait * 2).unwrap_or(SignedDuration::MAX);
        let step = if ran > long { 0 } else { step };
        let wait = backoff(step, self.longest_wait);
        let at = ended.finished_at + wait;
        if self.now < at {
            decision.wake_at(at);
            decision.backing_off.insert(container.name.clone(), wait);
        } else {
            self.start(&container.name, step + 1, decision);
        }
    }

    fn start(&self, name: &str, backoff_step: u32, decision: &mut Decision) {
        match self.seen.get(name).and_then(|seen| seen.held_until) {
            Some(until) if self.now < until => decision.wake_at(until),
            _ => decision.actions.push(Action::Start { name: name.to_owned(), backoff_step }),
        }
    }

    fn runs_again(&self, role: Role, ended: &ExitRecord) -> bool {
        should_restart(RestartPolicy::of(self.spec), role, ended.exit_code)
    }

    fn state(&self, container: &Container) -> &State {
        self.state_of(&container.name)
    }

    fn state_of(&self, name: &str) -> &State {
        self.seen.get(name).map_or(&State::Never, |seen| &seen.state)
    }
}

/// Whether the next container may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

impl Gate {
    fn when(open: bool) -> Self {
        if open { Self::Open } else { Self::Closed }
    }
}

impl Decision {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }
}

/// How long to wait before the restart after `step` earlier ones: none, 10 s, 20 s, 40 s, up to the longest.
pub(super) fn backoff(step: u32, longest: Duration) -> Duration {
    match step.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            let first = FIRST_WAIT.min(longest);
            first.checked_mul(2_u32.saturating_pow(doublings.min(16))).unwrap_or(longest).min(longest)
        }
    }
}

fn exit_code(state: &State) -> Option<i32> {
    match state {
        State::Ended(ended) => Some(ended.exit_code),
        State::Never | State::Active { .. } => None,
    }
}

#[cfg(test)]
mod tests;
