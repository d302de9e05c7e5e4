//! Ephemeral containers: added to a pod that runs, to look into it. They have no resources, ports, probes or hooks of
//! their own, and are never started again.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

/// The ephemeral containers of a pod, in the order in which they were added.
pub(crate) fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = &EphemeralContainer> {
    spec.ephemeral_containers.iter().flatten()
}

/// What is common to it and other containers.
pub(crate) fn as_container(one: &EphemeralContainer) -> Container {
    Container {
        name: one.name.clone(),
        image: one.image.clone(),
        image_pull_policy: one.image_pull_policy.clone(),
        command: one.command.clone(),
        args: one.args.clone(),
        env: one.env.clone(),
        security_context: one.security_context.clone(),
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        tty: one.tty,
        termination_message_path: one.termination_message_path.clone(),
        termination_message_policy: one.termination_message_policy.clone(),
        ..Container::default()
    }
}
