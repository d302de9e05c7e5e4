//! Workloads: objects that make pods from a template.

use super::{
    Field, Object, POD_TEMPLATE, Shape, TEXT_MAP, honoured,
    metadata::{API_VERSION, KIND, LABEL_SELECTOR, METADATA, STATUS},
    notice, only, rejected,
};

const NO_HISTORY: &str = "former versions of a template are not kept here";

const REPLICAS: Field = honoured("replicas", Shape::Int32);
const MIN_READY: Field = honoured("minReadySeconds", Shape::Int32);
const SELECTOR: Field = honoured("selector", Shape::One(&LABEL_SELECTOR)).required();
const TEMPLATE: Field = honoured("template", Shape::One(&POD_TEMPLATE));
const HISTORY: Field = notice("revisionHistoryLimit", Shape::Int32, NO_HISTORY);

/// A `ReplicaSet`.
pub static REPLICA_SET: Object = Object {
    name: "ReplicaSet",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        honoured("spec", Shape::One(&REPLICA_SET_SPEC)).required(),
        STATUS,
    ],
};

static REPLICA_SET_SPEC: Object =
    Object { name: "ReplicaSetSpec", fields: &[MIN_READY, REPLICAS, SELECTOR, TEMPLATE.required()] };

/// A `ReplicationController`.
pub static REPLICATION_CONTROLLER: Object = Object {
    name: "ReplicationController",
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Shape::One(&CONTROLLER_SPEC)).required(), STATUS],
};

static CONTROLLER_SPEC: Object = Object {
    name: "ReplicationControllerSpec",
    fields: &[MIN_READY, REPLICAS, honoured("selector", TEXT_MAP), TEMPLATE.required()],
};

/// A `Deployment`.
pub static DEPLOYMENT: Object = Object {
    name: "Deployment",
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Shape::One(&DEPLOYMENT_SPEC)).required(), STATUS],
};

static DEPLOYMENT_SPEC: Object = Object {
    name: "DeploymentSpec",
    fields: &[
        MIN_READY,
        only("paused", Shape::Bool, &["false"], "roll-outs are not paused here"),
        notice("progressDeadlineSeconds", Shape::Int32, "a roll-out waits as long as it takes"),
        REPLICAS,
        HISTORY,
        SELECTOR,
        honoured("strategy", Shape::One(&DEPLOYMENT_STRATEGY)),
        TEMPLATE.required(),
    ],
};

static DEPLOYMENT_STRATEGY: Object = Object {
    name: "DeploymentStrategy",
    fields: &[
        honoured("rollingUpdate", Shape::One(&ROLLING_DEPLOYMENT)),
        only("type", Shape::Text, &["Recreate", "RollingUpdate"], "there is no such strategy"),
    ],
};

static ROLLING_DEPLOYMENT: Object = Object {
    name: "RollingUpdateDeployment",
    fields: &[honoured("maxSurge", Shape::IntOrText), honoured("maxUnavailable", Shape::IntOrText)],
};

/// A `StatefulSet`.
pub static STATEFUL_SET: Object = Object {
    name: "StatefulSet",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        honoured("spec", Shape::One(&STATEFUL_SET_SPEC)).required(),
        STATUS,
    ],
};

static STATEFUL_SET_SPEC: Object = Object {
    name: "StatefulSetSpec",
    fields: &[
        MIN_READY,
        honoured("ordinals", Shape::One(&ORDINALS)),
        rejected("persistentVolumeClaimRetentionPolicy", "there are no claims here; leave it out"),
        only("podManagementPolicy", Shape::Text, &["OrderedReady", "Parallel"], "there is no such policy"),
        REPLICAS,
        HISTORY,
        SELECTOR,
        honoured("serviceName", Shape::Text)
            .note("the subdomain of the pods' names; there is no service behind it"),
        TEMPLATE.required(),
        honoured("updateStrategy", Shape::One(&STATEFUL_STRATEGY)),
        rejected(
            "volumeClaimTemplates",
            "there are no claims here; use hostPath for data that outlives the pods",
        ),
    ],
};

static ORDINALS: Object = Object { name: "StatefulSetOrdinals", fields: &[honoured("start", Shape::Int32)] };

static STATEFUL_STRATEGY: Object = Object {
    name: "StatefulSetUpdateStrategy",
    fields: &[
        honoured("rollingUpdate", Shape::One(&ROLLING_STATEFUL)),
        only("type", Shape::Text, &["OnDelete", "RollingUpdate"], "there is no such strategy"),
    ],
};

static ROLLING_STATEFUL: Object = Object {
    name: "RollingUpdateStatefulSetStrategy",
    fields: &[
        only("maxUnavailable", Shape::IntOrText, &["1"], "pods of a set are replaced one by one here"),
        only("partition", Shape::Int32, &["0"], NO_HISTORY),
    ],
};

/// A `DaemonSet`.
pub static DAEMON_SET: Object = Object {
    name: "DaemonSet",
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Shape::One(&DAEMON_SET_SPEC)).required(), STATUS],
};

static DAEMON_SET_SPEC: Object = Object {
    name: "DaemonSetSpec",
    fields: &[
        MIN_READY,
        HISTORY,
        SELECTOR,
        TEMPLATE.required(),
        honoured("updateStrategy", Shape::One(&DAEMON_STRATEGY)),
    ],
};

static DAEMON_STRATEGY: Object = Object {
    name: "DaemonSetUpdateStrategy",
    fields: &[
        honoured("rollingUpdate", Shape::One(&ROLLING_DAEMON)),
        only("type", Shape::Text, &["OnDelete", "RollingUpdate"], "there is no such strategy"),
    ],
};

static ROLLING_DAEMON: Object = Object {
    name: "RollingUpdateDaemonSet",
    fields: &[
        rejected("maxSurge", "a node never has two pods of one set here; leave it out"),
        honoured("maxUnavailable", Shape::IntOrText),
    ],
};

/// A `Job`.
pub static JOB: Object = Object {
    name: "Job",
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Shape::One(&JOB_SPEC)).required(), STATUS],
};

static JOB_SPEC: Object = Object {
    name: "JobSpec",
    fields: &[
        honoured("activeDeadlineSeconds", Shape::Int64),
        honoured("backoffLimit", Shape::Int32),
        rejected("backoffLimitPerIndex", "jobs have no indexes here"),
        only("completionMode", Shape::Text, &["NonIndexed"], "jobs have no indexes here"),
        honoured("completions", Shape::Int32),
        rejected("managedBy", "there is one controller of jobs here"),
        only("manualSelector", Shape::Bool, &["false"], "a job selects the pods that it made; leave it out"),
        rejected("maxFailedIndexes", "jobs have no indexes here"),
        honoured("parallelism", Shape::Int32),
        rejected("podFailurePolicy", "every failure counts here"),
        only(
            "podReplacementPolicy",
            Shape::Text,
            &["TerminatingOrFailed"],
            "a failed pod is replaced at once here",
        ),
        rejected("scheduling", "pods are not scheduled as groups here"),
        rejected("selector", "a job selects the pods that it made; leave it out"),
        rejected("successPolicy", "jobs have no indexes here"),
        only("suspend", Shape::Bool, &["false"], "jobs start at once here"),
        TEMPLATE.required(),
        notice("ttlSecondsAfterFinished", Shape::Int32, "finished jobs stay until they are deleted"),
    ],
};
