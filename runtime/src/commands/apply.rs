//! `apply`: from manifests to pods and workloads.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use flatpod::manifest::{
    self, Checked, Manifest,
    source::{self, Source},
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use netns_fixtures::wait_until;

use super::workloads;
use crate::{
    admission::admit,
    state::{Kind, PodDir, Root},
    supervisor,
};

/// For a pod of the same name to go that is being deleted: its grace, and then some.
const PREDECESSOR: Duration = Duration::from_secs(600);

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file, a directory (its .yaml, .yml and .json files, sorted) or - for standard input; may be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only check the manifests
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_value_t = DryRun::None, default_missing_value = "client")]
    dry_run: DryRun,
    /// Print the objects, with defaults filled in, instead of a line for each
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The namespace of objects that name none; one that names another is refused
    #[arg(long, short)]
    namespace: Option<String>,
    /// The node of pods that name none [default: the one with the fewest pods]
    #[arg(long)]
    node: Option<String>,
}

/// As kubectl spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DryRun {
    None,
    Client,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Yaml,
    Json,
    Name,
}

impl ApplyArgs {
    /// Whether nothing is to be made.
    pub(super) fn is_dry(&self) -> bool {
        self.dry_run == DryRun::Client
    }

    fn read(&self) -> Result<Manifest> {
        let sources = source::read(&self.files, &mut io::stdin().lock())?;
        let found = manifest::check(&sources, self.namespace.as_deref());
        tell(&found)?;
        Ok(found)
    }
}

