//! `apply` and `run`: from manifests to pods.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use netns_fixtures::wait_until;
use serde_json::Value;

use crate::{
    state::{Lock, NodeRecord, Root},
    supervisor,
};

/// For a pod of the same name to go that is being deleted: its grace, and then some.
const PREDECESSOR: Duration = Duration::from_secs(600);

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A manifest file, a directory of them, or - for stdin
    #[arg(long = "filename", short, required = true)]
    filename: Vec<PathBuf>,
    /// The namespace of what names none
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The node of pods that name none [default: the one with the fewest pods]
    #[arg(long)]
    node: Option<String>,
}

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The pod's name
    name: String,
    /// The image
    #[arg(long)]
    image: String,
    /// The pod's namespace
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The pod's node [default: the one with the fewest pods]
    #[arg(long)]
    node: Option<String>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always")]
    restart: String,
    /// Variables, as NAME=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// Take what follows -- as the command, not as its arguments
    #[arg(long)]
    command: bool,
    /// Arguments
    #[arg(last = true)]
    args: Vec<String>,
}

/// An object that can be applied.
enum Object {
    ConfigMap(ConfigMap),
    Secret(Secret),
    Pod(Box<Pod>),
}

/// Applies manifests: everything is understood before anything is made.
pub(crate) fn run(root: &Root, args: &ApplyArgs) -> Result<ExitCode> {
    let mut objects = vec![];
    for file in &args.filename {
        for (name, text) in texts(file)? {
            objects.extend(parse(&text).with_context(|| format!("read {name}"))?);
        }
    }
    // Pods are filled from the others.
    objects.sort_by_key(|object| matches!(object, Object::Pod(_)));
    let mut out = io::stdout().lock();
    for object in objects {
        let line = put(root, object, &args.namespace, args.node.as_deref())?;
        writeln!(out, "{line}").context("write to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one image as a pod of one container.
pub(crate) fn run_image(root: &Root, args: &RunArgs) -> Result<ExitCode> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        k8s_openapi::api::core::v1::EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        }
    };
    let line = (!args.args.is_empty()).then(|| args.args.clone());
    let (command, arguments) = if args.command { (line, None) } else { (None, line) };
    let container = Container {
        name: args.name.clone(),
        image: Some(args.image.clone()),
        command,
        args: arguments,
        env: Some(args.env.iter().map(split).collect()),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        restart_policy: Some(args.restart.clone()),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(args.name.clone()),
        labels: Some([("run".to_owned(), args.name.clone())].into()),
        ..ObjectMeta::default()
    };
    let pod = Box::new(Pod { metadata, spec: Some(spec), status: None });
    let line = put(root, Object::Pod(pod), &args.namespace, args.node.as_deref())?;
    writeln!(io::stdout(), "{line}").context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// Names and texts of manifests.
pub(super) fn texts(file: &Path) -> Result<Vec<(String, String)>> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("read stdin")?;
        return Ok(vec![("stdin".to_owned(), text)]);
    }
    let at = || format!("read {}", file.display());
    let mut files = vec![file.to_owned()];
    if file.is_dir() {
        files = fs::read_dir(file).with_context(at)?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            ["yaml", "yml", "json"].iter().any(|end| file.extension().is_some_and(|e| e == *end))
        });
        files.sort();
    }
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

/// The names of the pods that manifests are about.
pub(super) fn pod_names(text: &str) -> Result<Vec<(Option<String>, String)>> {
    let name = |object: Object| match object {
        Object::Pod(pod) => Some((pod.metadata.namespace, pod.metadata.name.unwrap_or_default())),
        Object::ConfigMap(_) | Object::Secret(_) => None,
    };
    Ok(parse(text)?.into_iter().filter_map(name).collect())
}

fn parse(text: &str) -> Result<Vec<Object>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("understand the YAML")?;
    let mut objects = vec![];
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        if document["kind"] == "List" {
            let items = document["items"].as_array().cloned().unwrap_or_default();
            objects.extend(items.into_iter().map(object).collect::<Result<Vec<_>>>()?);
        } else {
            objects.push(object(document)?);
        }
    }
    Ok(objects)
}

fn object(document: Value) -> Result<Object> {
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let at = || format!("understand {kind} {name}");
    Ok(match kind.as_str() {
        "Pod" => Object::Pod(Box::new(serde_json::from_value(document).with_context(at)?)),
        "ConfigMap" => Object::ConfigMap(serde_json::from_value(document).with_context(at)?),
        "Secret" => Object::Secret(serde_json::from_value(document).with_context(at)?),
        _ => bail!("kind {kind:?} is not known here; Pod, ConfigMap and Secret are"),
    })
}

fn put(root: &Root, object: Object, namespace: &str, node: Option<&str>) -> Result<String> {
    let of = |meta: &ObjectMeta| meta.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    Ok(match object {
        Object::ConfigMap(map) => {
            root.objects().put_config_map(&of(&map.metadata), &map)?;
            format!("configmap/{} configured", map.metadata.name.unwrap_or_default())
        }
        Object::Secret(secret) => {
            root.objects().put_secret(&of(&secret.metadata), &secret)?;
            format!("secret/{} configured", secret.metadata.name.unwrap_or_default())
        }
        Object::Pod(mut pod) => {
            pod.metadata.namespace = Some(of(&pod.metadata));
            put_pod(root, *pod, node)?
        }
    })
}

/// Makes a pod, unless it is there already.
fn put_pod(root: &Root, mut pod: Pod, node: Option<&str>) -> Result<String> {
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
                return Ok(format!("pod/{name} unchanged"));
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
    let chosen = choose(root, spec.node_name.as_deref().or(node))?;
    spec.node_name = Some(chosen.name);
    pod.metadata.uid = Some(uid.clone());
    pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    let dir = root.pod(&uid);
    dir.put_manifest(&pod)?;
    drop(one_at_a_time);
    supervisor::ensure(root, &dir)?;
    Ok(format!("pod/{name} created"))
}

/// Whether `new` says what `old` said, but for what was filled in.
fn same(old: &Pod, new: &Pod) -> bool {
    let mut spec = new.spec.clone();
    if let (Some(spec), Some(old)) = (&mut spec, &old.spec)
        && spec.node_name.is_none()
    {
        spec.node_name.clone_from(&old.node_name);
    }
    spec == old.spec
        && new.metadata.labels == old.metadata.labels
        && new.metadata.annotations == old.metadata.annotations
}

/// The node that was asked for, or the one with the fewest pods, or the machine when there are none.
fn choose(root: &Root, wanted: Option<&str>) -> Result<NodeRecord> {
    if let Some(name) = wanted {
        return supervisor::node_of(root, name);
    }
    let pods: Vec<_> = root.pods()?.iter().filter_map(|dir| dir.manifest().ok()).collect();
    let on = |name: &String| {
        pods.iter()
            .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(name))
            .count()
    };
    match root.nodes()?.into_iter().min_by_key(on) {
        Some(name) => root.node(&name).record(),
        None => NodeRecord::machine(),
    }
}
