//! `delete` for workloads.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use flatpod::workload::Kind;

use super::find;
use crate::{
    commands::until::until,
    controller,
    state::{Cascade, Root, Stored},
};

/// For a workload to go with its pods: their grace, and then some.
const PATIENCE: Duration = Duration::from_secs(600);

/// What becomes of the pods, as kubectl spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum How {
    /// They go, too
    Background,
    /// They go first
    Foreground,
    /// They stay, and belong to nobody
    Orphan,
}

/// A workload that was named: its kind, namespace and name.
pub(in crate::commands) type Named = (Kind, String, String);

/// Deletes workloads, all at once.
pub(in crate::commands) fn delete(root: &Root, named: &[Named], how: How, wait: bool) -> Result<()> {
    let store = root.workloads();
    let found: Vec<Stored> = named
        .iter()
        .map(|(kind, namespace, name)| find(root, *kind, namespace, name))
        .collect::<Result<_>>()?;
    for one in &found {
        let cascade = if how == How::Orphan { Cascade::Orphan } else { Cascade::Foreground };
        let nobody_else = store.lock()?;
        store.put_removal(&one.workload, cascade)?;
        drop(nobody_else);
        controller::ensure(root)?;
        let (kind, name) = (one.workload.kind().resource(), one.workload.name());
        writeln!(io::stdout(), "{kind} {name:?} deleted").context("write to stdout")?;
    }
    for one in found.iter().map(|one| &one.workload).filter(|_| wait) {
        let gone = || {
            let now = store.get(one.kind(), one.namespace(), one.name())?;
            Ok(now.is_none_or(|now| now.workload.uid() != one.uid()).then_some(()))
        };
        let gone = until(PATIENCE, || controller::ensure(root), gone)?;
        gone.with_context(|| format!("{one} is not gone within {PATIENCE:?}: see its events"))?;
    }
    Ok(())
}
