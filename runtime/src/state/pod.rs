//! A pod's files.
//!
//! ```text
//! pods/UID/pod.json          what is wanted, with metadata as it was when the pod was made
//!          status.json       what is
//!          deletion.json     that it shall go, and how much time it has
//!          eviction.json     that it shall go as soon as its node can be reached again
//!          lock              held by its supervisor
//!          manifest.lock     held by who changes pod.json: ephemeral containers, owners
//!          sandbox.json      its sandbox: written before the network is asked for anything
//!          net ipc uts pid   the sandbox's namespaces, mounted
//!          shm etc volumes   what containers find mounted
//!          events.jsonl
//!          ctr/NAME/record.json      how often the container was started
//!          ctr/NAME/N/               one run: bundle, overlay, lock of its shim, started.json, exit.json
//!          logs/NAME/N.log
//! ```

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::{Deserialize, Serialize};

use super::{
    file::{read_json, write_json},
    lock::Lock,
    process::ProcessId,
};

/// A pod shall go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deletion {
    pub(crate) requested_at: Timestamp,
    pub(crate) grace_seconds: u64,
}

/// A pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxRecord {
    /// The CNI container id.
    pub(crate) id: String,
    /// Whether it is whole: everything made, network attached.
    pub(crate) ready: bool,
    /// The pod's addresses.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
}

/// How often a container was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    /// The number of the newest run, from 0: the restart count.
    pub(crate) attempt: u32,
    /// Restarts in a row that count for the back-off.
    pub(crate) backoff_step: u32,
}

/// A container has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartRecord {
    /// Its first process, as seen from the node.
    pub(crate) init: ProcessId,
    pub(crate) started_at: Timestamp,
}

/// A container has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExitRecord {
    /// 128 + n after signal n.
    pub(crate) exit_code: i32,
    /// Kubernetes' word: Completed, Error, OOMKilled, StartError, ContainerStatusUnknown.
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

/// A pod's files.
#[derive(Debug, Clone)]
pub(crate) struct PodDir {
    path: PathBuf,
    uid: String,
}

impl PodDir {
    pub(super) fn new(path: PathBuf, uid: &str) -> Self {
        Self { path, uid: uid.to_owned() }
    }

    /// Its unique id.
    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of that name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn manifest_file(&self) -> PathBuf {
        self.file("pod.json")
    }

    /// What is wanted.
    pub(crate) fn manifest(&self) -> Result<Pod> {
        let gone = || format!("pod {} is gone", self.uid);
        read_json(&self.manifest_file())?.with_context(gone)
    }

    /// Remembers what is wanted.
    pub(crate) fn put_manifest(&self, pod: &Pod) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("create {}", self.path.display()))?;
        write_json(&self.manifest_file(), pod)
    }

    /// Changes what is wanted, one change at a time. A pod that has gone meanwhile stays gone.
    pub(crate) fn change_manifest(&self, change: impl FnOnce(&mut Pod) -> Result<()>) -> Result<Pod> {
        let _one_at_a_time = Lock::take(&self.file("manifest.lock"))?;
        let mut pod = self.manifest()?;
        change(&mut pod)?;
        write_json(&self.manifest_file(), &pod)?;
        Ok(pod)
    }

    /// What is, as last seen by its supervisor.
    pub(crate) fn status(&self) -> Result<Option<PodStatus>> {
        read_json(&self.file("status.json"))
    }

    /// Remembers what is.
    pub(crate) fn put_status(&self, status: &PodStatus) -> Result<()> {
        write_json(&self.file("status.json"), status)
    }

    /// Whether it shall go.
    pub(crate) fn deletion(&self) -> Result<Option<Deletion>> {
        read_json(&self.file("deletion.json"))
    }

    /// Remembers that it shall go.
    pub(crate) fn put_deletion(&self, deletion: &Deletion) -> Result<()> {
        write_json(&self.file("deletion.json"), deletion)
    }

    /// Since when it shall go, as soon as its node can be reached again.
    pub(crate) fn eviction(&self) -> Result<Option<Timestamp>> {
        read_json(&self.file("eviction.json"))
    }

    /// Remembers that it shall go as soon as its node can be reached again.
    pub(crate) fn put_eviction(&self, since: Timestamp) -> Result<()> {
        write_json(&self.file("eviction.json"), &since)
    }

    /// Its sandbox.
    pub(crate) fn sandbox(&self) -> Result<Option<SandboxRecord>> {
        read_json(&self.file("sandbox.json"))
    }

    /// Remembers its sandbox.
    pub(crate) fn put_sandbox(&self, record: &SandboxRecord) -> Result<()> {
        write_json(&self.file("sandbox.json"), record)
    }

    /// The file that its supervisor holds locked.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.file("lock")
    }

    /// How often a container was started; `None` when never.
    pub(crate) fn container(&self, name: &str) -> Result<Option<ContainerRecord>> {
        read_json(&self.container_dir(name).join("record.json"))
    }

    /// Remembers how often a container was started.
    pub(crate) fn put_container(&self, name: &str, record: ContainerRecord) -> Result<()> {
        let dir = self.container_dir(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        write_json(&dir.join("record.json"), &record)
    }

    /// The names of the containers that were ever started.
    pub(crate) fn containers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.join("ctr")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// One run of a container.
    pub(crate) fn attempt(&self, name: &str, number: u32) -> Attempt {
        let path = self.container_dir(name).join(number.to_string());
        let log = self.path.join("logs").join(name).join(format!("{number}.log"));
        Attempt { path, log }
    }

    fn container_dir(&self, name: &str) -> PathBuf {
        self.path.join("ctr").join(name)
    }
}

/// One run of a container.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    path: PathBuf,
    log: PathBuf,
}

impl Attempt {
    /// The run in this directory, with its log at `log`.
    pub(crate) fn at(path: PathBuf, log: PathBuf) -> Self {
        Self { path, log }
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file of that name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The file that its shim holds locked.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.file("lock")
    }

    /// Whether and when it started.
    pub(crate) fn started(&self) -> Result<Option<StartRecord>> {
        read_json(&self.file("started.json"))
    }

    /// Remembers that it started.
    pub(crate) fn put_started(&self, record: &StartRecord) -> Result<()> {
        write_json(&self.file("started.json"), record)
    }

    /// Whether and how it ended.
    pub(crate) fn ended(&self) -> Result<Option<ExitRecord>> {
        read_json(&self.file("exit.json"))
    }

    /// Remembers how it ended.
    pub(crate) fn put_ended(&self, record: &ExitRecord) -> Result<()> {
        write_json(&self.file("exit.json"), record)
    }
}
