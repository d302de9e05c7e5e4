//! The verbs, as far as they are about workloads.

pub(super) mod put;
pub(super) mod remove;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(super) mod show;

use anyhow::{Context, Result, bail};
use flatpod::workload::{Kind, Workload, owner};

use super::Found;
use crate::{
    state::{Root, Stored},
    supervisor,
};

/// The workloads that are meant by `KIND/NAME...` or `KIND NAME...`.
pub(super) fn named(words: &[String]) -> Result<Vec<(Kind, String)>> {
    let kind_of = |word: &str| {
        let hint = || {
            let all: Vec<_> = Kind::ALL.map(|kind| kind.as_str().to_lowercase()).into();
            format!("{word:?} is no kind of workload; there are {}", all.join(", "))
        };
        Kind::named(word).with_context(hint)
    };
    if words.iter().any(|word| word.contains('/')) {
        let split = |word: &String| match word.split_once('/') {
            Some((kind, name)) => Ok((kind_of(kind)?, name.to_owned())),
            None => bail!("{word:?} has no kind: write KIND/NAME for each"),
        };
        return words.iter().map(split).collect();
    }
    match words.split_first() {
        Some((kind, names)) if !names.is_empty() => {
            let kind = kind_of(kind)?;
            Ok(names.iter().map(|name| (kind, name.clone())).collect())
        }
        _ => bail!("name a workload: KIND/NAME"),
    }
}

/// The workload of that name.
pub(super) fn find(root: &Root, kind: Kind, namespace: &str, name: &str) -> Result<Stored> {
    let found = root.workloads().get(kind, namespace, name)?;
    found.with_context(|| format!("{} {name:?} not found", kind.resource()))
}

/// The first by name of the pods of a workload, also of those that what it owns has.
pub(super) fn first_pod(root: &Root, workload: &Workload) -> Result<Found> {
    let mut owners = vec![workload.uid().to_owned()];
    let all = root.workloads().all()?.into_iter().map(|one| one.workload);
    let is_own = |one: &Workload| owner(&one.metadata).is_some_and(|owner| owner.uid == workload.uid());
    owners.extend(all.filter(is_own).map(|one| one.uid().to_owned()));
    let pods = root.pods()?.into_iter().filter_map(|dir| dir.manifest().ok().map(|pod| Found { dir, pod }));
    let own =
        pods.filter(|found| owner(&found.pod.metadata).is_some_and(|owner| owners.contains(&owner.uid)));
    let first = own.min_by_key(|found| found.pod.metadata.name.clone());
    let first = first.with_context(|| format!("{workload} has no pods"))?;
    supervisor::ensure(root, &first.dir)?;
    Ok(first)
}
