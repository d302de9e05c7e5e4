//! Where a pod would rather run.

use super::{FREE_TEXTS, Object, Shape, TEXTS, honoured, metadata::LABEL_SELECTOR, notice, rejected};

const PREFERENCE: &str = "preferences are not weighed here; use spec.nodeName or spec.nodeSelector";
const REQUIREMENT: &str = "it is not enforced here; use spec.nodeName or spec.nodeSelector";

pub(super) static AFFINITY: Object = Object {
    name: "Affinity",
    fields: &[
        honoured("nodeAffinity", Shape::One(&NODE_AFFINITY)),
        honoured("podAffinity", Shape::One(&POD_AFFINITY)),
        honoured("podAntiAffinity", Shape::One(&POD_ANTI_AFFINITY)),
    ],
};

static NODE_AFFINITY: Object = Object {
    name: "NodeAffinity",
    fields: &[
        notice(
            "preferredDuringSchedulingIgnoredDuringExecution",
            Shape::Many(&Shape::One(&PREFERRED_NODE)),
            PREFERENCE,
        ),
        rejected("requiredDuringSchedulingIgnoredDuringExecution", REQUIREMENT),
    ],
};

static PREFERRED_NODE: Object = Object {
    name: "PreferredSchedulingTerm",
    fields: &[
        honoured("preference", Shape::One(&NODE_TERM)).required(),
        honoured("weight", Shape::Int32).required(),
    ],
};

static NODE_TERM: Object = Object {
    name: "NodeSelectorTerm",
    fields: &[
        honoured("matchExpressions", Shape::Many(&Shape::One(&NODE_REQUIREMENT))),
        honoured("matchFields", Shape::Many(&Shape::One(&NODE_REQUIREMENT))),
    ],
};

static NODE_REQUIREMENT: Object = Object {
    name: "NodeSelectorRequirement",
    fields: &[
        honoured("key", Shape::Text).required(),
        honoured("operator", Shape::Text).required(),
        honoured("values", FREE_TEXTS),
    ],
};

static POD_AFFINITY: Object = Object {
    name: "PodAffinity",
    fields: &[
        notice("preferredDuringSchedulingIgnoredDuringExecution", WEIGHTED, PREFERENCE),
        rejected("requiredDuringSchedulingIgnoredDuringExecution", REQUIREMENT),
    ],
};

static POD_ANTI_AFFINITY: Object = Object {
    name: "PodAntiAffinity",
    fields: &[
        notice("preferredDuringSchedulingIgnoredDuringExecution", WEIGHTED, PREFERENCE),
        rejected("requiredDuringSchedulingIgnoredDuringExecution", REQUIREMENT),
    ],
};

const WEIGHTED: Shape = Shape::Many(&Shape::One(&WEIGHTED_TERM));

static WEIGHTED_TERM: Object = Object {
    name: "WeightedPodAffinityTerm",
    fields: &[
        honoured("podAffinityTerm", Shape::One(&POD_TERM)).required(),
        honoured("weight", Shape::Int32).required(),
    ],
};

static POD_TERM: Object = Object {
    name: "PodAffinityTerm",
    fields: &[
        honoured("labelSelector", Shape::One(&LABEL_SELECTOR)),
        honoured("matchLabelKeys", TEXTS),
        honoured("mismatchLabelKeys", TEXTS),
        honoured("namespaceSelector", Shape::One(&LABEL_SELECTOR)),
        honoured("namespaces", TEXTS),
        honoured("topologyKey", Shape::Text).required(),
    ],
};

pub(super) static TOLERATION: Object = Object {
    name: "Toleration",
    fields: &[
        honoured("effect", Shape::Text),
        honoured("key", Shape::Text),
        honoured("operator", Shape::Text),
        honoured("tolerationSeconds", Shape::Int64),
        honoured("value", Shape::Text),
    ],
};

pub(super) static TOPOLOGY_SPREAD: Object = Object {
    name: "TopologySpreadConstraint",
    fields: &[
        honoured("labelSelector", Shape::One(&LABEL_SELECTOR)),
        honoured("matchLabelKeys", TEXTS),
        honoured("maxSkew", Shape::Int32).required(),
        honoured("minDomains", Shape::Int32),
        honoured("nodeAffinityPolicy", Shape::Text),
        honoured("nodeTaintsPolicy", Shape::Text),
        honoured("topologyKey", Shape::Text).required(),
        honoured("whenUnsatisfiable", Shape::Text).required(),
    ],
};
