//! Names, labels and annotations.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names;
use crate::manifest::{Quantity, default::NAMESPACE, path::Path, problem::Report};

/// What the name of an object must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manifest) enum Name {
    /// A subdomain of RFC 1123.
    Subdomain,
    /// A label of RFC 1123, because pods' hostnames are made of it.
    Label,
}

/// The largest sum of all annotations, in bytes.
const ANNOTATIONS: usize = 256 << 10;
const BANDWIDTHS: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];

/// Checks an object's metadata and fills in its namespace.
pub(in crate::manifest) fn check(
    metadata: &mut ObjectMeta,
    rule: Name,
    namespace: Option<&str>,
    report: &mut Report,
) {
    let path = Path::root().field("metadata");
    match metadata.name.as_deref().unwrap_or_default() {
        "" => report.required(&path.field("name"), "every object has a name"),
        name => {
            let verdict = match rule {
                Name::Subdomain => names::dns_subdomain(name),
                Name::Label => names::dns_label(name),
            };
            if let Err(why) = verdict {
                report.invalid(&path.field("name"), name, why);
            }
        }
    }
    match (&metadata.namespace, namespace) {
        (Some(own), Some(asked)) if own != asked => {
            let message =
                format!("the namespace of the object, {own:?}, is not the one of the command, {asked:?}");
            report.problem(&path.field("namespace"), message);
        }
        (Some(own), _) => {
            if let Err(why) = names::dns_label(own) {
                report.invalid(&path.field("namespace"), own, why);
            }
        }
        (None, asked) => metadata.namespace = Some(asked.unwrap_or(NAMESPACE).to_owned()),
    }
    labels(metadata.labels.as_ref(), &path.field("labels"), report);
    annotations(metadata.annotations.as_ref(), &path.field("annotations"), report);
}

/// Checks labels, or a selector that is written like them.
pub(super) fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path, report: &mut Report) {
    for (key, value) in labels.into_iter().flatten() {
        let at = path.entry(key);
        if let Err(why) = names::qualified(key) {
            report.invalid(&at, key, why);
        }
        if let Err(why) = names::label_value(value) {
            report.invalid(&at, value, why);
        }
    }
}

/// Checks annotations.
pub(super) fn annotations(annotations: Option<&BTreeMap<String, String>>, path: &Path, report: &mut Report) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.len();
        // Upper case is allowed here, unlike in labels.
        if let Err(why) = names::qualified(&key.to_lowercase()) {
            report.invalid(&path.entry(key), key, why);
        }
        if BANDWIDTHS.contains(&key.as_str()) {
            bandwidth(value, &path.entry(key), report);
        }
    }
    if size > ANNOTATIONS {
        report.problem(path, format!("Too long: may not be more than {ANNOTATIONS} bytes"));
    }
}

/// `pkg/util/bandwidth/utils.go`: from 1k to 1P bits per second.
fn bandwidth(value: &str, path: &Path, report: &mut Report) {
    match value.parse::<Quantity>() {
        Err(error) => report.invalid(path, value, &error.to_string()),
        Ok(rate) if !(1_000..=1_000_000_000_000_000).contains(&rate.units()) => {
            report.invalid(path, value, "must be from 1k to 1P bits per second");
        }
        Ok(_) => {}
    }
}
