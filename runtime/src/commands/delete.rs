//! `delete`: pods and workloads go, with the time they have to.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use flatpod::{
    manifest::{self, Checked, source},
    workload,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    Found, apply, find, is_pods,
    until::until,
    workloads::{
        self,
        remove::{How, Named},
    },
};
use crate::{
    state::{Kind, Root},
    supervisor,
};

/// For a pod to go beyond the time that its containers have: the network has a say, too.
const BEYOND: Duration = Duration::from_secs(120);

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Pods; or `KIND NAME...` or `KIND/NAME...` of pods, workloads, ConfigMaps and Secrets
    names: Vec<String>,
    /// Everything that manifests describe: a file, a directory or - for standard input; may be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// Seconds that containers have between being asked to end and being killed; pods of workloads have their own
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
    /// What becomes of the pods of workloads; either way the command waits for them if they go
    #[arg(long, value_enum, default_value_t = How::Background)]
    cascade: How,
    /// Whether to wait until they are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
}

/// What was named, as namespace and name.
#[derive(Default)]
struct Wanted {
    pods: Vec<(String, String)>,
    workloads: Vec<Named>,
    others: Vec<(Kind, String, String)>,
}

/// Deletes it.
pub(crate) fn run(root: &Root, args: &DeleteArgs) -> Result<ExitCode> {
    let grace = if args.now { Some(1) } else { args.grace_period };
    if grace == Some(0) && !args.force {
        bail!("--grace-period=0 kills at once: say --force as well");
    }
    let mut wanted = Wanted::default();
    wanted.named(&args.names, &args.namespace.namespace)?;
    if args.all {
        wanted.all_pods(root, &args.namespace.namespace)?;
    }
    if !args.files.is_empty() && !wanted.described(&args.files, &args.namespace.namespace)? {
        return Ok(ExitCode::FAILURE);
    }
    if wanted.pods.is_empty() && wanted.workloads.is_empty() && wanted.others.is_empty() && !args.all {
        bail!("name the pods to delete, or say -f FILE or --all");
    }
    let found: Vec<Found> =
        wanted.pods.iter().map(|(namespace, name)| find(root, namespace, name)).collect::<Result<_>>()?;
    // Workloads first: they would replace their pods.
    workloads::remove::delete(root, &wanted.workloads, args.cascade, args.wait)?;
    delete(root, &found, grace, args.wait)?;
    for (kind, namespace, name) in &wanted.others {
        if !root.objects().remove(*kind, namespace, name)? {
            bail!("{kind} {name:?} not found");
        }
        writeln!(io::stdout(), "{kind} {name:?} deleted").context("write to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Wanted {
    fn named(&mut self, words: &[String], namespace: &str) -> Result<()> {
        // One word alone is the name of a pod.
        let first = match words {
            [one] => one.split_once('/').map(|(kind, _)| kind),
            _ => words.first().map(|word| word.split_once('/').map_or(word.as_str(), |(kind, _)| kind)),
        };
        if first.is_some_and(|kind| workload::Kind::named(kind).is_some()) {
            let named = workloads::named(words)?.into_iter();
            self.workloads.extend(named.map(|(kind, name)| (kind, namespace.to_owned(), name)));
            return Ok(());
        }
        let (kind, names) = match words.split_first() {
            Some((kind, rest)) => match kind.as_str() {
                "configmap" | "cm" => (Some(Kind::ConfigMap), rest),
                "secret" => (Some(Kind::Secret), rest),
                kind if is_pods(kind) => (None, rest),
                _ => (None, words),
            },
            None => return Ok(()),
        };
        for name in names {
            match kind {
                Some(kind) => self.others.push((kind, namespace.to_owned(), name.clone())),
                None => self.pods.push((namespace.to_owned(), name.clone())),
            }
        }
        Ok(())
    }

    fn all_pods(&mut self, root: &Root, namespace: &str) -> Result<()> {
        let pods = root.pods()?.into_iter().filter_map(|dir| dir.manifest().ok());
        let pods = pods.filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
        self.pods.extend(pods.filter_map(|pod| pod.metadata.name).map(|name| (namespace.to_owned(), name)));
        Ok(())
    }

    /// Adds what manifests describe; false where they are not to be understood, which was told.
    fn described(&mut self, files: &[PathBuf], namespace: &str) -> Result<bool> {
        let sources = source::read(files, &mut io::stdin().lock())?;
        let found = manifest::check(&sources, Some(namespace).filter(|own| *own != manifest::NAMESPACE));
        apply::tell(&found)?;
        for object in &found.objects {
            let ObjectMeta { namespace, name, .. } = object.metadata().clone();
            let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
            match object {
                Checked::Pod(_) => self.pods.push((namespace, name)),
                Checked::Workload(workload) => self.workloads.push((workload.kind(), namespace, name)),
                Checked::ConfigMap(_) => self.others.push((Kind::ConfigMap, namespace, name)),
                Checked::Secret(_) => self.others.push((Kind::Secret, namespace, name)),
            }
        }
        Ok(found.problems.is_empty())
    }
}

/// Deletes pods, all at once.
pub(super) fn delete(root: &Root, found: &[Found], grace: Option<u64>, wait: bool) -> Result<()> {
    for one in found {
        supervisor::terminate(root, &one.dir, &one.pod, grace)?;
        let name = one.pod.metadata.name.as_deref().unwrap_or_default();
        writeln!(io::stdout(), "pod {name:?} deleted").context("write to stdout")?;
    }
    for one in found.iter().filter(|_| wait) {
        let name = one.pod.metadata.name.as_deref().unwrap_or_default();
        let patience = Duration::from_secs(one.dir.deletion()?.map_or(0, |one| one.grace_seconds)) + BEYOND;
        let gone = until(
            patience,
            || one.dir.manifest().map_or(Ok(()), |_| supervisor::ensure(root, &one.dir)),
            || Ok((!one.dir.path().exists()).then_some(())),
        )?;
        gone.with_context(|| format!("pod {name} is not gone within {patience:?}: see its events"))?;
    }
    Ok(())
}
