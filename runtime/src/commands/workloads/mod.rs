//! The verbs, as far as they are about workloads.

pub(super) mod put;
pub(super) mod remove;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(super) mod show;

use anyhow::{Context, Result, bail};
use flatpod::workload::Kind;

use crate::state::{Root, Stored};

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
