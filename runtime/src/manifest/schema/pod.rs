//! A pod as a whole.

use super::{
    FREE_TEXTS, Object, Shape, TEXT_MAP, TEXTS,
    container::{CONTAINER, LINUX_LABELS, SECCOMP_PROFILE},
    honoured,
    metadata::{API_VERSION, KIND, METADATA, STATUS, TEMPLATE_META},
    notice, only,
    placement::{AFFINITY, TOLERATION, TOPOLOGY_SPREAD},
    rejected,
    volume::VOLUME,
    with_registry,
};

const NO_SCHEDULER: &str =
    "a pod goes to the node it names, or to one that fits; there is no other scheduler";
const NO_PRIORITY: &str = "pods are never preempted here";
const NO_ACCOUNTS: &str = "there is no API server here to authenticate to, so no token is mounted";

/// A `Pod`.
pub static POD: Object = Object {
    name: "Pod",
    fields: &[API_VERSION, KIND, METADATA, honoured("spec", Shape::One(&POD_SPEC)).required(), STATUS],
};

/// The template of a workload's pods.
pub static POD_TEMPLATE: Object = Object {
    name: "PodTemplateSpec",
    fields: &[
        honoured("metadata", Shape::One(&TEMPLATE_META)),
        honoured("spec", Shape::One(&POD_SPEC)).required(),
    ],
};

static POD_SPEC: Object = Object {
    name: "PodSpec",
    fields: &[
        honoured("activeDeadlineSeconds", Shape::Int64)
            .note("counted from the start of the pod, init containers included"),
        honoured("affinity", Shape::One(&AFFINITY)).note("preferences only; see below"),
        notice("automountServiceAccountToken", Shape::Bool, NO_ACCOUNTS).silent(&["false"]),
        honoured("containers", Shape::Many(&Shape::One(&CONTAINER))).required(),
        honoured("dnsConfig", Shape::One(&DNS_CONFIG)),
        honoured("dnsPolicy", Shape::Text)
            .note("ClusterFirst uses the node's resolv.conf where the cluster has no DNS"),
        notice(
            "enableServiceLinks",
            Shape::Bool,
            "there are no services, so none is put into the environment",
        )
        .silent(&["true", "false"]),
        rejected(
            "ephemeralContainers",
            "a pod is not created with them, in Kubernetes neither; add one to a running pod: use flatpod debug",
        ),
        notice("evictionResponders", Shape::Any, "pods are never evicted here"),
        honoured("hostAliases", Shape::Many(&Shape::One(&HOST_ALIAS))),
        only("hostIPC", Shape::Bool, &["false"], "pods always have an IPC namespace of their own here"),
        honoured("hostNetwork", Shape::Bool).note("the network of the node, which may be a simulated one"),
        only("hostPID", Shape::Bool, &["false"], "pods never see the node's processes here"),
        only("hostUsers", Shape::Bool, &["true"], "user namespaces are not made here; leave it out"),
        honoured("hostname", Shape::Text),
        rejected("hostnameOverride", "not done here; set spec.hostname"),
        with_registry(
            "imagePullSecrets",
            Shape::Many(&Shape::One(&LOCAL_REFERENCE)),
            "without the feature registry images come from the local store",
        ),
        honoured("initContainers", Shape::Many(&Shape::One(&CONTAINER))),
        honoured("nodeName", Shape::Text),
        honoured("nodeSelector", TEXT_MAP)
            .note("nodes have the labels kubernetes.io/hostname, kubernetes.io/os and kubernetes.io/arch"),
        honoured("os", Shape::One(&POD_OS)),
        rejected("overhead", "it belongs to runtime classes, which are not here; leave it out"),
        notice("preemptionPolicy", Shape::Text, NO_PRIORITY).silent(&["PreemptLowerPriority"]),
        notice("priority", Shape::Int32, NO_PRIORITY).silent(&["0"]),
        notice("priorityClassName", Shape::Text, NO_PRIORITY),
        rejected(
            "readinessGates",
            "nothing here sets such conditions, so the pod would never be ready; leave them out",
        ),
        rejected("resourceClaims", "devices are not allocated here"),
        rejected("resources", "limits of the whole pod are not set here; set them per container"),
        honoured("restartPolicy", Shape::Text),
        rejected("runtimeClassName", "there is one runtime here; leave it out"),
        notice("schedulerName", Shape::Text, NO_SCHEDULER).silent(&["default-scheduler"]),
        rejected(
            "schedulingGates",
            "nothing here would remove them, so the pod would never start; leave them out",
        ),
        rejected("schedulingGroup", "pods are not scheduled as groups here; leave it out"),
        honoured("securityContext", Shape::One(&POD_SECURITY)),
        notice("serviceAccount", Shape::Text, NO_ACCOUNTS).silent(&["default"]),
        notice("serviceAccountName", Shape::Text, NO_ACCOUNTS).silent(&["default"]),
        only(
            "setHostnameAsFQDN",
            Shape::Bool,
            &["false"],
            "the hostname is always the short one here; leave it out",
        ),
        honoured("shareProcessNamespace", Shape::Bool),
        honoured("subdomain", Shape::Text)
            .note("in the pod's /etc/hosts, below cluster.local; no name server knows it"),
        honoured("terminationGracePeriodSeconds", Shape::Int64),
        notice("tolerations", Shape::Many(&Shape::One(&TOLERATION)), "nodes have no taints here"),
        notice("topologySpreadConstraints", Shape::Many(&Shape::One(&TOPOLOGY_SPREAD)), NO_SCHEDULER),
        honoured("volumes", Shape::Many(&Shape::One(&VOLUME))),
    ],
};

