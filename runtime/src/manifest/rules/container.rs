//! One container.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{each, env, names, pod::Context, ports, probe, resources, security};
use crate::{
    manifest::{path::Path, problem::Report},
    status::Role,
};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];

pub(super) fn check(
    container: &Container,
    role: Role,
    context: &Context<'_>,
    path: &Path,
    report: &mut Report,
) {
    image(container, path, report);
    one_of(container.image_pull_policy.as_ref(), &PULL_POLICIES, &path.field("imagePullPolicy"), report);
    one_of(
        container.termination_message_policy.as_ref(),
        &MESSAGE_POLICIES,
        &path.field("terminationMessagePolicy"),
        report,
    );
    restart_policy(container, role, path, report);
    ports::ports(container, context.spec.host_network == Some(true), path, report);
    env::check(container, context, path, report);
    mounts(container, context, &path.field("volumeMounts"), report);
    if let Some(resources) = &container.resources {
        resources::check(resources, &path.field("resources"), report);
    }
    security::container(container, path, report);
    probe::check(container, role, context, path, report);
    if container.stdin_once == Some(true) && container.stdin != Some(true) {
        report.invalid(&path.field("stdinOnce"), true, "has no effect without stdin: true");
    }
}

fn image(container: &Container, path: &Path, report: &mut Report) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        report.required(&path.field("image"), "");
    } else if image != image.trim() {
        report.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
}

pub(super) fn one_of(value: Option<&String>, allowed: &[&str], path: &Path, report: &mut Report) {
    if let Some(value) = value.filter(|value| !allowed.contains(&value.as_str())) {
        report.unsupported(path, value, allowed);
    }
}

fn restart_policy(container: &Container, role: Role, path: &Path, report: &mut Report) {
    let Some(policy) = &container.restart_policy else { return };
    let at = path.field("restartPolicy");
    match role {
        Role::App => {
            report.forbidden(&at, "containers restart by the pod's policy here; set spec.restartPolicy")
        }
        Role::Init => report.unsupported(&at, policy, &["Always"]),
        Role::Sidecar => {}
    }
}

fn mounts(container: &Container, context: &Context<'_>, path: &Path, report: &mut Report) {
    let mut seen = HashSet::new();
    for (index, mount) in each(&container.volume_mounts).iter().enumerate() {
        let at = path.index(index);
        if !mount.name.is_empty() && !context.volumes.contains(mount.name.as_str()) {
            report.not_found(&at.field("name"), &mount.name);
        }
        mount_path(mount, &at, report);
        // /data and /data/ are one place.
        if !mount.mount_path.is_empty() && !seen.insert(mount.mount_path.trim_end_matches('/')) {
            report.invalid(&at.field("mountPath"), &mount.mount_path, "must be unique");
        }
        sub_path(mount, &at, report);
        if mount.recursive_read_only.as_deref() == Some("IfPossible") && mount.read_only != Some(true) {
            report.forbidden(&at.field("recursiveReadOnly"), "may only be specified when readOnly is true");
        }
    }
}

fn mount_path(mount: &VolumeMount, path: &Path, report: &mut Report) {
    let (at, target) = (path.field("mountPath"), mount.mount_path.as_str());
    if target.is_empty() {
        return;
    }
    if target.contains(':') {
        report.invalid(&at, target, "must not contain ':'");
    } else if !target.starts_with('/') {
        report.invalid(&at, target, "must be an absolute path");
    } else if target.split('/').all(str::is_empty) {
        report.invalid(&at, target, "must not be the root of the container");
    } else if let Err(why) = names::no_backsteps(target) {
        report.invalid(&at, target, why);
    }
}

fn sub_path(mount: &VolumeMount, path: &Path, report: &mut Report) {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let (plain, expression) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    if let (Some(_), Some(expression)) = (&plain, &expression) {
        report.invalid(
            &path.field("subPathExpr"),
            expression,
            "subPathExpr and subPath are mutually exclusive",
        );
    }
    for (field, value) in [("subPath", plain), ("subPathExpr", expression)] {
        if let Some(value) = value
            && let Err(why) = names::relative_path(&value)
        {
            report.invalid(&path.field(field), value, why);
        }
    }
}
