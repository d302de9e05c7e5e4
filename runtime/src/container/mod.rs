//! From a container of a manifest to what the kernel is asked for: an OCI runtime configuration.

mod capability;
mod environment;
mod ephemeral;
mod pod_limits;
mod quantity;
mod seccomp;
mod spec;
mod user;
mod volumes;

use std::path::Path;

use flatpod::manifest::NAMESPACE;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::{
    image::Image,
    state::{NodeRecord, Objects, PodDir, SandboxRecord},
};

pub(crate) use ephemeral::{as_container, ephemeral};
pub(crate) use pod_limits::pod_limits;
pub(crate) use quantity::quantity;
pub(crate) use seccomp::profile;
pub(crate) use spec::oci_spec;
pub(crate) use volumes::{is_mount, mount_volumes, unmount_volumes};

/// The name of the container that holds a shared PID namespace; no manifest can have it.
pub(crate) const PAUSE: &str = ".pause";
/// Where containers leave their last words, unless they say otherwise.
pub(crate) const TERMINATION_LOG: &str = "/dev/termination-log";

/// The files in `/etc` that are the pod's.
pub(crate) const POD_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Why a container cannot be made: Kubernetes' reason for waiting, and what is wrong.
#[derive(Debug)]
pub(crate) struct CannotMake {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A manifest asks for what cannot be.
pub(crate) fn config_error(error: &anyhow::Error) -> CannotMake {
    CannotMake { reason: "CreateContainerConfigError", message: format!("{error:#}") }
}

/// A pod as its containers see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodView<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) node: &'a NodeRecord,
    pub(crate) dir: &'a PodDir,
    pub(crate) sandbox: &'a SandboxRecord,
    pub(crate) objects: &'a Objects,
}

impl PodView<'_> {
    pub(crate) fn spec(&self) -> &PodSpec {
        // The store of pods has none without.
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or(NAMESPACE)
    }
}

/// All that a container's configuration is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Making<'a> {
    pub(crate) view: PodView<'a>,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Image,
    /// The run's own directory.
    pub(crate) attempt: &'a Path,
    /// The container's cgroup.
    pub(crate) cgroup: &'a Path,
    /// Where the PID namespace of the container that it looks into will be mounted, if it looks into one.
    pub(crate) target: Option<&'a Path>,
}

impl<'a> std::ops::Deref for Making<'a> {
    type Target = PodView<'a>;

    fn deref(&self) -> &PodView<'a> {
        &self.view
    }
}
