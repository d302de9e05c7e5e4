//! `ConfigMap`s and `Secret`s.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::names;
use crate::manifest::{path::Path, problem::Report};

/// The largest sum of all values, in bytes.
const SIZE: usize = 1 << 20;

pub(in crate::manifest) fn config_map(map: &ConfigMap, report: &mut Report) {
    let (data, binary) = (Path::root().field("data"), Path::root().field("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        size += value.len();
        config_key(key, &data, report);
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            report.invalid(&data.entry(key), key, "duplicate of key present in binaryData");
        }
    }
    for (key, value) in map.binary_data.iter().flatten() {
        size += value.0.len();
        config_key(key, &binary, report);
    }
    too_long(size, report);
}

pub(in crate::manifest) fn secret(secret: &Secret, report: &mut Report) {
    let path = Path::root().field("data");
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        size += value.0.len();
        config_key(key, &path, report);
    }
    too_long(size, report);
}

fn config_key(key: &str, path: &Path, report: &mut Report) {
    if let Err(why) = names::config_key(key) {
        report.invalid(&path.entry(key), key, why);
    }
}

fn too_long(size: usize, report: &mut Report) {
    if size > SIZE {
        report.problem(&Path::root(), format!("Too long: may not be more than {SIZE} bytes"));
    }
}
