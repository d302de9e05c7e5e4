//! Workloads: objects that make pods from a template.
//!
//! What one needs next is a pure function of what it says, of the pods there are and of the nodes: [`decide`]. Each
//! module names the controller of Kubernetes whose rules it has. Nothing here knows a file or a process.

mod amount;
mod daemon;
mod deployment;
mod job;
mod kind;
mod member;
mod object;
mod replicas;
mod rollout;
mod selector;
mod stateful;
mod template;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use serde_json::Value as Json;

pub use kind::Kind;
pub use member::{is_active, node, owner};
pub use object::{Spec, Workload, WorkloadError};
pub use rollout::{Rollout, rollout};
pub use selector::{Selector, SelectorError, is_selected};
pub use template::reference;

/// What a node is to workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What a `nodeSelector` may name.
    pub labels: BTreeMap<String, String>,
    /// Whether it can be reached.
    pub ready: bool,
}

/// What decisions are made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The workload, with its unique id.
    pub workload: &'a Workload,
    /// Its status as it was last written down; null when never.
    pub status: &'a Json,
    /// All pods, with status, and with a deletion timestamp if they shall go.
    pub pods: &'a [Pod],
    /// All workloads.
    pub workloads: &'a [Workload],
    /// All nodes that are not being deleted.
    pub nodes: &'a [Node],
    /// The time.
    pub now: Timestamp,
    /// The longest wait before a failed pod of a job is replaced.
    pub longest_wait: Duration,
}

/// Something to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this pod. It has a name, or `generateName`, and a node if it must be that one.
    Create(Box<Pod>),
    /// Delete the pod with this unique id.
    Delete(String),
    /// Become the owner of the pod with this unique id, which has none.
    Adopt(String),
    /// Keep this workload, which this one owns.
    Keep(Box<Workload>),
    /// Remove the workload with this unique id, which has no pods any more.
    Drop(String),
}

/// What comes of the facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// The status to show.
    pub status: Json,
}

/// What a workload needs next.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Decision {
    match &facts.workload.spec {
        Spec::ReplicaSet(_) | Spec::ReplicationController(_) => replicas::decide(facts),
        Spec::Deployment(spec) => deployment::decide(facts, spec),
        Spec::StatefulSet(spec) => stateful::decide(facts, spec),
        Spec::DaemonSet(spec) => daemon::decide(facts, spec),
        Spec::Job(spec) => job::decide(facts, spec),
    }
}

#[cfg(test)]
mod fixture;
