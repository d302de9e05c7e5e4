//! The volumes of a pod.

use std::fmt::Write as _;

use anyhow::Result;
use k8s_openapi::api::core::v1::{PodSpec, Volume};

pub(super) fn list(text: &mut String, spec: &PodSpec) -> Result<()> {
    let all = spec.volumes.as_deref().unwrap_or_default();
    if all.is_empty() {
        writeln!(text, "Volumes:\t<none>")?;
        return Ok(());
    }
    writeln!(text, "Volumes:")?;
    for volume in all {
        writeln!(text, "  {}:", volume.name)?;
        fields(volume).iter().try_for_each(|(key, value)| writeln!(text, "    {key}:\t{value}"))?;
    }
    Ok(())
}

fn fields(volume: &Volume) -> Vec<(&'static str, String)> {
    let kind = |text: &str| ("Type", text.to_owned());
    let optional = |given: Option<bool>| ("Optional", given.unwrap_or(false).to_string());
    if let Some(dir) = &volume.empty_dir {
        let limit = dir.size_limit.as_ref().map_or("<unset>".to_owned(), |limit| limit.0.clone());
        let medium = dir.medium.clone().unwrap_or_default();
        let what = kind("EmptyDir (a temporary directory that shares a pod's lifetime)");
        return vec![what, ("Medium", medium), ("SizeLimit", limit)];
    }
    if let Some(host) = &volume.host_path {
        let what = kind("HostPath (bare host directory volume)");
        return vec![
            what,
            ("Path", host.path.clone()),
            ("HostPathType", host.type_.clone().unwrap_or_default()),
        ];
    }
    if let Some(map) = &volume.config_map {
        let what = kind("ConfigMap (a volume populated by a ConfigMap)");
        return vec![what, ("Name", map.name.clone()), optional(map.optional)];
    }
    if let Some(secret) = &volume.secret {
        let what = kind("Secret (a volume populated by a Secret)");
        let name = secret.secret_name.clone().unwrap_or_default();
        return vec![what, ("SecretName", name), optional(secret.optional)];
    }
    if volume.downward_api.is_some() {
        return vec![kind("DownwardAPI (a volume populated by information about the pod)")];
    }
    if volume.projected.is_some() {
        return vec![kind("Projected (a volume that contains injected data from multiple sources)")];
    }
    vec![kind("<unknown>")]
}
