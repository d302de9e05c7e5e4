//! A workload: its metadata, and the specification of its kind.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSetSpec, DeploymentSpec, ReplicaSetSpec, StatefulSetSpec},
        batch::v1::JobSpec,
        core::v1::{PodTemplateSpec, ReplicationControllerSpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Value as Json, json};

use super::Kind;

/// Why JSON is no workload.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// It is something else.
    #[error("{0} is no workload")]
    Kind(String),
    /// It is not what its kind says.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A workload, without its status.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it wants.
    pub spec: Spec,
}

/// What a workload wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Of a `Deployment`.
    Deployment(Box<DeploymentSpec>),
    /// Of a `ReplicaSet`.
    ReplicaSet(Box<ReplicaSetSpec>),
    /// Of a `ReplicationController`.
    ReplicationController(Box<ReplicationControllerSpec>),
    /// Of a `StatefulSet`.
    StatefulSet(Box<StatefulSetSpec>),
    /// Of a `DaemonSet`.
    DaemonSet(Box<DaemonSetSpec>),
    /// Of a `Job`.
    Job(Box<JobSpec>),
}

impl Workload {
    /// What its kind is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.spec {
            Spec::Deployment(_) => Kind::Deployment,
            Spec::ReplicaSet(_) => Kind::ReplicaSet,
            Spec::ReplicationController(_) => Kind::ReplicationController,
            Spec::StatefulSet(_) => Kind::StatefulSet,
            Spec::DaemonSet(_) => Kind::DaemonSet,
            Spec::Job(_) => Kind::Job,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its unique id; empty before it is kept.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// How many pods it wants, where that is a number of its own.
    #[must_use]
    pub fn replicas(&self) -> Option<i32> {
        match &self.spec {
            Spec::Deployment(spec) => spec.replicas,
            Spec::ReplicaSet(spec) => spec.replicas,
            Spec::ReplicationController(spec) => spec.replicas,
            Spec::StatefulSet(spec) => spec.replicas,
            Spec::DaemonSet(_) | Spec::Job(_) => None,
        }
    }

    /// The place of that number.
    pub fn replicas_mut(&mut self) -> Option<&mut Option<i32>> {
        match &mut self.spec {
            Spec::Deployment(spec) => Some(&mut spec.replicas),
            Spec::ReplicaSet(spec) => Some(&mut spec.replicas),
            Spec::ReplicationController(spec) => Some(&mut spec.replicas),
            Spec::StatefulSet(spec) => Some(&mut spec.replicas),
            Spec::DaemonSet(_) | Spec::Job(_) => None,
        }
    }

    /// What its pods are made from.
    #[must_use]
    pub fn template(&self) -> Option<&PodTemplateSpec> {
        match &self.spec {
            Spec::Deployment(spec) => Some(&spec.template),
            Spec::ReplicaSet(spec) => spec.template.as_ref(),
            Spec::ReplicationController(spec) => spec.template.as_ref(),
            Spec::StatefulSet(spec) => Some(&spec.template),
            Spec::DaemonSet(spec) => Some(&spec.template),
            Spec::Job(spec) => Some(&spec.template),
        }
    }

    /// The same, to be changed.
    pub fn template_mut(&mut self) -> Option<&mut PodTemplateSpec> {
        match &mut self.spec {
            Spec::Deployment(spec) => Some(&mut spec.template),
            Spec::ReplicaSet(spec) => spec.template.as_mut(),
            Spec::ReplicationController(spec) => spec.template.as_mut(),
            Spec::StatefulSet(spec) => Some(&mut spec.template),
            Spec::DaemonSet(spec) => Some(&mut spec.template),
            Spec::Job(spec) => Some(&mut spec.template),
        }
    }

    /// Which pods are its own, if nobody else's; a job has those only that it made.
    #[must_use]
    pub fn selector(&self) -> Option<LabelSelector> {
        match &self.spec {
            Spec::Deployment(spec) => Some(spec.selector.clone()),
            Spec::ReplicaSet(spec) => Some(spec.selector.clone()),
            Spec::ReplicationController(spec) => {
                Some(LabelSelector { match_labels: spec.selector.clone(), match_expressions: None })
            }
            Spec::StatefulSet(spec) => Some(spec.selector.clone()),
            Spec::DaemonSet(spec) => Some(spec.selector.clone()),
            Spec::Job(_) => None,
        }
    }

    /// For how many seconds a pod has to be ready to be available.
    #[must_use]
    pub fn min_ready_seconds(&self) -> i32 {
        let seconds = match &self.spec {
            Spec::Deployment(spec) => spec.min_ready_seconds,
            Spec::ReplicaSet(spec) => spec.min_ready_seconds,
            Spec::ReplicationController(spec) => spec.min_ready_seconds,
            Spec::StatefulSet(spec) => spec.min_ready_seconds,
            Spec::DaemonSet(spec) => spec.min_ready_seconds,
            Spec::Job(_) => None,
        };
        seconds.unwrap_or(0)
    }

    /// Whether pods of a former template stay until somebody deletes them.
    pub(super) fn is_replaced_by_hand(&self) -> bool {
        let kind = match &self.spec {
            Spec::StatefulSet(spec) => spec.update_strategy.as_ref().and_then(|one| one.type_.as_deref()),
            Spec::DaemonSet(spec) => spec.update_strategy.as_ref().and_then(|one| one.type_.as_deref()),
            _ => None,
        };
        kind == Some("OnDelete")
    }

    /// As JSON, with `apiVersion` and `kind`.
    ///
    /// # Errors
    ///
    /// None in practice: these objects have no keys but strings.
    pub fn to_json(&self) -> serde_json::Result<Json> {
        let spec = match &self.spec {
            Spec::Deployment(spec) => serde_json::to_value(spec),
            Spec::ReplicaSet(spec) => serde_json::to_value(spec),
            Spec::ReplicationController(spec) => serde_json::to_value(spec),
            Spec::StatefulSet(spec) => serde_json::to_value(spec),
            Spec::DaemonSet(spec) => serde_json::to_value(spec),
            Spec::Job(spec) => serde_json::to_value(spec),
        }?;
        let kind = self.kind();
        Ok(json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": serde_json::to_value(&self.metadata)?,
            "spec": spec,
        }))
    }

    /// From JSON with `kind`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn from_json(json: &Json) -> Result<Self, WorkloadError> {
        let named = json["kind"].as_str().unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == named);
        let spec = json["spec"].clone();
        let spec = match kind.ok_or_else(|| WorkloadError::Kind(named.to_owned()))? {
            Kind::Deployment => Spec::Deployment(serde_json::from_value(spec)?),
            Kind::ReplicaSet => Spec::ReplicaSet(serde_json::from_value(spec)?),
            Kind::ReplicationController => Spec::ReplicationController(serde_json::from_value(spec)?),
            Kind::StatefulSet => Spec::StatefulSet(serde_json::from_value(spec)?),
            Kind::DaemonSet => Spec::DaemonSet(serde_json::from_value(spec)?),
            Kind::Job => Spec::Job(serde_json::from_value(spec)?),
        };
        Ok(Self { metadata: serde_json::from_value(json["metadata"].clone())?, spec })
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// As kubectl names it: `deployment.apps/web`.
impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind().resource(), self.name())
    }
}
