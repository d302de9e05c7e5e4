//! Whether a container is started again.

use k8s_openapi::api::core::v1::PodSpec;

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
}
