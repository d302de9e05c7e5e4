//! As whom a container runs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Making;
use crate::image::read_file;

/// The `user` object of an OCI process.
pub(super) fn of(making: &Making<'_>) -> Result<Value> {
    let pod = making.spec().security_context.as_ref();
    let own = making.container.security_context.as_ref();
    let wanted_user = own.and_then(|c| c.run_as_user).or(pod.and_then(|c| c.run_as_user));
    let wanted_group = own.and_then(|c| c.run_as_group).or(pod.and_then(|c| c.run_as_group));
    let non_root = own.and_then(|c| c.run_as_non_root).or(pod.and_then(|c| c.run_as_non_root));
    let (user, group) = split(&making.image.config.user);
    let lower = &making.image.lower;
    let uid = match wanted_user {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => id_of(lower, "etc/passwd", user).with_context(|| format!("the image's user {user}"))?,
    };
    if non_root == Some(true) && uid == 0 {
        bail!("container has runAsNonRoot and image will run as root");
    }
    let gid = match wanted_group {
        Some(gid) => gid,
        None if wanted_user.is_none() && !group.is_empty() => {
            id_of(lower, "etc/group", group).with_context(|| format!("the image's group {group}"))?
        }
        None => group_of(lower, uid).unwrap_or(0),
    };
    let mut more: Vec<i64> = pod.and_then(|c| c.supplemental_groups.clone()).unwrap_or_default();
    more.extend(pod.and_then(|c| c.fs_group));
    more.sort_unstable();
    more.dedup();
    Ok(json!({ "uid": uid, "gid": gid, "additionalGids": more }))
}

fn split(user: &str) -> (&str, &str) {
    user.split_once(':').unwrap_or((user, ""))
}

/// A number, or a name from a file of the image.
fn id_of(lower: &[PathBuf], file: &str, name: &str) -> Result<i64> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let found =
        lines(lower, file).into_iter().find(|fields| fields.first().is_some_and(|first| first == name));
    let id = found.and_then(|fields| fields.get(2)?.parse().ok());
    id.with_context(|| format!("no {name} in the image's /{file}"))
}

/// The group that a user has by the image's `/etc/passwd`.
fn group_of(lower: &[PathBuf], uid: i64) -> Option<i64> {
    let uid = uid.to_string();
    let found = lines(lower, "etc/passwd").into_iter().find(|fields| fields.get(2) == Some(&uid))?;
    found.get(3)?.parse().ok()
}

fn lines(lower: &[PathBuf], file: &str) -> Vec<Vec<String>> {
    let text = read_file(lower, file).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}