/// Checks the manifests, and shows what is right.
pub(super) fn check(args: &ApplyArgs) -> Result<ExitCode> {
    let found = args.read()?;
    let mut out = io::stdout().lock();
    show(&found.objects, args.output, "valid (dry run)", &mut out).context("write to stdout")?;
    Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the manifests and, if nothing is wrong, makes what they say.
pub(crate) fn run(root: &Root, args: &ApplyArgs) -> Result<ExitCode> {
    let found = args.read()?;
    if !found.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    put_all(root, found.objects, args.node.as_deref(), args.output, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the manifests and, if nothing is wrong and nothing of that name is there, makes what they say.
pub(crate) fn create(root: &Root, args: &ApplyArgs) -> Result<ExitCode> {
    let found = args.read()?;
    let mut fails = !found.problems.is_empty();
    for object in &found.objects {
        if exists(root, object)? {
            writeln!(
                io::stderr(),
                "error: AlreadyExists: {object}: delete it first, or change it with apply"
            )
            .context("write to stderr")?;
            fails = true;
        }
    }
    if fails {
        return Ok(ExitCode::FAILURE);
    }
    put_all(root, found.objects, args.node.as_deref(), args.output, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether there is one of that name.
fn exists(root: &Root, object: &Checked) -> Result<bool> {
    let (namespace, name) = key(object);
    let has_data = |kind| root.objects().data(kind, namespace, name).map(|data| data.is_some());
    match object {
        Checked::ConfigMap(_) => has_data(Kind::ConfigMap),
        Checked::Secret(_) => has_data(Kind::Secret),
        Checked::Pod(_) => Ok(root.find(namespace, name)?.is_some()),
        Checked::Workload(one) => Ok(root.workloads().get(one.kind(), namespace, name)?.is_some()),
    }
}

/// An object's namespace and name.
fn key(object: &Checked) -> (&str, &str) {
    let ObjectMeta { namespace, name, .. } = object.metadata();
    (namespace.as_deref().unwrap_or(manifest::NAMESPACE), name.as_deref().unwrap_or_default())
}

/// Checks one pod that was not written by the user, and makes it, which is told to `out`.
pub(super) fn run_pod(root: &Root, pod: &Pod, node: Option<&str>, out: &mut impl Write) -> Result<ExitCode> {
    let text = serde_json::to_string(pod).context("write the pod as JSON")?;
    let found = manifest::check(&[Source { name: "flatpod run".to_owned(), text }], None);
    tell(&found)?;
    if !found.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    put_all(root, found.objects, node, None, out)?;
    Ok(ExitCode::SUCCESS)
}

/// What has no effect, and everything that is wrong.
pub(super) fn tell(found: &Manifest) -> Result<()> {
    let mut err = io::stderr().lock();
    for notice in &found.notices {
        writeln!(err, "Warning: {notice}").context("write to stderr")?;
    }
    for problem in &found.problems {
        writeln!(err, "error: {problem}").context("write to stderr")?;
    }
    Ok(())
}

fn put_all(
    root: &Root,
    mut objects: Vec<Checked>,
    node: Option<&str>,
    format: Option<Format>,
    out: &mut impl Write,
) -> Result<()> {
    // Pods are filled from the others.
    objects.sort_by_key(|object| matches!(object, Checked::Pod(_) | Checked::Workload(_)));
    for object in &objects {
        let done = put(root, object, node)?;
        if format.is_none() {
            writeln!(out, "{object} {done}").context("write to stdout")?;
        }
    }
    match format {
        None => Ok(()),
        Some(_) => show(&objects, format, "", out).context("write to stdout"),
    }
}

fn show(objects: &[Checked], format: Option<Format>, state: &str, out: &mut impl Write) -> Result<()> {
    match format {
        None => objects.iter().try_for_each(|object| writeln!(out, "{object} {state}"))?,
        Some(Format::Name) => objects.iter().try_for_each(|object| writeln!(out, "{object}"))?,
        Some(Format::Yaml) => {
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    writeln!(out, "---")?;
                }
                write!(out, "{}", serde_saphyr::to_string(&object.to_json()?)?)?;
            }
        }
        Some(Format::Json) => {
            let objects = objects.iter().map(Checked::to_json).collect::<Result<Vec<_>, _>>()?;
            // One object stands alone, several are a list: as kubectl prints them.
            let document = match <[_; 1]>::try_from(objects) {
                Ok([object]) => object,
                Err(objects) => serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }),
            };
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
    }
    Ok(())
}

fn put(root: &Root, object: &Checked, node: Option<&str>) -> Result<&'static str> {
    let (namespace, _) = key(object);
    let done = if exists(root, object)? { "configured" } else { "created" };
    match object {
        Checked::ConfigMap(map) => root.objects().put_config_map(namespace, map)?,
        Checked::Secret(secret) => root.objects().put_secret(namespace, secret)?,
        Checked::Pod(pod) => return put_pod(root, pod.pod().clone(), node),
        Checked::Workload(workload) => return workloads::put::put(root, workload),
    }
    Ok(done)
}

/// Makes a pod, unless it is there already.
fn put_pod(root: &Root, pod: Pod, node: Option<&str>) -> Result<&'static str> {
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).context("a pod has no name")?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let holder = || -> Result<Option<PodDir>> {
        let dir = root.find(&namespace, &name)?.map(|uid| root.pod(&uid));
        Ok(dir.filter(|dir| dir.manifest().is_ok()))
    };
    loop {
        let names = root.lock_names()?;
        let Some(dir) = holder()? else {
            let dir = admit(root, pod, node, &names)?;
            drop(names);
            supervisor::ensure(root, &dir)?;
            return Ok("created");
        };
        drop(names);
        supervisor::ensure(root, &dir)?;
        if dir.deletion()?.is_none() {
            if same(&dir.manifest()?, &pod) {
                return Ok("unchanged");
            }
            bail!("pod/{name} exists and is another one: a pod does not change, delete it first");
        }
        let gone = || root.find(&namespace, &name).map(|uid| uid.is_none().then_some(())).transpose();
        wait_until(&format!("the deleted pod {name} to be gone"), PREDECESSOR, gone)??;
    }
}

/// Whether `new` says what `old` said, but for what was filled in.
fn same(old: &Pod, new: &Pod) -> bool {
    let mut spec = new.spec.clone();
    if let (Some(spec), Some(old)) = (&mut spec, &old.spec) {
        if spec.node_name.is_none() {
            spec.node_name.clone_from(&old.node_name);
        }
        // These are added later, by other means.
        spec.ephemeral_containers.clone_from(&old.ephemeral_containers);
    }
    spec == old.spec
        && new.metadata.labels == old.metadata.labels
        && new.metadata.annotations == old.metadata.annotations
}
