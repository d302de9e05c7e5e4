//! A container, its probes and its confinement.

use super::{FREE_TEXTS, Field, Object, Shape, TEXTS, honoured, notice, only, rejected};

const AN_ADDRESS: &str = "an address: names are not looked up";
const NO_SECCOMP_FILES: &str =
    "lists of system calls are not read from files here; use RuntimeDefault or Unconfined";

pub(super) static CONTAINER: Object = Object {
    name: "Container",
    fields: &[
        honoured("args", FREE_TEXTS),
        honoured("command", FREE_TEXTS),
        honoured("env", Shape::Many(&Shape::One(&ENV_VAR))),
        honoured("envFrom", Shape::Many(&Shape::One(&ENV_FROM))),
        honoured("image", Shape::Text),
        honoured("imagePullPolicy", Shape::Text).note(
            "without the feature registry images come from the local store, where Always finds them, too",
        ),
        honoured("lifecycle", Shape::One(&LIFECYCLE)),
        honoured("livenessProbe", Shape::One(&PROBE)),
        honoured("name", Shape::Text).required(),
        honoured("ports", Shape::Many(&Shape::One(&PORT))),
        honoured("readinessProbe", Shape::One(&PROBE)),
        notice(
            "resizePolicy",
            Shape::Many(&Shape::One(&RESIZE_POLICY)),
            "resources do not change while a pod runs",
        ),
        honoured("resources", Shape::One(&RESOURCES)),
        honoured("restartPolicy", Shape::Text).note("Always on an init container makes it a sidecar"),
        rejected("restartPolicyRules", "containers restart by the pod's policy here; leave them out"),
        honoured("securityContext", Shape::One(&SECURITY)),
        honoured("startupProbe", Shape::One(&PROBE)),
        honoured("stdin", Shape::Bool).note("stays open; flatpod attach -i writes to it"),
        honoured("stdinOnce", Shape::Bool).note("it ends when the first who writes to it has no more"),
        honoured("terminationMessagePath", Shape::Text),
        honoured("terminationMessagePolicy", Shape::Text),
        honoured("tty", Shape::Bool).note("flatpod attach -it leads the user's terminal to it"),
        rejected("volumeDevices", "block devices are not given to containers here"),
        honoured("volumeMounts", Shape::Many(&Shape::One(&VOLUME_MOUNT))),
        honoured("workingDir", Shape::Text),
    ],
};

static RESIZE_POLICY: Object = Object {
    name: "ContainerResizePolicy",
    fields: &[
        honoured("resourceName", Shape::Text).required(),
        honoured("restartPolicy", Shape::Text).required(),
    ],
};

static ENV_VAR: Object = Object {
    name: "EnvVar",
    fields: &[
        honoured("name", Shape::Text).required(),
        honoured("value", Shape::Text),
        honoured("valueFrom", Shape::One(&ENV_SOURCE)),
    ],
};

static ENV_SOURCE: Object = Object {
    name: "EnvVarSource",
    fields: &[
        honoured("configMapKeyRef", Shape::One(&CONFIG_MAP_KEY)),
        honoured("fieldRef", Shape::One(&FIELD_REF)),
        rejected("fileKeyRef", "variables are not read from files here; use a ConfigMap"),
        honoured("resourceFieldRef", Shape::One(&RESOURCE_REF)),
        honoured("secretKeyRef", Shape::One(&SECRET_KEY)),
    ],
};

static CONFIG_MAP_KEY: Object = Object { name: "ConfigMapKeySelector", fields: KEY_SELECTOR };
static SECRET_KEY: Object = Object { name: "SecretKeySelector", fields: KEY_SELECTOR };

const KEY_SELECTOR: &[Field] = &[
    honoured("key", Shape::Text).required(),
    honoured("name", Shape::Text).required(),
    honoured("optional", Shape::Bool),
];

pub(super) static FIELD_REF: Object = Object {
    name: "ObjectFieldSelector",
    fields: &[
        only("apiVersion", Shape::Text, &["v1"], "pods have one version"),
        honoured("fieldPath", Shape::Text).required(),
    ],
};

pub(super) static RESOURCE_REF: Object = Object {
    name: "ResourceFieldSelector",
    fields: &[
        honoured("containerName", Shape::Text),
        honoured("divisor", Shape::Quantity),
        honoured("resource", Shape::Text).required(),
    ],
};

static ENV_FROM: Object = Object {
    name: "EnvFromSource",
    fields: &[
        honoured("configMapRef", Shape::One(&CONFIG_MAP_ENV)),
        honoured("prefix", Shape::Text),
        honoured("secretRef", Shape::One(&SECRET_ENV)),
    ],
};

static CONFIG_MAP_ENV: Object = Object { name: "ConfigMapEnvSource", fields: NAMED_SOURCE };
static SECRET_ENV: Object = Object { name: "SecretEnvSource", fields: NAMED_SOURCE };

const NAMED_SOURCE: &[Field] = &[honoured("name", Shape::Text).required(), honoured("optional", Shape::Bool)];

static LIFECYCLE: Object = Object {
    name: "Lifecycle",
    fields: &[
        honoured("postStart", Shape::One(&HANDLER)),
        honoured("preStop", Shape::One(&HANDLER)),
        honoured("stopSignal", Shape::Text).note("needs spec.os.name"),
    ],
};

static HANDLER: Object = Object {
    name: "LifecycleHandler",
    fields: &[
        honoured("exec", Shape::One(&EXEC)),
        honoured("httpGet", Shape::One(&HTTP_GET)),
        honoured("sleep", Shape::One(&SLEEP)),
        rejected("tcpSocket", "Kubernetes never supported it for hooks; use exec or httpGet"),
    ],
};

