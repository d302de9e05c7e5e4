//! The verbs of the command line that are about pods and nodes, one module each.

pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod cp;
pub(crate) mod debug;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod port_forward;
pub(crate) mod run;
pub(crate) mod top;
mod until;
pub(crate) mod up;
pub(crate) mod wait;
mod watch;
pub(crate) mod workloads;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use flatpod::{manifest::NAMESPACE, status::is_over, workload::Kind};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use crate::{
    container::{as_container, ephemeral},
    controller,
    state::{Attempt, PodDir, Root},
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
    /// Make what manifests say, unless one of their objects is there already
    ///
    /// As apply, but an object of a name that is there is an error (AlreadyExists), and then nothing is made.
    #[command(after_help = "Examples:\n  flatpod create -f web.yaml\n\n\
        Exit status: 0 done, 1 an object is there, is not valid or could not be made, 2 wrong usage.")]
    Create(apply::ApplyArgs),
    /// Run an image as a pod
    #[command(after_help = "Examples:\n  flatpod run web --image builtin/tools:v1 -- netexec\n  \
        flatpod run shell -it --rm --image busybox --restart Never\n\n\
        Exit status: attached, that of the container.")]
    Run(run::RunArgs),
    /// Show pods, workloads, nodes or events
    #[command(after_help = "Examples:\n  flatpod get pods -o wide -l app=web\n  flatpod get deployments\n  \
        flatpod get sts/db -o yaml\n  flatpod get all")]
    Get(get::GetArgs),
    /// Show what happened to pods and workloads, in the order of time
    #[command(
        after_help = "Examples:\n  flatpod events\n  flatpod events web -w\n  flatpod events --types Warning -A"
    )]
    Events(get::EventsArgs),
    /// Show all that is known of pods: containers, how the last run of each ended, conditions, volumes, events
    Describe(describe::DescribeArgs),
    /// Show what pods use of CPUs, in thousandths, and of memory, without files that nobody has used for a while
    #[command(after_help = "Examples:\n  flatpod top\n  flatpod top web --containers")]
    Top(top::TopArgs),
    /// Wait until pods are as they should be
    #[command(after_help = "Examples:\n  flatpod wait --for=condition=Ready web db --timeout 60s\n  \
        flatpod wait --for=jsonpath='{.status.phase}'=Succeeded pod/once\n  \
        flatpod wait --for=delete pod/web\n\n\
        Exit status: 0 all are so, 1 one was not in time or is not there, 2 wrong usage.")]
    Wait(wait::WaitArgs),
    /// Print what containers wrote to stdout and stderr, as it came
    #[command(
        after_help = "Examples:\n  flatpod logs web -c app -f\n  flatpod logs web --all-containers --prefix\n  \
        flatpod logs -l app=web --prefix --since 5m\n\n\
        Exit status: 0 done, 1 a container is not there or has not been started, 2 wrong usage."
    )]
    Logs(logs::LogsArgs),
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// Copy files and directories into a container, or out of it
    ///
    /// Nothing runs in the container, so that its image needs no tar. A copy that goes in is the container's user's, one
    /// that comes out is yours; modes are kept, but for set-user-ID bits. Paths are the container's: its links do not
    /// lead out of it. Links go in as they are; links, pipes, sockets and devices that would come out are left out, with a warning.
    #[command(
        after_help = "Examples:\n  flatpod cp site web:/srv\n  flatpod cp web:/var/log/app.log . -c app\n\n\
        A relative path in a container begins in its working directory.\n\n\
        Exit status: 0 done, 1 it could not be copied, 2 wrong usage."
    )]
    Cp(cp::CpArgs),
    /// Look into a running pod with a container of another image
    ///
    /// The container is added to the pod: it has the pod's addresses, host name and shared memory, files of its own,
    /// and its own processes, or with --target those of another container, whose files are then below /proc/1/root.
    /// It has no resources of its own, is never started again, counts for nothing, and ends with the pod.
    ///
    /// The default image, builtin/tools:v1, has no shell. It has small programs to look, to connect and to serve:
    /// ns, env, cat, connect, netexec, ... (`flatpod tools --help`). Any image in the local store can be used: --image.
    #[command(after_help = "Examples:\n  flatpod debug web -- connect 10.22.0.3:80\n  \
        flatpod debug -it web --image busybox --target app\n  \
        flatpod debug web -c sniffer --image tools --profile netadmin -- tcpdump -ni eth0")]
    Debug(debug::DebugArgs),
    /// Attach to a container that runs: see what it writes, and write what it reads
    ///
    /// Input needs `stdin: true` in the manifest, a terminal `tty: true`. Several may be attached at once. Leaving, by
    /// Ctrl-P Ctrl-Q from a terminal, leaves the container running. Who reads too slowly misses output and is told so:
    /// the log has all of it.
    #[command(after_help = "Examples:\n  flatpod attach web\n  flatpod attach shell -it\n  \
        echo hello | flatpod attach reader -i\n\n\
        Exit status: that of the container, 0 after leaving it, 1 when it cannot be attached to.")]
    Attach(attach::AttachArgs),
    /// Make ports here lead to ports of a pod
    ///
    /// Connections come from inside the pod, over its loopback: servers that listen on 127.0.0.1 or ::1 alone are reached
    /// as well, and no policy or plugin is in between. Ends with Ctrl-C, or when the pod is gone.
    #[command(
        after_help = "Examples:\n  flatpod port-forward web 8080:80\n  flatpod port-forward deployment/web :http\n  \
        flatpod port-forward web 5432 9090:metrics --address 0.0.0.0\n\n\
        Exit status: 0 asked to end, 1 the pod is gone, or a port cannot be listened on."
    )]
    PortForward(port_forward::PortForwardArgs),
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
    /// Load, pull, import, save, list and remove images
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
        if let Self::Apply(args) | Self::Create(args) = self
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
            Self::Create(args) => apply::create(root, args),
            Self::Run(args) => run::run(root, args),
            Self::Get(args) => get::run(root, args),
            Self::Events(args) => get::run(root, &args.as_get()),
            Self::Describe(args) => describe::run(root, args),
            Self::Top(args) => top::run(root, args),
            Self::Wait(args) => wait::run(root, args),
            Self::Logs(args) => logs::run(root, args),
            Self::Exec(args) => exec::run(root, args),
            Self::Cp(args) => cp::run(root, args),
            Self::Attach(args) => attach::run(root, args),
            Self::PortForward(args) => port_forward::run(root, args),
            Self::Debug(args) => debug::run(root, args),
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

