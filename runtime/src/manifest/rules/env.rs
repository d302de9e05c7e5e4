//! Environment variables, and fields of the pod as values.

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, Container, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
    SecretKeySelector,
};

use super::{each, names, pod::Context};
use crate::manifest::{Quantity, path::Path, problem::Report};

/// Fields that a variable can have as its value, besides single labels and annotations.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Those that a file in a volume can have: no more than is known before the pod runs.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 4] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
const MEMORY_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn check(container: &Container, context: &Context<'_>, path: &Path, report: &mut Report) {
    for (index, var) in each(&container.env).iter().enumerate() {
        variable(var, context, &path.field("env").index(index), report);
    }
    for (index, source) in each(&container.env_from).iter().enumerate() {
        let at = path.field("envFrom").index(index);
        if let Some(prefix) = &source.prefix
            && let Err(why) = names::env(prefix)
        {
            report.invalid(&at.field("prefix"), prefix, why);
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => report.invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => {
                report.invalid(&at, "", "may not have more than one field specified at a time")
            }
            (Some(map), None) => object_name(&map.name, &at.field("configMapRef").field("name"), report),
            (None, Some(secret)) => object_name(&secret.name, &at.field("secretRef").field("name"), report),
        }
    }
}

/// The name of another object.
pub(super) fn object_name(name: &str, path: &Path, report: &mut Report) {
    if !name.is_empty()
        && let Err(why) = names::dns_subdomain(name)
    {
        report.invalid(path, name, why);
    }
}

fn variable(var: &EnvVar, context: &Context<'_>, path: &Path, report: &mut Report) {
    if let Err(why) = names::env(&var.name) {
        report.invalid(&path.field("name"), &var.name, why);
    }
    let Some(source) = &var.value_from else { return };
    let at = path.field("valueFrom");
    let given = [
        source.config_map_key_ref.is_some(),
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.secret_key_ref.is_some(),
    ];
    match given.into_iter().filter(|given| *given).count() {
        0 => report.invalid(
            &at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        1 if var.value.as_deref().is_some_and(|value| !value.is_empty()) => {
            report.invalid(&at, "", "may not be specified when `value` is not empty");
        }
        1 => value_source(source, context, &at, report),
        _ => report.invalid(&at, "", "may not have more than one field specified at a time"),
    }
}

fn value_source(source: &EnvVarSource, context: &Context<'_>, path: &Path, report: &mut Report) {
    if let Some(ConfigMapKeySelector { key, name, .. }) = &source.config_map_key_ref {
        data_key(name, key, &path.field("configMapKeyRef"), report);
    }
    if let Some(SecretKeySelector { key, name, .. }) = &source.secret_key_ref {
        data_key(name, key, &path.field("secretKeyRef"), report);
    }
    if let Some(selector) = &source.field_ref {
        field(selector, &FIELDS, &path.field("fieldRef"), report);
    }
    if let Some(selector) = &source.resource_field_ref {
        resource(selector, context, &path.field("resourceFieldRef"), report);
    }
}

fn data_key(name: &str, key: &str, path: &Path, report: &mut Report) {
    object_name(name, &path.field("name"), report);
    if !key.is_empty()
        && let Err(why) = names::config_key(key)
    {
        report.invalid(&path.field("key"), key, why);
    }
}

fn field(selector: &ObjectFieldSelector, fields: &[&str], path: &Path, report: &mut Report) {
    let (at, wanted) = (path.field("fieldPath"), selector.field_path.as_str());
    if wanted.is_empty() || fields.contains(&wanted) {
        return;
    }
    let subscript = wanted.strip_suffix("']").and_then(|open| open.split_once("['"));
    match subscript {
        Some(("metadata.labels" | "metadata.annotations", key)) => {
            if let Err(why) = names::qualified(&key.to_lowercase()) {
                report.invalid(&at, wanted, why);
            }
        }
        _ => report.unsupported(&at, wanted, fields),
    }
}

fn resource(selector: &ResourceFieldSelector, context: &Context<'_>, path: &Path, report: &mut Report) {
    if let Some(name) = selector.container_name.as_deref().filter(|name| !name.is_empty())
        && !context.containers.contains(name)
    {
        report.not_found(&path.field("containerName"), name);
    }
    let wanted = selector.resource.as_str();
    if wanted.is_empty() {
        return;
    }
    if !RESOURCES.contains(&wanted) {
        return report.unsupported(&path.field("resource"), wanted, &RESOURCES);
    }
    let divisors: &[&str] = if wanted.ends_with("cpu") { &CPU_DIVISORS } else { &MEMORY_DIVISORS };
    if let Some(divisor) = &selector.divisor
        && let Ok(amount) = divisor.0.parse::<Quantity>()
        && amount.nano() != 0
        && !divisors.iter().any(|allowed| *allowed == divisor.0)
    {
        report.unsupported(&path.field("divisor"), &divisor.0, divisors);
    }
}

/// A field of the pod as the content of a file.
pub(super) fn file_field(selector: &ObjectFieldSelector, path: &Path, report: &mut Report) {
    field(selector, &FILE_FIELDS, path, report);
}

/// A resource of a container as the content of a file, which belongs to no container of its own.
pub(super) fn file_resource(
    selector: &ResourceFieldSelector,
    context: &Context<'_>,
    path: &Path,
    report: &mut Report,
) {
    if selector.container_name.as_deref().unwrap_or_default().is_empty() {
        report.required(&path.field("containerName"), "");
    }
    resource(selector, context, path, report);
}
