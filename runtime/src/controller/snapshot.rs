//! What the controller sees: workloads, pods and nodes, all at about the same time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use flatpod::workload::{Node, Workload};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{
    observed::observed,
    placement,
    state::{PodDir, Root, Stored},
};

/// The longest wait before a failed pod of a job is replaced, unless a node says otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What there is.
pub(super) struct Snapshot {
    pub(super) now: Timestamp,
    pub(super) stored: Vec<Stored>,
    /// The same, without status.
    pub(super) workloads: Vec<Workload>,
    pub(super) pods: Vec<Pod>,
    /// The pods' files, by unique id.
    pub(super) dirs: BTreeMap<String, PodDir>,
    /// Nodes that are not being deleted.
    pub(super) nodes: Vec<Node>,
    pub(super) longest_wait: Duration,
}

impl Snapshot {
    pub(super) fn take(root: &Root) -> Result<Self> {
        let stored = root.workloads().all()?;
        let (mut pods, mut dirs) = (vec![], BTreeMap::new());
        for dir in root.pods()? {
            // It may have gone since it was listed.
            let Ok(pod) = dir.manifest() else { continue };
            if let Some(pod) = observed(root, &dir, pod)? {
                pods.push(pod);
                dirs.insert(dir.uid().to_owned(), dir);
            }
        }
        let (mut nodes, mut waits) = (vec![], vec![]);
        for record in placement::nodes(root)? {
            let dir = root.node(&record.name);
            if dir.is_leaving() {
                continue;
            }
            let labels = record.labels().map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            waits.extend(record.max_restart_period.map(Duration::from_secs));
            nodes.push(Node { ready: dir.failure()?.is_none(), name: record.name, labels });
        }
        Ok(Self {
            now: Timestamp::now(),
            workloads: stored.iter().map(|one| one.workload.clone()).collect(),
            stored,
            pods,
            dirs,
            nodes,
            longest_wait: waits.into_iter().min().unwrap_or(LONGEST_WAIT),
        })
    }

    /// The files of a pod.
    pub(super) fn dir(&self, pod: &Pod) -> Option<&PodDir> {
        self.dirs.get(pod.metadata.uid.as_deref()?)
    }

    /// The workload of that unique id.
    pub(super) fn workload(&self, uid: &str) -> Option<&Workload> {
        self.workloads.iter().find(|one| one.uid() == uid)
    }
}
