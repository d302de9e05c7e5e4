//! Manifests: from the text that a user wrote to objects that can be run as they are.
//!
//! Text becomes a tree that remembers its lines (`document`), the tree is held against the table of fields
//! ([`schema`], `decode`), what is left out is filled in (`default`), and the whole is held against the rules of
//! Kubernetes' API server (`rules`). All of it is pure, except [`source`], which reads files. Nothing that was written
//! is dropped silently: it is honoured, or it is in [`Manifest::notices`], or the object is in [`Manifest::problems`]
//! and not among the objects.

mod decode;
mod default;
mod document;
pub mod explain;
mod kind;
mod path;
mod problem;
mod quantity;
mod rules;
mod scalar;
pub mod schema;
pub mod source;
mod suggest;

use std::{collections::HashMap, fmt};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::workload::Workload;

pub use default::NAMESPACE;
pub use path::Path;
pub use problem::{Notice, Place, Problem};
pub use quantity::{Quantity, QuantityError};
pub use rules::names::dns_label;

use document::{Node, Value};
use kind::Kind;
use problem::Report;
use source::Source;

/// A pod that is complete, valid and can be honoured in full, apart from what the notices named.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedPod(Box<Pod>);

impl CheckedPod {
    /// The pod with its defaults filled in; `spec`, `metadata.name` and `metadata.namespace` are there.
    #[must_use]
    pub fn pod(&self) -> &Pod {
        &self.0
    }

    /// The pod itself.
    #[must_use]
    pub fn into_pod(self) -> Pod {
        *self.0
    }
}

/// An object that was read and found right.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// A pod.
    Pod(CheckedPod),
    /// An object that makes pods from a template; `replicas` is there only where the manifest has it.
    Workload(Box<Workload>),
    /// Data for volumes and environments.
    ConfigMap(ConfigMap),
    /// The same, not to be shown; `stringData` is merged into `data`.
    Secret(Secret),
}

impl Checked {
    /// The object's metadata; name and namespace are there.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Pod(pod) => &pod.0.metadata,
            Self::Workload(workload) => &workload.metadata,
            Self::ConfigMap(map) => &map.metadata,
            Self::Secret(secret) => &secret.metadata,
        }
    }

    /// The object as JSON, with `apiVersion` and `kind`.
    ///
    /// # Errors
    ///
    /// None in practice: these objects have no keys but strings.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::Pod(pod) => serde_json::to_value(pod.pod()),
            Self::Workload(workload) => workload.to_json(),
            Self::ConfigMap(map) => serde_json::to_value(map),
            Self::Secret(secret) => serde_json::to_value(secret),
        }
    }
}

/// As kubectl names objects: `pod/web`.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Pod(_) => "pod",
            Self::Workload(workload) => workload.kind().resource(),
            Self::ConfigMap(_) => "configmap",
            Self::Secret(_) => "secret",
        };
        write!(f, "{kind}/{}", self.metadata().name.as_deref().unwrap_or_default())
    }
}

/// What some manifests say.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects that can be used, in the order of the files.
    pub objects: Vec<Checked>,
    /// Fields of these objects that have no effect here.
    pub notices: Vec<Notice>,
    /// What is wrong with the others: all of it, in the order of the files.
    pub problems: Vec<Problem>,
}

/// Reads and checks manifests.
///
/// `namespace` is for objects that name none; an object that names another one is a problem, as for kubectl.
#[must_use]
pub fn check(sources: &[Source], namespace: Option<&str>) -> Manifest {
    let mut reading = Reading { namespace, manifest: Manifest::default(), seen: HashMap::new() };
    for source in sources {
        reading.source(source);
    }
    let Reading { mut manifest, seen, .. } = reading;
    if sources.is_empty() || (seen.is_empty() && manifest.problems.is_empty()) {
        let file = sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        let place = Place { file, object: None };
        let message = "there is no object in it".to_owned();
        manifest.problems.push(Problem { place, line: None, path: Path::root(), message });
    }
    manifest
}

