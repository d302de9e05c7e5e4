//! Volumes.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};

use super::{container::one_of, each, env, names, pod::Context};
use crate::manifest::{Quantity, path::Path, problem::Report};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
const MODE_RANGE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn volumes(context: &Context<'_>, path: &Path, report: &mut Report) {
    let mut seen = HashSet::new();
    for (index, volume) in each(&context.spec.volumes).iter().enumerate() {
        let at = path.index(index);
        if !volume.name.is_empty() {
            if let Err(why) = names::dns_label(&volume.name) {
                report.invalid(&at.field("name"), &volume.name, why);
            }
            if !seen.insert(volume.name.as_str()) {
                report.duplicate(&at.field("name"), &volume.name);
            }
        }
        source(volume, context, &at, report);
    }
}

fn source(volume: &Volume, context: &Context<'_>, path: &Path, report: &mut Report) {
    let given = [
        volume.config_map.is_some(),
        volume.downward_api.is_some(),
        volume.empty_dir.is_some(),
        volume.host_path.is_some(),
        volume.projected.is_some(),
        volume.secret.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        report.forbidden(path, "may not specify more than 1 volume type");
    }
    if let Some(map) = &volume.config_map {
        let at = path.field("configMap");
        env::object_name(&map.name, &at.field("name"), report);
        mode(map.default_mode, &at.field("defaultMode"), report);
        keys(each(&map.items), &mut HashSet::new(), &at.field("items"), report);
    }
    if let Some(secret) = &volume.secret {
        let at = path.field("secret");
        match secret.secret_name.as_deref().unwrap_or_default() {
            "" => report.required(&at.field("secretName"), ""),
            name => env::object_name(name, &at.field("secretName"), report),
        }
        mode(secret.default_mode, &at.field("defaultMode"), report);
        keys(each(&secret.items), &mut HashSet::new(), &at.field("items"), report);
    }
    if let Some(downward) = &volume.downward_api {
        let at = path.field("downwardAPI");
        mode(downward.default_mode, &at.field("defaultMode"), report);
        files(each(&downward.items), &mut HashSet::new(), (context, &at.field("items")), report);
    }
    if let Some(host) = &volume.host_path {
        let at = path.field("hostPath");
        if let Err(why) = names::no_backsteps(&host.path) {
            report.invalid(&at.field("path"), &host.path, why);
        } else if !host.path.is_empty() && !host.path.starts_with('/') {
            report.invalid(&at.field("path"), &host.path, "must be an absolute path");
        }
        one_of(host.type_.as_ref(), &HOST_PATH_TYPES, &at.field("type"), report);
    }
    if let Some(empty) = &volume.empty_dir {
        empty_dir(empty, &path.field("emptyDir").field("sizeLimit"), report);
    }
    if let Some(projected) = &volume.projected {
        self::projected(projected, context, &path.field("projected"), report);
    }
}

fn empty_dir(empty: &EmptyDirVolumeSource, path: &Path, report: &mut Report) {
    let Some(limit) = &empty.size_limit else { return };
    match limit.0.parse::<Quantity>() {
        Ok(size) if size.nano() < 0 => report.invalid(path, &limit.0, "must be greater than or equal to 0"),
        Ok(_) if empty.medium.as_deref() != Some("Memory") => {
            report.notice(path, "the size of a directory on disk is not limited; use medium: Memory");
        }
        _ => {}
    }
}

fn mode(mode: Option<i32>, path: &Path, report: &mut Report) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        report.invalid(path, mode, MODE_RANGE);
    }
}

/// A file's place in a volume; `taken` are those of the files before it.
fn file_path(place: &str, taken: &mut HashSet<String>, path: &Path, report: &mut Report) {
    if place.is_empty() {
        return;
    }
    if let Err(why) = names::relative_path(place) {
        report.invalid(path, place, why);
    } else if place.starts_with("..") {
        report.invalid(path, place, "must not start with '..'");
    } else if !taken.insert(place.to_owned()) {
        report.invalid(path, place, "conflicting duplicate paths");
    }
}

fn keys(items: &[KeyToPath], taken: &mut HashSet<String>, path: &Path, report: &mut Report) {
    for (index, item) in items.iter().enumerate() {
        let at = path.index(index);
        file_path(&item.path, taken, &at.field("path"), report);
        mode(item.mode, &at.field("mode"), report);
    }
}

fn files(
    items: &[DownwardAPIVolumeFile],
    taken: &mut HashSet<String>,
    (context, path): (&Context<'_>, &Path),
    report: &mut Report,
) {
    for (index, item) in items.iter().enumerate() {
        let at = path.index(index);
        file_path(&item.path, taken, &at.field("path"), report);
        mode(item.mode, &at.field("mode"), report);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(_), Some(_)) => {
                report.invalid(&at, "", "fieldRef and resourceFieldRef can not be specified simultaneously")
            }
            (None, None) => report.required(&at, "one of fieldRef and resourceFieldRef is required"),
            (Some(field), None) => env::file_field(field, &at.field("fieldRef"), report),
            (None, Some(resource)) => {
                env::file_resource(resource, context, &at.field("resourceFieldRef"), report)
            }
        }
    }
}

fn projected(projected: &ProjectedVolumeSource, context: &Context<'_>, path: &Path, report: &mut Report) {
    mode(projected.default_mode, &path.field("defaultMode"), report);
    let mut taken = HashSet::new();
    for (index, source) in each(&projected.sources).iter().enumerate() {
        projection(source, &mut taken, (context, &path.field("sources").index(index)), report);
    }
}

fn projection(
    source: &VolumeProjection,
    taken: &mut HashSet<String>,
    (context, path): (&Context<'_>, &Path),
    report: &mut Report,
) {
    let given = [source.config_map.is_some(), source.downward_api.is_some(), source.secret.is_some()];
    match given.iter().filter(|given| **given).count() {
        0 if report.has_below(path) => {}
        0 => report.required(path, "must specify a projected volume type"),
        1 => {}
        _ => report.forbidden(path, "may not specify more than 1 volume type"),
    }
    if let Some(map) = &source.config_map {
        let at = path.field("configMap");
        env::object_name(&map.name, &at.field("name"), report);
        keys(each(&map.items), taken, &at.field("items"), report);
    }
    if let Some(secret) = &source.secret {
        let at = path.field("secret");
        env::object_name(&secret.name, &at.field("name"), report);
        keys(each(&secret.items), taken, &at.field("items"), report);
    }
    if let Some(downward) = &source.downward_api {
        files(each(&downward.items), taken, (context, &path.field("downwardAPI").field("items")), report);
    }
}
