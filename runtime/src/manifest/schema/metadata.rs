//! Names and labels, and the objects that only carry data.

use super::{Field, Object, Shape, TEXT_MAP, honoured, notice, only, rejected};

const SET_HERE: &str = "flatpod sets it itself";

pub(super) static OBJECT_META: Object = Object {
    name: "ObjectMeta",
    fields: &[
        honoured("annotations", TEXT_MAP),
        notice("creationTimestamp", Shape::Time, SET_HERE),
        notice("deletionGracePeriodSeconds", Shape::Int64, SET_HERE),
        notice("deletionTimestamp", Shape::Time, SET_HERE),
        rejected(
            "finalizers",
            "nothing here would remove them, so the object could never be deleted; leave them out",
        ),
        rejected("generateName", "apply must find the object again by its name; set metadata.name"),
        notice("generation", Shape::Int64, SET_HERE),
        honoured("labels", TEXT_MAP),
        notice("managedFields", Shape::Any, "flatpod does not track who set which field"),
        honoured("name", Shape::Text),
        honoured("namespace", Shape::Text),
        rejected("ownerReferences", "owners are set by the workload that makes the object; leave them out"),
        notice("resourceVersion", Shape::Text, SET_HERE),
        notice("selfLink", Shape::Text, SET_HERE),
        notice("uid", Shape::Text, SET_HERE),
    ],
};

/// The metadata of a pod template: the name comes from the workload.
pub(super) static TEMPLATE_META: Object = Object {
    name: "ObjectMeta of a template",
    fields: &[
        honoured("annotations", TEXT_MAP),
        notice("creationTimestamp", Shape::Time, SET_HERE),
        notice("deletionGracePeriodSeconds", Shape::Int64, SET_HERE),
        notice("deletionTimestamp", Shape::Time, SET_HERE),
        rejected(
            "finalizers",
            "nothing here would remove them, so the pod could never be deleted; leave them out",
        ),
        notice("generateName", Shape::Text, NAMED_BY_WORKLOAD),
        notice("generation", Shape::Int64, SET_HERE),
        honoured("labels", TEXT_MAP),
        notice("managedFields", Shape::Any, "flatpod does not track who set which field"),
        notice("name", Shape::Text, NAMED_BY_WORKLOAD),
        notice("namespace", Shape::Text, "pods are in the namespace of their workload"),
        rejected("ownerReferences", "owners are set by the workload that makes the pod; leave them out"),
        notice("resourceVersion", Shape::Text, SET_HERE),
        notice("selfLink", Shape::Text, SET_HERE),
        notice("uid", Shape::Text, SET_HERE),
    ],
};

const NAMED_BY_WORKLOAD: &str = "pods are named after their workload";

pub(super) const API_VERSION: Field = honoured("apiVersion", Shape::Text);
pub(super) const KIND: Field = honoured("kind", Shape::Text);
pub(super) const METADATA: Field = honoured("metadata", Shape::One(&OBJECT_META)).required();
pub(super) const STATUS: Field = notice("status", Shape::Any, "the status is observed, not applied");

const IMMUTABLE: Field =
    notice("immutable", Shape::Bool, "every apply writes the object as the manifest says").silent(&["false"]);

/// A `ConfigMap`.
pub static CONFIG_MAP: Object = Object {
    name: "ConfigMap",
    fields: &[
        API_VERSION,
        honoured("binaryData", Shape::Map(&Shape::Bytes)),
        honoured("data", TEXT_MAP),
        IMMUTABLE,
        KIND,
        METADATA,
    ],
};

/// A `Secret`.
pub static SECRET: Object = Object {
    name: "Secret",
    fields: &[
        API_VERSION,
        honoured("data", Shape::Map(&Shape::Bytes)),
        IMMUTABLE,
        KIND,
        METADATA,
        honoured("stringData", TEXT_MAP).note("merged into data, which it overrides"),
        honoured("type", Shape::Text).note("kept; keys that a type requires are not checked"),
    ],
};

pub(super) static LABEL_SELECTOR: Object = Object {
    name: "LabelSelector",
    fields: &[
        honoured("matchExpressions", Shape::Many(&Shape::One(&LABEL_REQUIREMENT))),
        honoured("matchLabels", TEXT_MAP),
    ],
};

static LABEL_REQUIREMENT: Object = Object {
    name: "LabelSelectorRequirement",
    fields: &[
        honoured("key", Shape::Text).required(),
        only(
            "operator",
            Shape::Text,
            &["In", "NotIn", "Exists", "DoesNotExist"],
            "there is no such operator",
        )
        .required(),
        honoured("values", super::FREE_TEXTS),
    ],
};
