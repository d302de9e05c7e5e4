//! Volumes: what a pod's containers share, and where it comes from.

use super::{
    Field, Object, Shape,
    container::{FIELD_REF, RESOURCE_REF},
    honoured, only, rejected,
};

const NO_STORAGE: &str = "there is no such storage here; use emptyDir or hostPath";
const NO_OWNER: &str = "files of volumes belong to root and fsGroup here; leave it out";
const NO_ACCOUNTS: &str = "there is no API server here that would sign it";

pub(super) static VOLUME: Object = Object {
    name: "Volume",
    fields: &[
        rejected("awsElasticBlockStore", NO_STORAGE),
        rejected("azureDisk", NO_STORAGE),
        rejected("azureFile", NO_STORAGE),
        rejected("cephfs", NO_STORAGE),
        rejected("cinder", NO_STORAGE),
        honoured("configMap", Shape::One(&CONFIG_MAP)),
        rejected("csi", NO_STORAGE),
        honoured("downwardAPI", Shape::One(&DOWNWARD)),
        honoured("emptyDir", Shape::One(&EMPTY_DIR)),
        rejected("ephemeral", NO_STORAGE),
        rejected("fc", NO_STORAGE),
        rejected("flexVolume", NO_STORAGE),
        rejected("flocker", NO_STORAGE),
        rejected("gcePersistentDisk", NO_STORAGE),
        rejected("gitRepo", "Kubernetes removed it; clone into an emptyDir with an init container"),
        rejected("glusterfs", NO_STORAGE),
        honoured("hostPath", Shape::One(&HOST_PATH)).note("in the file system of the node"),
        rejected("image", "images are not mounted as volumes here"),
        rejected("iscsi", NO_STORAGE),
        honoured("name", Shape::Text).required(),
        rejected("nfs", NO_STORAGE),
        rejected(
            "persistentVolumeClaim",
            "there are no claims here; use hostPath for data that outlives the pod",
        ),
        rejected("photonPersistentDisk", NO_STORAGE),
        rejected("portworxVolume", NO_STORAGE),
        honoured("projected", Shape::One(&PROJECTED)),
        rejected("quobyte", NO_STORAGE),
        rejected("rbd", NO_STORAGE),
        rejected("scaleIO", NO_STORAGE),
        honoured("secret", Shape::One(&SECRET)),
        rejected("storageos", NO_STORAGE),
        rejected("vsphereVolume", NO_STORAGE),
    ],
};

static EMPTY_DIR: Object = Object {
    name: "EmptyDirVolumeSource",
    fields: &[
        only("medium", Shape::Text, &["", "Memory"], "huge pages are not given to volumes here"),
        rejected("mode", "the directory has mode 0777 here; leave it out"),
        honoured("sizeLimit", Shape::Quantity).note("enforced for medium Memory"),
    ],
};

static HOST_PATH: Object = Object {
    name: "HostPathVolumeSource",
    fields: &[honoured("path", Shape::Text).required(), honoured("type", Shape::Text)],
};

const KEYS: Shape = Shape::Many(&Shape::One(&KEY_TO_PATH));
const ITEMS: Field = honoured("items", KEYS);
const MODE: Field = honoured("defaultMode", Shape::Int32);
const OWNER: Field = rejected("defaultUser", NO_OWNER);
const OPTIONAL: Field = honoured("optional", Shape::Bool);

static KEY_TO_PATH: Object = Object {
    name: "KeyToPath",
    fields: &[
        honoured("key", Shape::Text).required(),
        honoured("mode", Shape::Int32),
        honoured("path", Shape::Text).required(),
        rejected("user", NO_OWNER),
    ],
};

static CONFIG_MAP: Object = Object {
    name: "ConfigMapVolumeSource",
    fields: &[MODE, OWNER, ITEMS, honoured("name", Shape::Text).required(), OPTIONAL],
};

static SECRET: Object = Object {
    name: "SecretVolumeSource",
    fields: &[MODE, OWNER, ITEMS, OPTIONAL, honoured("secretName", Shape::Text)],
};

static DOWNWARD: Object = Object {
    name: "DownwardAPIVolumeSource",
    fields: &[MODE, OWNER, honoured("items", Shape::Many(&Shape::One(&DOWNWARD_FILE)))],
};

static DOWNWARD_FILE: Object = Object {
    name: "DownwardAPIVolumeFile",
    fields: &[
        honoured("fieldRef", Shape::One(&FIELD_REF)),
        honoured("mode", Shape::Int32),
        honoured("path", Shape::Text).required(),
        honoured("resourceFieldRef", Shape::One(&RESOURCE_REF)),
        rejected("user", NO_OWNER),
    ],
};

static PROJECTED: Object = Object {
    name: "ProjectedVolumeSource",
    fields: &[MODE, OWNER, honoured("sources", Shape::Many(&Shape::One(&PROJECTION)))],
};

static PROJECTION: Object = Object {
    name: "VolumeProjection",
    fields: &[
        rejected("clusterTrustBundle", NO_ACCOUNTS),
        honoured("configMap", Shape::One(&CONFIG_MAP_PROJECTION)),
        honoured("downwardAPI", Shape::One(&DOWNWARD_PROJECTION)),
        rejected("podCertificate", NO_ACCOUNTS),
        honoured("secret", Shape::One(&SECRET_PROJECTION)),
        rejected("serviceAccountToken", NO_ACCOUNTS),
    ],
};

static CONFIG_MAP_PROJECTION: Object = Object { name: "ConfigMapProjection", fields: NAMED_PROJECTION };
static SECRET_PROJECTION: Object = Object { name: "SecretProjection", fields: NAMED_PROJECTION };

const NAMED_PROJECTION: &[Field] = &[ITEMS, honoured("name", Shape::Text).required(), OPTIONAL];

static DOWNWARD_PROJECTION: Object = Object {
    name: "DownwardAPIProjection",
    fields: &[honoured("items", Shape::Many(&Shape::One(&DOWNWARD_FILE)))],
};
