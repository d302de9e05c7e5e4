//! A container's environment variables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

use super::{Making, PodView, quantity::milli};
use crate::state::Kind;

/// For programs that are found by name.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables, as `NAME=value`: the image's first, then what the container adds or replaces.
pub(super) fn of(making: &Making<'_>, hostname: &str) -> Result<Vec<String>> {
    let mut all: Vec<(String, String)> = vec![];
    let image = making.image.config.env.iter().map(String::as_str);
    for entry in [PATH].into_iter().chain(image) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        put(&mut all, name, value.to_owned());
    }
    put(&mut all, "HOSTNAME", hostname.to_owned());
    let own = variables(making)?;
    for (name, value) in own {
        put(&mut all, &name, value);
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// The container's own variables, in order: what command and arguments may refer to.
pub(super) fn variables(making: &Making<'_>) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = vec![];
    for source in making.container.env_from.iter().flatten() {
        for (name, value) in from_source(making, source)? {
            put(&mut all, &name, value);
        }
    }
    for variable in making.container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &all)),
            (None, Some(source)) => {
                from_reference(making, source).with_context(|| format!("variable {}", variable.name))?
            }
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            put(&mut all, &variable.name, value);
        }
    }
    Ok(all)
}

/// Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign; what is unknown stays as it is.
pub(super) fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        result.push_str(before);
        let name = from.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        if let Some(after) = from.strip_prefix("$$") {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = name {
            match variables.iter().find(|(known, _)| known == name) {
                Some((_, value)) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
            rest = from.strip_prefix('$').unwrap_or_default();
        }
    }
    result.push_str(rest);
    result
}

/// The value of a field of the pod that the manifest refers to.
pub(super) fn field(view: &PodView<'_>, selector: &ObjectFieldSelector) -> Result<String> {
    let meta = &view.pod.metadata;
    let path = selector.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => bail!("there is no field {path}"),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let list = |ips: Vec<String>| ips.join(",");
    let pod_ips: Vec<_> = view.sandbox.addresses.iter().map(ToString::to_string).collect();
    let host_ips: Vec<_> = view.node.addresses.iter().map(ToString::to_string).collect();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => view.namespace().to_owned(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => view.node.name.clone(),
        "spec.serviceAccountName" => {
            view.spec().service_account_name.clone().unwrap_or_else(|| "default".to_owned())
        }
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => list(pod_ips),
        "status.hostIP" => host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => list(host_ips),
        _ => bail!("there is no field {path}"),
    })
}

fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn put(all: &mut Vec<(String, String)>, name: &str, value: String) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => all.push((name.to_owned(), value)),
    }
}

fn from_source(making: &Making<'_>, source: &EnvFromSource) -> Result<Vec<(String, String)>> {
    let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(map), _) => (Kind::ConfigMap, map.name.as_str(), map.optional),
        (None, Some(secret)) => (Kind::Secret, secret.name.as_str(), secret.optional),
        (None, None) => bail!("an entry of envFrom names neither configMapRef nor secretRef"),
    };
    let data = making.objects.data(kind, making.namespace(), name)?;
    let prefix = source.prefix.as_deref().unwrap_or_default();
    match data {
        Some(data) => {
            data.into_iter().map(|(key, value)| Ok((format!("{prefix}{key}"), text(value)?))).collect()
        }
        None if optional == Some(true) => Ok(vec![]),
        None => bail!("{kind} {name:?} not found"),
    }
}

fn from_reference(making: &Making<'_>, source: &EnvVarSource) -> Result<Option<String>> {
    if let Some(selector) = &source.field_ref {
        return field(making, selector).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(&making.view, making.container, selector).map(Some);
    }
    let (kind, name, key, optional) = match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(one), _) => (Kind::ConfigMap, &one.name, &one.key, one.optional),
        (None, Some(one)) => (Kind::Secret, &one.name, &one.key, one.optional),
        (None, None) => bail!("valueFrom names no source that is known here"),
    };
    let data = making.objects.data(kind, making.namespace(), name)?;
    let missing = if data.is_some() { format!("key {key} in ") } else { String::new() };
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => text(value).map(Some),
        None if optional == Some(true) => Ok(None),
        None => bail!("couldn't find {missing}{kind} {}/{name}", making.namespace()),
    }
}

/// A limit or a request of the named container, or of `own`, in units of the divisor, rounded up.
pub(super) fn resource(
    view: &PodView<'_>,
    own: &Container,
    wanted: &ResourceFieldSelector,
) -> Result<String> {
    let spec = view.spec();
    let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let container = match wanted.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => all.find(|one| one.name == name).with_context(|| format!("no container {name}"))?,
        None => own,
    };
    let name = wanted.resource.as_str();
    let divisor = wanted.divisor.as_ref().map(|divisor| divisor.0.as_str());
    let resources = container.resources.as_ref();
    let (list, key) = match name.split_once('.') {
        Some(("limits", key)) => (resources.and_then(|all| all.limits.as_ref()), key),
        Some(("requests", key)) => (resources.and_then(|all| all.requests.as_ref()), key),
        _ => bail!("there is no resource {name}"),
    };
    let amount = list.and_then(|list| list.get(key)).and_then(|quantity| milli(&quantity.0)).unwrap_or(0);
    let divisor = divisor.and_then(milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    Ok(amount.div_ceil(divisor).to_string())
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).context("the value is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let known = [("A".to_owned(), "1".to_owned()), ("B_C".to_owned(), "x y".to_owned())];
        let cases = [
            ("$(A)", "1"),
            ("-$(B_C)-$(A)", "-x y-1"),
            ("$(NOPE)", "$(NOPE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ];
        for (text, expanded) in cases {
            assert_eq!(expand(text, &known), expanded, "{text}");
        }
    }
}