pub(super) static LOCAL_REFERENCE: Object =
    Object { name: "LocalObjectReference", fields: &[honoured("name", Shape::Text).required()] };

static DNS_CONFIG: Object = Object {
    name: "PodDNSConfig",
    fields: &[
        honoured("nameservers", TEXTS),
        honoured("options", Shape::Many(&Shape::One(&DNS_OPTION))),
        honoured("searches", TEXTS),
    ],
};

static DNS_OPTION: Object = Object {
    name: "PodDNSConfigOption",
    fields: &[honoured("name", Shape::Text), honoured("value", Shape::Text)],
};

static HOST_ALIAS: Object = Object {
    name: "HostAlias",
    fields: &[honoured("hostnames", FREE_TEXTS), honoured("ip", Shape::Text).required()],
};

static POD_OS: Object = Object {
    name: "PodOS",
    fields: &[only("name", Shape::Text, &["linux"], "pods run on Linux here").required()],
};

static POD_SECURITY: Object = Object {
    name: "PodSecurityContext",
    fields: &[
        LINUX_LABELS[0],
        honoured("fsGroup", Shape::Int64).note("of the volumes that flatpod makes; not of hostPath"),
        notice(
            "fsGroupChangePolicy",
            Shape::Text,
            "volumes that flatpod makes get their group once, when they are made",
        ),
        honoured("runAsGroup", Shape::Int64),
        honoured("runAsNonRoot", Shape::Bool),
        honoured("runAsUser", Shape::Int64),
        rejected("seLinuxChangePolicy", "SELinux labels are not set here; leave it out"),
        LINUX_LABELS[1],
        honoured("seccompProfile", Shape::One(&SECCOMP_PROFILE)),
        honoured("supplementalGroups", Shape::Many(&Shape::Int64)),
        only(
            "supplementalGroupsPolicy",
            Shape::Text,
            &["Merge"],
            "groups of the image's /etc/group always count here",
        ),
        honoured("sysctls", Shape::Many(&Shape::One(&SYSCTL)))
            .note("the safe ones; set in the pod's own namespaces"),
        LINUX_LABELS[2],
    ],
};

static SYSCTL: Object = Object {
    name: "Sysctl",
    fields: &[honoured("name", Shape::Text).required(), honoured("value", Shape::FreeText).required()],
};
