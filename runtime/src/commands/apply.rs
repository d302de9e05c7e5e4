//! `apply`: from manifests to pods.

use std::{
    fs,
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
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use netns_fixtures::wait_until;

use crate::{
    state::{Lock, NodeRecord, Root},
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
    objects.sort_by_key(|object| matches!(object, Checked::Pod(_)));
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
    let ObjectMeta { namespace, .. } = object.metadata();
    let namespace = namespace.as_deref().unwrap_or(manifest::NAMESPACE);
    match object {
        Checked::ConfigMap(map) => root.objects().put_config_map(namespace, map)?,
        Checked::Secret(secret) => root.objects().put_secret(namespace, secret)?,
        Checked::Pod(pod) => return put_pod(root, pod.pod().clone(), node),
    }
    Ok("configured")
}

/// Makes a pod, unless it is there already.
fn put_pod(root: &Root, mut pod: Pod, node: Option<&str>) -> Result<&'static str> {
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).context("a pod has no name")?;
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let lock = root.path().join("names.lock");
    let one_at_a_time = Lock::take(&lock)?;
    let holder = root.find(&namespace, &name)?;
    if let Some(dir) = holder.map(|uid| root.pod(&uid)).filter(|dir| dir.manifest().is_ok()) {
        if dir.deletion()?.is_none() {
            let old = dir.manifest()?;
            supervisor::ensure(root, &dir)?;
            if same(&old, &pod) {
                return Ok("unchanged");
            }
            bail!("pod/{name} exists and is another one: a pod does not change, delete it first");
        }
        supervisor::ensure(root, &dir)?;
        let gone = || root.find(&namespace, &name).map(|uid| uid.is_none().then_some(())).transpose();
        wait_until(&format!("the deleted pod {name} to be gone"), PREDECESSOR, gone)??;
    }
    let uid =
        fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a unique id")?.trim().to_owned();
    // What is left of a name without a pod is of one that was killed while it did what we do now.
    if let Some(dangling) = root.reserve(&namespace, &name, &uid)? {
        root.release(&namespace, &name, &dangling)?;
        root.reserve(&namespace, &name, &uid)?;
    }
    let spec = pod.spec.get_or_insert_default();
    let chosen = choose(root, spec, node)?;
    spec.node_name = Some(chosen.name);
    pod.metadata.uid = Some(uid.clone());
    pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    let dir = root.pod(&uid);
    dir.put_manifest(&pod)?;
    drop(one_at_a_time);
    supervisor::ensure(root, &dir)?;
    Ok("created")
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

/// The node that was asked for, or of those that fit the one with the fewest pods; the machine counts when there
/// are no others.
fn choose(root: &Root, spec: &PodSpec, wanted: Option<&str>) -> Result<NodeRecord> {
    let selector = spec.node_selector.clone().unwrap_or_default();
    let fits = |node: &NodeRecord| node.is_selected(&selector);
    if let Some(name) = spec.node_name.as_deref().or(wanted) {
        let node = supervisor::node_of(root, name)?;
        if !fits(&node) {
            bail!(
                "node {name} does not match the pod's nodeSelector {selector:?}: it has {:?}",
                node.labels()
            );
        }
        return Ok(node);
    }
    let pods: Vec<_> = root.pods()?.iter().filter_map(|dir| dir.manifest().ok()).collect();
    let on = |node: &NodeRecord| {
        let is_there =
            |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node.name);
        pods.iter().filter(is_there).count()
    };
    let names = root.nodes()?;
    let nodes: Vec<NodeRecord> = match names.is_empty() {
        true => vec![NodeRecord::machine()?],
        false => names.iter().map(|name| root.node(name).record()).collect::<Result<_>>()?,
    };
    let told = || format!("0/{} nodes match the pod's nodeSelector {selector:?}", nodes.len());
    nodes.iter().filter(|node| fits(node)).min_by_key(|node| on(node)).cloned().with_context(told)
}
