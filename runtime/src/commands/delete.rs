//! `delete`: pods go, with the time they have to.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use netns_fixtures::wait_until;

use super::{Found, apply, find};
use crate::{
    state::{Deletion, Kind, Root},
    supervisor,
};

/// For a pod to go beyond the time that its containers have: the network has a say, too.
const BEYOND: Duration = Duration::from_secs(120);
/// What containers have unless anybody says otherwise.
const GRACE: u64 = 30;

/// Of so many looks whether a pod is gone, one is whether it has a supervisor.
const LOOKS: u32 = 100;

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Pods; or `pod NAME...`, `configmap NAME...`, `secret NAME...`
    names: Vec<String>,
    /// All pods of manifests
    #[arg(long = "filename", short)]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// Seconds that containers have between being asked to end and being killed
    #[arg(long)]
    grace_period: Option<u64>,
    /// With --grace-period=0: kill at once
    #[arg(long)]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long)]
    now: bool,
    /// All pods of the namespace
    #[arg(long)]
    all: bool,
    /// Whether to wait until they are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
}

/// Deletes it.
pub(crate) fn run(root: &Root, args: &DeleteArgs) -> Result<ExitCode> {
    let grace = if args.now { Some(1) } else { args.grace_period };
    if grace == Some(0) && !args.force {
        bail!("--grace-period=0 kills at once: say --force as well");
    }
    let mut names = match args.names.split_first() {
        Some((kind, rest)) if matches!(kind.as_str(), "configmap" | "cm" | "secret") => {
            let kind = if kind == "secret" { Kind::Secret } else { Kind::ConfigMap };
            return delete_objects(root, kind, &args.namespace.namespace, rest);
        }
        Some((kind, rest)) if matches!(kind.as_str(), "pod" | "pods" | "po") => rest.to_vec(),
        _ => args.names.clone(),
    };
    let namespace = &args.namespace.namespace;
    if args.all {
        let pods = root.pods()?.into_iter().filter_map(|dir| dir.manifest().ok());
        let pods = pods.filter(|pod| pod.metadata.namespace.as_ref() == Some(namespace));
        names.extend(pods.filter_map(|pod| pod.metadata.name));
    }
    let mut wanted: Vec<(String, String)> = names.into_iter().map(|name| (namespace.clone(), name)).collect();
    for file in &args.filename {
        for (_, text) in apply::texts(file)? {
            let found = apply::pod_names(&text)?.into_iter();
            wanted.extend(found.map(|(own, name)| (own.unwrap_or_else(|| namespace.clone()), name)));
        }
    }
    if wanted.is_empty() && !args.all {
        bail!("name the pods to delete, or say -f FILE or --all");
    }
    let found: Vec<Found> =
        wanted.iter().map(|(namespace, name)| find(root, namespace, name)).collect::<Result<_>>()?;
    delete(root, &found, grace, args.wait)?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes pods, all at once.
pub(super) fn delete(root: &Root, found: &[Found], grace: Option<u64>, wait: bool) -> Result<()> {
    for one in found {
        let spec = one.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let own = spec.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(GRACE);
        // The first word counts, but for one that leaves less time.
        let old = one.dir.deletion()?;
        let grace_seconds = grace.unwrap_or(own);
        if old.as_ref().is_none_or(|old| grace_seconds < old.grace_seconds) {
            let requested_at = old.map_or_else(Timestamp::now, |old| old.requested_at);
            one.dir.put_deletion(&Deletion { requested_at, grace_seconds })?;
        }
        supervisor::ensure(root, &one.dir)?;
        let name = one.pod.metadata.name.as_deref().unwrap_or_default();
        writeln!(io::stdout(), "pod {name:?} deleted").context("write to stdout")?;
    }
    for one in found.iter().filter(|_| wait) {
        let name = one.pod.metadata.name.as_deref().unwrap_or_default();
        let patience = Duration::from_secs(one.dir.deletion()?.map_or(0, |one| one.grace_seconds)) + BEYOND;
        let mut looks = 0_u32;
        wait_until(&format!("pod {name} to be gone"), patience, || {
            looks += 1;
            if !one.dir.path().exists() {
                return Some(Ok(()));
            }
            // A supervisor that was killed meanwhile gets a successor.
            let look = looks.is_multiple_of(LOOKS) && one.dir.manifest().is_ok();
            look.then(|| supervisor::ensure(root, &one.dir).err().map(Err)).flatten()
        })??;
    }
    Ok(())
}

fn delete_objects(root: &Root, kind: Kind, namespace: &str, names: &[String]) -> Result<ExitCode> {
    for name in names {
        if !root.objects().remove(kind, namespace, name)? {
            bail!("{kind:?} {name:?} not found");
        }
        writeln!(io::stdout(), "{kind:?} {name:?} deleted").context("write to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}
