//! The verbs of the command line that are about pods and nodes, one module each.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod run;
pub(crate) mod up;
pub(crate) mod workloads;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use flatpod::{manifest::NAMESPACE, workload::Kind};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    controller,
    state::{PodDir, Root},
    supervisor,
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum PodVerb {
    /// Make pods, workloads, ConfigMaps and Secrets as manifests say
    ///
    /// Workload kinds (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, ...) are expanded on this machine's nodes so
    /// that you can exercise the network with real manifests; on a cluster, use Kubernetes: the CNI plugin and agent
    /// are the same binaries there.
    ///
    /// A field that is unknown, misplaced or given twice, a value of the wrong type, a field that flatpod cannot
    /// honour and everything that Kubernetes' API server would refuse is an error that names file, line and path.
    /// All errors of all files are reported together, and then nothing is made. Fields that have no effect here are
    /// warnings.
    #[command(
        after_help = "Examples:\n  flatpod apply -f web.yaml\n  flatpod apply --dry-run -f manifests/ -o yaml\n  \
        kubectl get pod web -o json | flatpod apply -f -\n\n\
        Exit status: 0 done, 1 an object is not valid or could not be made, 2 wrong usage."
    )]
    Apply(apply::ApplyArgs),
    /// Run an image as a pod
    Run(run::RunArgs),
    /// Show pods, workloads, nodes or events
    #[command(after_help = "Examples:\n  flatpod get pods -o wide -l app=web\n  flatpod get deployments\n  \
        flatpod get sts/db -o yaml\n  flatpod get all")]
    Get(get::GetArgs),
    /// Print a container's output
    Logs(logs::LogsArgs),
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// Delete pods, workloads, ConfigMaps and Secrets
    #[command(after_help = "Examples:\n  flatpod delete pod web\n  flatpod delete deployment/web\n  \
        flatpod delete rs/web --cascade=orphan\n  flatpod delete -f manifests/")]
    Delete(delete::DeleteArgs),
    /// Say how many pods a workload has
    #[command(after_help = "Examples:\n  flatpod scale deployment/web --replicas 3")]
    Scale(workloads::scale::ScaleArgs),
    /// Look at or begin the roll-out of a workload's template
    #[command(subcommand)]
    Rollout(workloads::rollout::RolloutVerb),
    /// Make, list and delete simulated nodes
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Load, import, save, list and remove images
    #[command(subcommand)]
    Image(image::ImageVerb),
    /// Make a cluster of simulated nodes on one fabric, each with a running flatnetd
    Up(up::UpArgs),
    /// Delete all pods and simulated nodes
    Down,
    /// Detach from the network what belongs to no pod, and remove layers of no image
    Gc,
    /// Prove that a pod, or two, are what pods are: what containers share, no NAT, a port space each
    ///
    /// Namespaces are compared by inode numbers, the plugins are asked (CNI CHECK), and packets are sent from inside the
    /// pods' network namespaces to servers there: what the receiver sees as their source has to be what the sender has.
    #[command(
        after_help = "Examples:\n  flatpod check web\n  flatpod check web cart\n  flatpod check web cart -o json\n\n\
        Exit status: 0 all is as it should be, 1 something is not (it is marked), 2 wrong usage."
    )]
    Check(check::CheckArgs),
}

impl PodVerb {
    /// Does it, with everything kept below `at`.
    pub(crate) fn run(&self, at: &Path) -> Result<ExitCode> {
        // Whoever only wants manifests checked need not be root, and finds nothing made.
        if let Self::Apply(args) = self
            && args.is_dry()
        {
            return apply::check(args);
        }
        let root = &Root::open(at)?;
        if !matches!(self, Self::Down) {
            controller::ensure(root)?;
        }
        match self {
            Self::Apply(args) => apply::run(root, args),
            Self::Run(args) => run::run(root, args),
            Self::Get(args) => get::run(root, args),
            Self::Logs(args) => logs::run(root, args),
            Self::Exec(args) => exec::run(root, args),
            Self::Delete(args) => delete::run(root, args),
            Self::Scale(args) => workloads::scale::run(root, args),
            Self::Rollout(verb) => workloads::rollout::run(root, verb),
            Self::Node(verb) => node::run(root, verb),
            Self::Image(verb) => image::run(root, verb),
            Self::Up(args) => up::run(root, args),
            Self::Down => node::down(root),
            Self::Gc => node::gc(root),
            Self::Check(args) => check::run(root, args),
        }
    }
}

/// Which namespace, for the verbs that look one up.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceArg {
    /// The pod's namespace
    #[arg(long, short, default_value = NAMESPACE)]
    pub(crate) namespace: String,
}

/// A pod that was asked for by name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dir: PodDir,
    pub(crate) pod: Pod,
}

/// The pod of that name, or the first one of a workload, as KIND/NAME; makes sure that it is supervised.
pub(crate) fn find(root: &Root, namespace: &str, name: &str) -> Result<Found> {
    let name = name.strip_prefix("pod/").unwrap_or(name);
    if let Some((kind, name)) = name.split_once('/').and_then(|(kind, name)| Some((Kind::named(kind)?, name)))
    {
        return workloads::first_pod(root, &workloads::find(root, kind, namespace, name)?.workload);
    }
    let not_found = || format!("pods {name:?} not found");
    let uid = root.find(namespace, name)?.with_context(not_found)?;
    let dir = root.pod(&uid);
    let pod = dir.manifest().with_context(not_found)?;
    supervisor::ensure(root, &dir)?;
    Ok(Found { dir, pod })
}

impl Found {
    /// The container of that name, or the pod's first.
    pub(crate) fn container(&self, wanted: Option<&str>) -> Result<&Container> {
        let spec = self.pod.spec.as_ref().context("a pod has a spec")?;
        let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        match wanted {
            None => all.next().with_context(|| format!("pod {name} has no containers")),
            Some(wanted) => match all.clone().find(|one| one.name == wanted) {
                Some(found) => Ok(found),
                None => {
                    let known: Vec<_> = all.map(|one| one.name.as_str()).collect();
                    bail!("container {wanted} is not valid for pod {name}; it has: {}", known.join(", "))
                }
            },
        }
    }
}