struct Reading<'a> {
    namespace: Option<&'a str>,
    manifest: Manifest,
    /// Kind, namespace and name, and where it was.
    seen: HashMap<(String, String, String), String>,
}

impl Reading<'_> {
    fn source(&mut self, source: &Source) {
        match document::read(&source.text) {
            Ok(documents) => documents.iter().for_each(|node| self.object(node, &source.name)),
            Err(error) => self.manifest.problems.push(Problem {
                place: Place { file: source.name.clone(), object: None },
                line: Some(error.line),
                path: Path::root(),
                message: format!("not YAML: {}", error.message),
            }),
        }
    }

    fn object(&mut self, node: &Node, file: &str) {
        let mut report = Report::default();
        let kind = kind_of(node, &mut report);
        if let Some(Kind::List) = kind {
            return self.list(node, file);
        }
        let place = Place { file: file.to_owned(), object: name_of(node) };
        let checked = kind.and_then(|kind| self.checked(kind, node, &place, &mut report));
        let clean = report.is_clean();
        let (problems, notices) = report.finish(&place);
        self.manifest.problems.extend(problems);
        if clean {
            self.manifest.notices.extend(notices);
            self.manifest.objects.extend(checked);
        }
    }

    fn list(&mut self, node: &Node, file: &str) {
        let mut report = Report::default();
        let root = Path::root();
        if let Value::Map(entries) = &node.value {
            for entry in entries
                .iter()
                .filter(|e| !["apiVersion", "kind", "metadata", "items"].contains(&e.key.as_str()))
            {
                report.problem_on(entry.line, &root.field(&entry.key), "unknown field in List");
            }
        }
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => items.iter().for_each(|item| self.object(item, file)),
            _ => report.problem_on(node.line, &root.field("items"), "expected a list of objects"),
        }
        let (problems, _) = report.finish(&Place { file: file.to_owned(), object: Some("list".to_owned()) });
        self.manifest.problems.extend(problems);
    }

    /// The object, if nothing is wrong with it.
    fn checked(&mut self, kind: Kind, node: &Node, place: &Place, report: &mut Report) -> Option<Checked> {
        let schema = match kind {
            Kind::Pod => &schema::POD,
            Kind::ConfigMap => &schema::CONFIG_MAP,
            Kind::Secret => &schema::SECRET,
            Kind::Workload(workload) => workload.schema,
            Kind::List => return None,
        };
        let json = decode::decode(node, schema, report);
        self.once(node, place, report);
        if report.broken() {
            return None;
        }
        match kind {
            Kind::Pod => self.pod(json, report),
            Kind::ConfigMap => self.config_map(json, report),
            Kind::Secret => self.secret(json, report),
            Kind::Workload(workload) => self.workload(workload, json, report),
            Kind::List => None,
        }
    }

    fn pod(&self, json: serde_json::Value, report: &mut Report) -> Option<Checked> {
        let mut pod: Pod = typed(json, report)?;
        rules::metadata::check(&mut pod.metadata, rules::metadata::Name::Subdomain, self.namespace, report);
        server_owned(&mut pod.metadata);
        default::pod(&mut pod);
        if let Some(spec) = &pod.spec {
            rules::pod::check(spec, &Path::root().field("spec"), report);
        }
        Some(Checked::Pod(CheckedPod(Box::new(pod))))
    }

    fn workload(
        &self,
        kind: &kind::Workload,
        mut json: serde_json::Value,
        report: &mut Report,
    ) -> Option<Checked> {
        rules::workload::check(kind, &json, report);
        json["kind"] = kind.kind.into();
        let mut workload = Workload::from_json(&json)
            .map_err(|error| report.problem(&Path::root(), error.to_string()))
            .ok()?;
        rules::metadata::check(&mut workload.metadata, kind.name, self.namespace, report);
        server_owned(&mut workload.metadata);
        if let Some(metadata) = workload.template_mut().and_then(|template| template.metadata.as_mut()) {
            let ObjectMeta { annotations, labels, .. } = std::mem::take(metadata);
            *metadata = ObjectMeta { annotations, labels, ..ObjectMeta::default() };
        }
        default::workload(&mut workload);
        Some(Checked::Workload(Box::new(workload)))
    }

    fn config_map(&self, json: serde_json::Value, report: &mut Report) -> Option<Checked> {
        let mut map: ConfigMap = typed(json, report)?;
        rules::metadata::check(&mut map.metadata, rules::metadata::Name::Subdomain, self.namespace, report);
        server_owned(&mut map.metadata);
        rules::data::config_map(&map, report);
        Some(Checked::ConfigMap(map))
    }

    fn secret(&self, json: serde_json::Value, report: &mut Report) -> Option<Checked> {
        let mut secret: Secret = typed(json, report)?;
        rules::metadata::check(
            &mut secret.metadata,
            rules::metadata::Name::Subdomain,
            self.namespace,
            report,
        );
        server_owned(&mut secret.metadata);
        if let Some(strings) = secret.string_data.take() {
            let data = secret.data.get_or_insert_default();
            data.extend(strings.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
        secret.type_.get_or_insert_with(|| "Opaque".to_owned());
        rules::data::secret(&secret, report);
        Some(Checked::Secret(secret))
    }

    /// Two objects of one name in one apply would be one object with the fields of the last.
    fn once(&mut self, node: &Node, place: &Place, report: &mut Report) {
        let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
        let metadata = node.get("metadata");
        let mut namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
        if namespace.is_empty() {
            self.namespace.unwrap_or(NAMESPACE).clone_into(&mut namespace);
        }
        let name = text(metadata.and_then(|metadata| metadata.get("name")));
        let here = format!("{}:{}", place.file, node.line);
        if name.is_empty() {
            self.seen.insert((text(node.get("kind")), here.clone(), name), here);
            return;
        }
        if let Some(before) = self.seen.insert((text(node.get("kind")), namespace, name), here) {
            let path = Path::root().field("metadata").field("name");
            report.problem(&path, format!("this object is given twice: also at {before}"));
        }
    }
}

/// What is set when an object is stored is not taken from a manifest.
fn server_owned(metadata: &mut ObjectMeta) {
    let ObjectMeta { annotations, labels, name, namespace, .. } = std::mem::take(metadata);
    *metadata = ObjectMeta { annotations, labels, name, namespace, ..ObjectMeta::default() };
}

/// What the table let through as the type of Kubernetes.
fn typed<T: serde::de::DeserializeOwned>(json: serde_json::Value, report: &mut Report) -> Option<T> {
    serde_json::from_value(json).map_err(|error| report.problem(&Path::root(), error.to_string())).ok()
}

/// The kind of the object, or what is wrong with its first two lines.
fn kind_of(node: &Node, report: &mut Report) -> Option<Kind> {
    let root = Path::root();
    report.at(&root, node.line);
    if !matches!(node.value, Value::Map(_)) {
        report.problem(&root, "expected an object with apiVersion, kind and metadata");
        return None;
    }
    let mut text = |key: &str| {
        let found = node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
        if found.is_none() {
            report.required(&root.field(key), "an object begins with apiVersion and kind");
        }
        found
    };
    let (version, kind) = (text("apiVersion"), text("kind"));
    match kind::find(version?, kind?) {
        Ok(kind) => Some(kind),
        Err(message) => {
            let line = node.get("kind").map_or(node.line, |kind| kind.line);
            report.problem_on(line, &root.field("kind"), message);
            None
        }
    }
}

/// `pod/web`, as far as it is there.
fn name_of(node: &Node) -> Option<String> {
    let kind = node.get("kind")?.text()?.to_lowercase();
    let name =
        node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text).unwrap_or("?");
    Some(format!("{kind}/{name}"))
}

#[cfg(test)]
mod tests;
