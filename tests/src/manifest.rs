//! The manifest that is shipped for Kubernetes, as its objects.

use std::path::PathBuf;

use serde_json::Value;

/// A file below deploy/kubernetes, as it is.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn text(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The objects of the manifest, in order.
///
/// # Panics
/// It is not YAML.
#[must_use]
pub fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(&text("flatnet.yaml")).expect("YAML")
}

/// The object of this kind.
///
/// # Panics
/// There is none.
#[must_use]
pub fn object(kind: &str) -> Value {
    objects().into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// What its role allows: resource and verb.
///
/// # Panics
/// A rule is of another shape.
#[must_use]
pub fn allowed() -> Vec<(String, String)> {
    let role = object("ClusterRole");
    let words = |value: &Value| -> Vec<String> {
        let all = value.as_array().expect("a list").iter();
        all.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let rules = role["rules"].as_array().expect("rules").iter();
    rules
        .flat_map(|rule| {
            let resources = words(&rule["resources"]);
            let verbs = words(&rule["verbs"]);
            let of =
                move |resource: String| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb));
            resources.into_iter().flat_map(of).collect::<Vec<_>>()
        })
        .collect()
}
