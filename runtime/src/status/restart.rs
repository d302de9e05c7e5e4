//! Whether a container is started again, and when.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::PodSpec,
    jiff::{SignedDuration, Timestamp},
};
use serde::{Deserialize, Serialize};

/// `restartPolicy` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// However a container ends.
    Always,
    /// If it ends with something else than 0.
    OnFailure,
    /// In no case.
    Never,
}

impl RestartPolicy {
    /// The policy of a pod; `Always` if it names none.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the others.
    Sidecar,
    /// What the pod is for.
    App,
}

/// Whether a container that has ended with `exit_code` is started again.
///
/// By `ContainerShouldRestart` of `pkg/api/v1/pod/util.go`: an init container is done once it ended with 0, and
/// `Always` means `OnFailure` for it; a sidecar is always started again.
#[must_use]
pub fn should_restart(policy: RestartPolicy, role: Role, exit_code: i32) -> bool {
    match (role, policy) {
        (Role::Sidecar, _) | (Role::App, RestartPolicy::Always) => true,
        (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure)
        | (Role::App, RestartPolicy::OnFailure) => exit_code != 0,
        (Role::Init | Role::App, RestartPolicy::Never) => false,
    }
}

/// The delays between restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffLimits {
    initial: Duration,
    max: Duration,
}

impl BackoffLimits {
    /// The kubelet's: 10 s, doubling to 5 min.
    pub const KUBELET: Self = Self { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

    /// Those with a smaller maximum, as the kubelet's `crashLoopBackOff.maxContainerRestartPeriod` sets it; the first
    /// delay is never longer than the maximum.
    #[must_use]
    pub fn capped(max: Duration) -> Self {
        Self { initial: Self::KUBELET.initial.min(max), max }
    }
}

/// The back-off of one container.
///
/// By `doBackOff` of `pkg/kubelet/kuberuntime/kuberuntime_manager.go` and `Backoff` of
/// `staging/src/k8s.io/client-go/util/flowcontrol/backoff.go`. The first restart is immediate; each later one waits,
/// counted from the end of the container; a run of more than twice the maximum forgets the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backoff {
    /// The delay before the next restart, and when the last one was.
    last: Option<(Duration, Timestamp)>,
}

impl Backoff {
    /// How long a container that ended at `finished` still has to wait; `None` if it may start.
    #[must_use]
    pub fn wait(&self, limits: BackoffLimits, finished: Timestamp, now: Timestamp) -> Option<Duration> {
        let (delay, since) = self.last?;
        if Self::forgotten(limits, finished, since) {
            return None;
        }
        // A clock that was set back makes nobody wait longer than the whole delay.
        let passed = Duration::try_from(now.duration_since(finished)).unwrap_or(Duration::ZERO);
        delay.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// The delay in force, as the message of `CrashLoopBackOff` names it.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.last.map(|(delay, _)| delay)
    }

    /// Takes note that the container that ended at `finished` is started again at `now`.
    pub fn restarted(&mut self, limits: BackoffLimits, finished: Timestamp, now: Timestamp) {
        let next = match self.last {
            Some((delay, since)) if !Self::forgotten(limits, finished, since) => (delay * 2).min(limits.max),
            _ => limits.initial,
        };
        self.last = Some((next, now));
    }

    fn forgotten(limits: BackoffLimits, finished: Timestamp, since: Timestamp) -> bool {
        finished.duration_since(since)
            > SignedDuration::try_from(limits.max * 2).unwrap_or(SignedDuration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_follow_policy_and_role() {
        use RestartPolicy::{Always, Never, OnFailure};
        use Role::{App, Init, Sidecar};
        let cases = [
            (Always, App, 0, true),
            (Always, App, 1, true),
            (OnFailure, App, 0, false),
            (OnFailure, App, 137, true),
            (Never, App, 1, false),
            (Always, Init, 0, false),
            (Always, Init, 1, true),
            (OnFailure, Init, 1, true),
            (Never, Init, 1, false),
            (Never, Sidecar, 0, true),
            (Never, Sidecar, 1, true),
        ];
        for (policy, role, exit, restarted) in cases {
            assert_eq!(should_restart(policy, role, exit), restarted, "{policy:?} {role:?} {exit}");
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// Crashes at once, `runs` times: the delay before each restart, in seconds.
    fn delays(limits: BackoffLimits, runs: usize) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..runs {
            let wait = backoff.wait(limits, at(now), at(now)).unwrap_or_default();
            delays.push(wait.as_secs());
            let finished = now;
            now += i64::try_from(wait.as_secs()).unwrap();
            assert_eq!(backoff.wait(limits, at(finished), at(now)), None);
            backoff.restarted(limits, at(finished), at(now));
        }
        delays
    }

    #[test]
    fn delays_double_up_to_five_minutes() {
        assert_eq!(delays(BackoffLimits::KUBELET, 9), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_smaller_maximum_caps_the_first_delay_too() {
        assert_eq!(delays(BackoffLimits::capped(Duration::from_secs(1)), 4), [0, 1, 1, 1]);
        assert_eq!(delays(BackoffLimits::capped(Duration::from_secs(15)), 4), [0, 10, 15, 15]);
    }

    #[test]
    fn a_run_of_more_than_ten_minutes_forgets_the_past() {
        let limits = BackoffLimits::KUBELET;
        let mut backoff = Backoff::default();
        backoff.restarted(limits, at(0), at(0));
        backoff.restarted(limits, at(1), at(11));
        assert_eq!(backoff.delay(), Some(Duration::from_secs(20)));
        // Exactly twice the maximum is not more.
        assert_eq!(backoff.wait(limits, at(611), at(611)), Some(Duration::from_secs(20)));
        assert_eq!(backoff.wait(limits, at(612), at(612)), None);
        backoff.restarted(limits, at(612), at(612));
        assert_eq!(backoff.delay(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_the_wait() {
        let mut backoff = Backoff::default();
        backoff.restarted(BackoffLimits::KUBELET, at(0), at(0));
        assert_eq!(backoff.wait(BackoffLimits::KUBELET, at(100), at(-5000)), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_supervisor_that_starts_anew_goes_on_where_the_last_one_was() {
        let mut backoff = Backoff::default();
        backoff.restarted(BackoffLimits::KUBELET, at(0), at(0));
        let stored = serde_json::to_string(&backoff).unwrap();
        assert_eq!(serde_json::from_str::<Backoff>(&stored).unwrap(), backoff);
    }
}
