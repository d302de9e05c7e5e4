//! Which system calls a container's processes may make.

use super::Making;
use crate::seccomp::Profile;

/// The container's own profile, or the pod's, or the node's. Who is privileged is never held to one, as with containerd.
pub(crate) fn profile(making: &Making<'_>) -> Profile {
    let pod = making.spec().security_context.as_ref();
    let own = making.container.security_context.as_ref();
    if own.is_some_and(|context| context.privileged == Some(true)) {
        return Profile::Unconfined;
    }
    let own = own.and_then(|context| context.seccomp_profile.as_ref());
    match own.or(pod.and_then(|context| context.seccomp_profile.as_ref())) {
        None => making.node.seccomp,
        Some(profile) if profile.type_ == "RuntimeDefault" => Profile::RuntimeDefault,
        Some(_) => Profile::Unconfined,
    }
}