static EXEC: Object = Object { name: "ExecAction", fields: &[honoured("command", FREE_TEXTS)] };
static SLEEP: Object =
    Object { name: "SleepAction", fields: &[honoured("seconds", Shape::Int64).required()] };

static HTTP_GET: Object = Object {
    name: "HTTPGetAction",
    fields: &[
        honoured("host", Shape::Text).note(AN_ADDRESS),
        honoured("httpHeaders", Shape::Many(&Shape::One(&HTTP_HEADER))),
        honoured("path", Shape::Text),
        honoured("port", Shape::IntOrText).required(),
        rejected("protocol", "requests are HTTP/1.1 here; leave it out"),
        only("scheme", Shape::Text, &["HTTP", "HTTPS"], "there is no such scheme")
            .note("with HTTPS the certificate is not looked at"),
    ],
};

static HTTP_HEADER: Object = Object {
    name: "HTTPHeader",
    fields: &[honoured("name", Shape::Text).required(), honoured("value", Shape::FreeText).required()],
};

static TCP_SOCKET: Object = Object {
    name: "TCPSocketAction",
    fields: &[honoured("host", Shape::Text).note(AN_ADDRESS), honoured("port", Shape::IntOrText).required()],
};

static PROBE: Object = Object {
    name: "Probe",
    fields: &[
        honoured("exec", Shape::One(&EXEC)),
        honoured("failureThreshold", Shape::Int32),
        rejected("grpc", "gRPC probes are not done here; use exec, httpGet or tcpSocket"),
        honoured("httpGet", Shape::One(&HTTP_GET)),
        honoured("initialDelaySeconds", Shape::Int32),
        honoured("periodSeconds", Shape::Int32),
        honoured("successThreshold", Shape::Int32),
        honoured("tcpSocket", Shape::One(&TCP_SOCKET)),
        honoured("terminationGracePeriodSeconds", Shape::Int64),
        honoured("timeoutSeconds", Shape::Int32),
    ],
};

static PORT: Object = Object {
    name: "ContainerPort",
    fields: &[
        honoured("containerPort", Shape::Int32)
            .required()
            .note("information only, as in Kubernetes: it opens nothing"),
        honoured("hostIP", Shape::Text),
        honoured("hostPort", Shape::Int32).note("by the CNI capability portMappings"),
        honoured("name", Shape::Text),
        honoured("protocol", Shape::Text),
    ],
};

pub(super) static RESOURCES: Object = Object {
    name: "ResourceRequirements",
    fields: &[
        rejected("claims", "devices are not allocated here"),
        honoured("limits", Shape::Map(&Shape::Quantity)).note("cpu and memory"),
        honoured("requests", Shape::Map(&Shape::Quantity)).note("cpu and memory"),
    ],
};

static VOLUME_MOUNT: Object = Object {
    name: "VolumeMount",
    fields: &[
        rejected("bindMountOptions", "extra mount options are not set here; leave them out"),
        honoured("mountPath", Shape::Text).required(),
        only("mountPropagation", Shape::Text, &["None"], "mounts are never shared with the node here"),
        honoured("name", Shape::Text).required(),
        honoured("readOnly", Shape::Bool),
        only(
            "recursiveReadOnly",
            Shape::Text,
            &["Disabled", "IfPossible"],
            "mounts below a volume are not made read-only here; use IfPossible",
        ),
        honoured("subPath", Shape::Text),
        honoured("subPathExpr", Shape::Text),
    ],
};

static SECURITY: Object = Object {
    name: "SecurityContext",
    fields: &[
        honoured("allowPrivilegeEscalation", Shape::Bool),
        LINUX_LABELS[0],
        honoured("capabilities", Shape::One(&CAPABILITIES)),
        honoured("privileged", Shape::Bool).note("every device may be used; the nodes of /dev are not made"),
        only("procMount", Shape::Text, &["Default"], "/proc is always masked here; leave it out"),
        honoured("readOnlyRootFilesystem", Shape::Bool),
        honoured("runAsGroup", Shape::Int64),
        honoured("runAsNonRoot", Shape::Bool),
        honoured("runAsUser", Shape::Int64),
        LINUX_LABELS[1],
        honoured("seccompProfile", Shape::One(&SECCOMP_PROFILE)),
        LINUX_LABELS[2],
    ],
};

/// What only a security module or another system gives; shared by pod and container.
pub(super) const LINUX_LABELS: [Field; 3] = [
    honoured("appArmorProfile", Shape::One(&APP_ARMOR)),
    rejected("seLinuxOptions", "SELinux labels are not set here; leave them out"),
    rejected("windowsOptions", "pods run on Linux here; leave them out"),
];

static APP_ARMOR: Object = Object {
    name: "AppArmorProfile",
    fields: &[
        rejected("localhostProfile", "AppArmor profiles are not loaded here"),
        only("type", Shape::Text, &["Unconfined"], "AppArmor profiles are not set here; leave it out")
            .required(),
    ],
};

static CAPABILITIES: Object =
    Object { name: "Capabilities", fields: &[honoured("add", TEXTS), honoured("drop", TEXTS)] };

pub(super) static SECCOMP_PROFILE: Object = Object {
    name: "SeccompProfile",
    fields: &[
        rejected("localhostProfile", NO_SECCOMP_FILES),
        only("type", Shape::Text, &["RuntimeDefault", "Unconfined"], NO_SECCOMP_FILES).required().note(
            "RuntimeDefault is the list of Docker and containerd; privileged containers are held to none",
        ),
    ],
};
