//! From a template to a pod, and the name of a template's version.

use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::Workload;
use crate::letters;

/// The label that tells the pods of a stateful set apart.
pub(super) const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label that names the version of the template of a stateful or daemon set.
pub(super) const REVISION_LABEL: &str = "controller-revision-hash";

/// A pod as the template says, owned by `workload`. It has no name yet.
pub(super) fn pod(workload: &Workload) -> Pod {
    let template = workload.template().cloned().unwrap_or_default();
    let ObjectMeta { labels, annotations, .. } = template.metadata.unwrap_or_default();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", workload.name())),
        namespace: workload.metadata.namespace.clone(),
        labels,
        annotations,
        owner_references: Some(vec![reference(workload)]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec, status: None }
}

/// How what a workload makes says who made it.
#[must_use]
pub fn reference(workload: &Workload) -> OwnerReference {
    let kind = workload.kind();
    OwnerReference {
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        name: workload.name().to_owned(),
        uid: workload.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub(super) fn label(metadata: &mut ObjectMeta, key: &str, value: &str) {
    metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
}

/// What tells one version of a template from another, fit for names and labels.
pub(super) fn hash(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    letters::spell(letters::hash(&text).to_string().bytes().map(usize::from))
}