/// What a container that a command makes has beside its image.
#[derive(Debug, Args)]
pub(crate) struct OwnContainerArgs {
    /// Variables, as NAME=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// Keep stdin open, and attach
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// Give it a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Attach to it [default: when its stdin is open]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    attach: Option<bool>,
}

impl OwnContainerArgs {
    /// Whether the command stays attached to it.
    pub(crate) fn is_attached(&self) -> bool {
        self.attach.unwrap_or(self.stdin)
    }

    /// Its variables.
    pub(crate) fn variables(&self) -> Vec<EnvVar> {
        let variable = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
        };
        self.env.iter().map(variable).collect()
    }
}

/// Which container, for the verbs that look into one.
#[derive(Debug, Args)]
pub(crate) struct ContainerArg {
    /// The pod
    pub(crate) pod: String,
    /// The container [default: the first]
    #[arg(long, short)]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

impl ContainerArg {
    /// The pod.
    pub(crate) fn find(&self, root: &Root) -> Result<Found> {
        find(root, &self.namespace.namespace, &self.pod)
    }
}

/// Whether the word means pods.
fn is_pods(kind: &str) -> bool {
    matches!(kind, "pod" | "pods" | "po")
}

/// The pods that are named, with or without a word for what they are before them.
fn pod_names(words: &[String]) -> &[String] {
    match words.split_first() {
        Some((kind, rest)) if is_pods(kind) => rest,
        _ => words,
    }
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
    pub(crate) fn container(&self, wanted: Option<&str>) -> Result<Container> {
        let spec = self.pod.spec.as_ref().context("a pod has a spec")?;
        let own = spec.containers.iter().chain(spec.init_containers.iter().flatten()).cloned();
        let mut all: Vec<Container> = own.chain(ephemeral(spec).map(as_container)).collect();
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        let known: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
        let at = match wanted {
            None => 0,
            Some(wanted) => known.iter().position(|one| *one == wanted).with_context(|| {
                format!("container {wanted} is not valid for pod {name}; it has: {}", known.join(", "))
            })?,
        };
        if all.is_empty() {
            bail!("pod {name} has no containers");
        }
        Ok(all.swap_remove(at))
    }

    /// The names of its containers: init containers, its own, debuggers.
    pub(crate) fn containers(&self) -> Result<Vec<String>> {
        let spec = self.pod.spec.as_ref().context("a pod has a spec")?;
        let first = spec.init_containers.iter().flatten().map(|one| one.name.clone());
        let own = spec.containers.iter().map(|one| one.name.clone());
        let debuggers = spec.ephemeral_containers.iter().flatten().map(|one| one.name.clone());
        Ok(first.chain(own).chain(debuggers).collect())
    }

    /// The phase in which the pod has ended, if it has.
    pub(crate) fn last_phase(&self) -> Result<Option<String>> {
        Ok(self.dir.status()?.filter(is_over).and_then(|status| status.phase))
    }

    /// The present run of a container, if it runs.
    pub(crate) fn running(&self, container: &str) -> Result<Option<Attempt>> {
        let Some(record) = self.dir.container(container)? else { return Ok(None) };
        let attempt = self.dir.attempt(container, record.attempt);
        let runs = attempt.started()?.is_some() && attempt.ended()?.is_none();
        Ok(runs.then_some(attempt))
    }
}
