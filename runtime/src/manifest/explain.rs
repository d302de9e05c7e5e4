//! The table of fields for people: what is honoured, what has no effect, what is refused.

use super::{
    kind::WORKLOADS,
    schema::{self, Field, Object, Policy, Shape},
};

/// A field as it is explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it is, `spec.containers[].name`.
    pub path: String,
    /// Its type.
    pub shape: String,
    /// `honoured`, `notice`, `rejected`, or which values are honoured.
    pub treatment: String,
    /// What to know about it; may be empty.
    pub note: String,
}

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The first word is no kind.
    #[error("no kind {0:?}; flatpod explains {1}")]
    NoKind(String, String),
    /// There is no such field.
    #[error("{object} has no field {field:?}; its fields are {fields}")]
    NoField {
        /// The object that was reached.
        object: &'static str,
        /// The field it does not have.
        field: String,
        /// Those it has.
        fields: String,
    },
    /// There is nothing below that field.
    #[error("{0} has no fields of its own")]
    Leaf(String),
}

/// How deep a table goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The fields of one object.
    Fields,
    /// Those of everything below it too.
    Everything,
}

/// The kinds that can be explained, in lower case.
fn kinds() -> Vec<(String, &'static Object)> {
    let plain: [&'static Object; 3] = [&schema::POD, &schema::CONFIG_MAP, &schema::SECRET];
    let workloads = WORKLOADS.iter().map(|workload| workload.schema);
    plain.into_iter().chain(workloads).map(|object| (object.name.to_lowercase(), object)).collect()
}

/// The fields below a path such as `pod.spec.containers.lifecycle`.
///
/// # Errors
///
/// Names the word that is no kind or no field.
pub fn rows(path: &str, depth: Depth) -> Result<Vec<Row>, ExplainError> {
    let mut words = path.split('.');
    let word = words.next().unwrap_or_default();
    let kinds = kinds();
    let Some((_, root)) = kinds.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) else {
        let names: Vec<&str> = kinds.iter().map(|(name, _)| name.as_str()).collect();
        return Err(ExplainError::NoKind(word.to_owned(), names.join(", ")));
    };
    let (mut object, mut at): (&'static Object, String) = (root, String::new());
    for word in words {
        let name = word.trim_end_matches("[]");
        let Some(field) = object.field(name) else {
            let fields: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
            return Err(ExplainError::NoField {
                object: object.name,
                field: name.to_owned(),
                fields: fields.join(", "),
            });
        };
        let Some(below) = field.shape.object() else { return Err(ExplainError::Leaf(path.to_owned())) };
        at = place(&at, field);
        object = below;
    }
    let mut rows = Vec::new();
    collect(object, &at, depth, &mut rows);
    Ok(rows)
}

fn collect(object: &'static Object, at: &str, depth: Depth, rows: &mut Vec<Row>) {
    for field in object.fields {
        let path = place(at, field);
        rows.push(row(&path, field));
        if let (Depth::Everything, Some(below)) = (depth, field.shape.object()) {
            collect(below, &path, depth, rows);
        }
    }
}

fn place(at: &str, field: &Field) -> String {
    let list = if matches!(field.shape, Shape::Many(_)) { "[]" } else { "" };
    if at.is_empty() { format!("{}{list}", field.name) } else { format!("{at}.{}{list}", field.name) }
}

fn row(path: &str, field: &Field) -> Row {
    let (treatment, why) = match field.policy {
        Policy::Honoured => ("honoured".to_owned(), ""),
        Policy::Notice { why, .. } => ("notice".to_owned(), why),
        Policy::WithRegistry(why) => ("with registry".to_owned(), why),
        Policy::Rejected(why) => ("rejected".to_owned(), why),
        Policy::Only { values, why } => {
            let values: Vec<&str> =
                values.iter().map(|value| if value.is_empty() { "\"\"" } else { value }).collect();
            (format!("only {}", values.join(", ")), why)
        }
    };
    let required = if field.required { "required" } else { "" };
    let note: Vec<&str> = [required, why, field.note].into_iter().filter(|part| !part.is_empty()).collect();
    Row { path: path.to_owned(), shape: field.shape.describe(), treatment, note: note.join("; ") }
}

const PREAMBLE: &str = "\
# Manifests

What `flatpod` does with each field of a manifest. This page is made from the table that it decodes with:
`flatpod explain --markdown` prints it, `flatpod explain pod.spec.containers` prints a part.

* **honoured**: the effect that Kubernetes documents.
* **notice**: kept in the object, but without effect here. It is said once, as a warning.
* **with registry**: honoured by a `flatpod` that is built with the feature `registry`; in others a notice.
* **only**: these values are honoured, others rejected.
* **rejected**: the object is refused, with the reason. Whatever would change isolation, data, order or reachability
  if it were dropped is rejected.

A field that is not in these tables is an error that names its path, and so is a key given twice. Scalars are read as
Kubernetes reads them, by YAML 1.1: `yes` is a boolean, `0644` is octal, and text that looks like a number must be in
quotes. Objects are completed with the API server's defaults and checked by its rules. Unknown fields and wrong types
are reported first, what follows from them is not.

Workload kinds are expanded on this machine's nodes so that you can exercise the network with real manifests; on a
cluster, use Kubernetes: the CNI plugin and agent are the same binaries there.
";

/// The whole table as the page `docs/manifests.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = PREAMBLE.to_owned();
    let mut seen: Vec<*const Object> = Vec::new();
    for (_, root) in kinds() {
        section(root, &mut seen, &mut page);
    }
    page
}

fn section(object: &'static Object, seen: &mut Vec<*const Object>, page: &mut String) {
    if seen.contains(&std::ptr::from_ref(object)) {
        return;
    }
    seen.push(std::ptr::from_ref(object));
    page.push_str(&format!(
        "\n## {}\n\n| field | type | treatment | note |\n|---|---|---|---|\n",
        object.name
    ));
    for field in object.fields {
        let Row { path, shape, treatment, note } = row(field.name, field);
        page.push_str(&format!("| `{path}` | {shape} | {treatment} | {note} |\n"));
    }
    for field in object.fields {
        if let Some(below) = field.shape.object() {
            section(below, seen, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_table() {
        let rows = rows("pod.spec.containers.lifecycle", Depth::Fields).unwrap();
        let paths: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.containers[].lifecycle.postStart",
                "spec.containers[].lifecycle.preStop",
                "spec.containers[].lifecycle.stopSignal"
            ]
        );
        let below = super::rows("Pod.spec.containers[].lifecycle", Depth::Everything).unwrap();
        let tcp = below.iter().find(|row| row.path.ends_with("preStop.tcpSocket")).unwrap();
        assert_eq!(tcp.treatment, "rejected");
    }

    #[test]
    fn a_wrong_path_is_named() {
        let error = |path| rows(path, Depth::Fields).unwrap_err().to_string();
        assert!(error("service").contains("flatpod explains pod, configmap"));
        assert!(error("pod.spec.contaners").contains("PodSpec has no field \"contaners\""));
        assert_eq!(error("pod.spec.hostname"), "pod.spec.hostname has no fields of its own");
    }

    /// `BLESS=1` writes the page anew.
    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifests.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/manifests.md is out of date; run the test again with BLESS=1");
    }
}
