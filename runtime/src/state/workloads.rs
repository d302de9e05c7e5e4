//! Workloads' files, all in one directory.
//!
//! ```text
//! workloads/KIND_NAMESPACE_NAME_object.json     what is wanted; written by commands, and for what it owns by the controller
//!           KIND_NAMESPACE_NAME_status.json     what is; written by the controller
//!           KIND_NAMESPACE_NAME_removal.json    that it shall go
//!           KIND_NAMESPACE_NAME_events.jsonl
//! ```
//!
//! Whatever belongs to an object names its unique id, so that what is left of one says nothing about the next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flatpod::workload::{Kind, Workload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    file::{read_json, remove, write_json},
    lock::Lock,
};

const OBJECT: &str = "object.json";
const STATUS: &str = "status.json";
const REMOVAL: &str = "removal.json";
const EVENTS: &str = "events.jsonl";

/// What becomes of what a workload owns when the workload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Cascade {
    /// It goes first.
    Foreground,
    /// It stays, without an owner.
    Orphan,
}

#[derive(Serialize, Deserialize)]
struct Of<T> {
    uid: String,
    value: T,
}

/// A workload with what its files say.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) workload: Workload,
    /// Null before its controller has seen it.
    pub(crate) status: Value,
    pub(crate) removal: Option<Cascade>,
}

/// The store of workloads.
#[derive(Debug, Clone)]
pub(crate) struct Workloads {
    dir: PathBuf,
}

impl Workloads {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Waits to be the only one who changes workloads.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::take(&self.dir.with_extension("lock"))
    }

    /// All of them, owners before what they own, then by name.
    pub(crate) fn all(&self) -> Result<Vec<Stored>> {
        let entries = fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))?;
        let mut all = vec![];
        for entry in entries {
            let name = entry.with_context(|| format!("list {}", self.dir.display()))?.file_name();
            let name = name.to_string_lossy();
            let Some(stem) = name.strip_suffix(OBJECT).filter(|name| !name.starts_with('.')) else {
                continue;
            };
            // It may have gone since it was listed.
            all.extend(self.stored(stem)?);
        }
        let order = |one: &Stored| {
            let workload = &one.workload;
            (workload.kind(), workload.namespace().to_owned(), workload.name().to_owned())
        };
        all.sort_by_key(order);
        Ok(all)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let entries = fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))?;
        Ok(!entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(OBJECT)))
    }

    /// The one of that name.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Stored>> {
        self.stored(&stem(kind, namespace, name))
    }

    /// Keeps it as it is.
    pub(crate) fn put(&self, workload: &Workload) -> Result<()> {
        write_json(&self.file(workload, OBJECT), workload)
    }

    /// Keeps its status. Only the controller does, which is one.
    pub(crate) fn put_status(&self, workload: &Workload, status: &Value) -> Result<()> {
        self.put_of(workload, STATUS, status)
    }

    /// Remembers that it shall go.
    pub(crate) fn put_removal(&self, workload: &Workload, cascade: Cascade) -> Result<()> {
        self.put_of(workload, REMOVAL, cascade)
    }

    /// Removes it. The object goes first: without it the rest says nothing.
    pub(crate) fn remove(&self, workload: &Workload) -> Result<()> {
        for part in [OBJECT, STATUS, REMOVAL, EVENTS] {
            remove(&self.file(workload, part))?;
        }
        Ok(())
    }

    /// Removes what writers left who were killed; `_lock` says that nobody writes now.
    pub(crate) fn sweep(&self, _lock: &Lock) -> Result<()> {
        let entries = fs::read_dir(&self.dir).with_context(|| format!("list {}", self.dir.display()))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.')) {
            let left = entry.path();
            fs::remove_file(&left).with_context(|| format!("remove {}", left.display()))?;
        }
        Ok(())
    }

    /// Where what happened to it is written.
    pub(crate) fn events_file(&self, workload: &Workload) -> PathBuf {
        self.file(workload, EVENTS)
    }

    fn stored(&self, stem: &str) -> Result<Option<Stored>> {
        let Some(workload) = read_json::<Workload>(&self.dir.join(format!("{stem}{OBJECT}")))? else {
            return Ok(None);
        };
        let status = self.of(stem, STATUS, &workload)?.unwrap_or_default();
        let removal = self.of(stem, REMOVAL, &workload)?;
        Ok(Some(Stored { workload, status, removal }))
    }

    fn of<T: serde::de::DeserializeOwned>(
        &self,
        stem: &str,
        part: &str,
        workload: &Workload,
    ) -> Result<Option<T>> {
        let found: Option<Of<T>> = read_json(&self.dir.join(format!("{stem}{part}")))?;
        Ok(found.filter(|found| found.uid == workload.uid()).map(|found| found.value))
    }

    fn put_of<T: Serialize>(&self, workload: &Workload, part: &str, value: T) -> Result<()> {
        write_json(&self.file(workload, part), &Of { uid: workload.uid().to_owned(), value })
    }

    fn file(&self, workload: &Workload, part: &str) -> PathBuf {
        let stem = stem(workload.kind(), workload.namespace(), workload.name());
        self.dir.join(format!("{stem}{part}"))
    }
}

/// None of the three may contain an underscore, so no two objects have one file.
fn stem(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}_{namespace}_{name}_", kind.as_str().to_lowercase())
}
