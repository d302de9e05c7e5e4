//! `node`: simulated nodes, each with a network namespace and CNI directories of its own.

use std::{
    fs,
    io::{self, Write as _},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use flatpod::workload;
use netns_fixtures::NetNs;

use super::{Found, delete, up};
use crate::{
    cgroup::Cgroup,
    cni::Network,
    controller,
    image::{Store, mounted},
    log::LimitsArgs,
    placement,
    sandbox::{pin, unpin},
    seccomp::SeccompArgs,
    state::{NodeRecord, Root},
    supervisor,
};

/// Pods of nodes that are deleted have this many seconds.
const GRACE: u64 = 1;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Make a simulated node
    Create(CreateArgs),
    /// List simulated nodes
    Ls,
    /// Kill nodes' agents and pull their cables
    ///
    /// What runs there goes on, but is not known to the others. After the node's --node-grace the pods of workloads are
    /// replaced on other nodes; bare pods and those of daemon sets are not.
    Fail {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Plug cables in again and start agents again
    Heal {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// Where flatnetd is [default: beside flatpod]
        #[arg(long, value_name = "DIR")]
        bin_dir: Option<PathBuf>,
    },
    /// Delete simulated nodes
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// And the pods on them
        #[arg(long)]
        force: bool,
    },
}

/// What the node is like.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// Where its CNI configuration is [default: net.d in the node's own directory]
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are [default: /opt/cni/bin and /usr/lib/cni]
    #[arg(long, value_name = "DIR")]
    cni_bin_dir: Vec<PathBuf>,
    /// Its own addresses, which probes come from
    #[arg(long, value_name = "IP", default_values = ["192.0.2.1", "2001:db8::1"])]
    address: Vec<IpAddr>,
    /// The longest wait in seconds before a container is restarted
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    max_container_restart_period: Option<u64>,
    #[command(flatten)]
    log: LimitsArgs,
    #[command(flatten)]
    seccomp: SeccompArgs,
}

/// Does it.
pub(crate) fn run(root: &Root, verb: &NodeVerb) -> Result<ExitCode> {
    match verb {
        NodeVerb::Create(args) => {
            let record = create(root, args)?;
            let conf = record.cni_conf_dir.display();
            say(&format!("node/{} created: CNI configuration goes to {conf}", record.name))?;
        }
        NodeVerb::Ls => {
            for name in root.nodes()? {
                say(&name)?;
            }
        }
        NodeVerb::Fail { names } => {
            for name in names {
                up::fail(root, name)?;
                say(&format!("node/{name} failed"))?;
            }
        }
        NodeVerb::Heal { names, bin_dir } => {
            for name in names {
                up::heal(root, name, bin_dir.as_deref())?;
                say(&format!("node/{name} healed"))?;
            }
        }
        NodeVerb::Delete { names, force } => {
            for name in names {
                remove(root, name, *force)?;
                say(&format!("node/{name} deleted"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(root: &Root, args: &CreateArgs) -> Result<NodeRecord> {
    let name = &args.name;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(plain)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        bail!("{name:?} is no node name: small letters, digits and - inside, at most 63");
    }
    if root.nodes()?.contains(name) {
        bail!("node/{name} exists");
    }
    let dir = root.node(name);
    let mut record = dir.simulated();
    if let Some(conf) = &args.cni_conf_dir {
        record.cni_conf_dir.clone_from(conf);
    }
    if !args.cni_bin_dir.is_empty() {
        record.cni_bin_dirs.clone_from(&args.cni_bin_dir);
    }
    record.max_restart_period = args.max_container_restart_period;
    record.log = args.log.limits();
    record.seccomp = args.seccomp.profile();
    record.addresses.clone_from(&args.address);
    fs::create_dir_all(&record.cni_conf_dir)
        .with_context(|| format!("create {}", record.cni_conf_dir.display()))?;
    let net = dir.path().join("net");
    // What an earlier, unfinished attempt left.
    unpin(&net)?;
    let ns = NetNs::new()?;
    ns.own(&record.addresses)?;
    pin(&ns.path(), &net)?;
    dir.put(&record)?;
    Ok(record)
}

fn remove(root: &Root, name: &str, force: bool) -> Result<()> {
    let dir = root.node(name);
    dir.record()?;
    if !force {
        let count = pods_on(root, name)?.len();
        if count > 0 {
            bail!("node/{name} has {count} pods: delete them, or say --force");
        }
    }
    // From here on it gets no pods, whoever is about to make one.
    let names = root.lock_names()?;
    dir.put_leaving()?;
    drop(names);
    let pods = pods_on(root, name)?;
    delete::delete(root, &pods, Some(GRACE), true)?;
    up::stop_agent(&dir)?;
    unpin(&dir.path().join("net"))?;
    Cgroup::at(&root.cgroup().join(name))?.remove()?;
    fs::remove_dir_all(dir.path()).with_context(|| format!("remove {}", dir.path().display()))
}

fn pods_on(root: &Root, node: &str) -> Result<Vec<Found>> {
    let all = root.pods()?.into_iter().filter_map(|dir| dir.manifest().ok().map(|pod| Found { dir, pod }));
    Ok(all.filter(|one| workload::node(&one.pod) == node).collect())
}

/// Deletes everything, workloads first: they would replace their pods.
pub(crate) fn down(root: &Root) -> Result<ExitCode> {
    for workload in controller::stop(root)? {
        say(&format!("{} {:?} deleted", workload.kind().resource(), workload.name()))?;
    }
    let pods = root.pods()?.into_iter();
    let pods: Vec<Found> = pods.filter_map(|dir| dir.manifest().ok().map(|pod| Found { dir, pod })).collect();
    delete::delete(root, &pods, Some(GRACE), true)?;
    for name in root.nodes()? {
        remove(root, &name, true)?;
        say(&format!("node/{name} deleted"))?;
    }
    up::remove_fabric(root)?;
    Cgroup::at(&root.cgroup())?.remove()?;
    Ok(ExitCode::SUCCESS)
}

/// Detaches what belongs to no pod.
pub(crate) fn gc(root: &Root) -> Result<ExitCode> {
    let mut valid = vec![];
    for dir in root.pods()? {
        supervisor::ensure(root, &dir)?;
        valid.extend(dir.sandbox()?.map(|sandbox| sandbox.id));
    }
    for node in placement::nodes(root)? {
        let count =
            Network::of(&node).gc(&valid).with_context(|| format!("collect on node {}", node.name))?;
        say(&format!("node/{}: {count} attachments removed", node.name))?;
    }
    Store::new(root.images()).sweep(|| mounted(root))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("write to stdout")
}
