//! Pods and workloads come into being: they get unique ids, and pods a name of their own, a node, and files.

use std::fs;

use anyhow::{Context, Result, bail};
use flatpod::{letters, workload::Workload};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    placement,
    state::{Lock, PodDir, Root},
};

/// The longest name, less what is added to a name that is generated.
const BASE_MAX: usize = 58;
/// How much is added.
const SUFFIX: usize = 5;

/// A unique id.
fn unique_id() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a unique id")?;
    Ok(text.trim().to_owned())
}

/// Makes the pod, which needs a supervisor then. Its name, if it has one, must be free; `_names` says that nobody else
/// gives names meanwhile.
pub(crate) fn admit(root: &Root, mut pod: Pod, node: Option<&str>, _names: &Lock) -> Result<PodDir> {
    let uid = unique_id()?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty());
    let base = pod.metadata.generate_name.as_deref().unwrap_or_default();
    let name = name.unwrap_or_else(|| generated(base, &uid));
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(placement::choose(root, spec, node)?.name);
    if let Some(holder) = root.reserve(&namespace, &name, &uid)? {
        if root.pod(&holder).manifest().is_ok() {
            bail!("pod/{name} exists already");
        }
        // What is left of a name without a pod is of one whose maker was killed.
        root.release(&namespace, &name, &holder)?;
        root.reserve(&namespace, &name, &uid)?;
    }
    pod.metadata.name = Some(name);
    pod.metadata.uid = Some(uid.clone());
    pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    let dir = root.pod(&uid);
    dir.put_manifest(&pod)?;
    Ok(dir)
}

/// Gives a new workload what makes it one that is kept.
pub(crate) fn register(workload: &mut Workload) -> Result<()> {
    workload.metadata.uid = Some(unique_id()?);
    workload.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    workload.metadata.generation = Some(1);
    if let Some(replicas) = workload.replicas_mut() {
        replicas.get_or_insert(1);
    }
    Ok(())
}

/// `base` with five letters that nobody else has, most likely.
pub(crate) fn generated_name(base: &str) -> Result<String> {
    Ok(generated(base, &unique_id()?))
}

/// `base` with five letters that come of the unique id.
fn generated(base: &str, uid: &str) -> String {
    let digits: Vec<u8> = uid.bytes().filter(|byte| *byte != b'-').collect();
    let number = |pair: &[u8]| pair.iter().fold(0, |sum, digit| sum * 31 + usize::from(*digit));
    let letters = letters::spell(digits.chunks(2).take(SUFFIX).map(number));
    format!("{}{letters}", base.chars().take(BASE_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_short_and_of_their_id() {
        let (a, b) = (unique_id().unwrap(), unique_id().unwrap());
        assert_ne!(generated("web-", &a), generated("web-", &b));
        let long = generated(&"x".repeat(253), &a);
        assert_eq!(long.len(), 63);
        assert_eq!(generated("web-", &a).strip_prefix("web-").unwrap().len(), SUFFIX);
    }
}
