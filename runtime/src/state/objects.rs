//! Configuration maps and secrets: what pods' environments and volumes are filled from.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::file::{read_json, remove, write_json};

/// The two kinds of objects that carry data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// As kubectl names it.
impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.prefix())
    }
}

/// The store of those objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Keeps a configuration map.
    pub(crate) fn put_config_map(&self, namespace: &str, map: &ConfigMap) -> Result<()> {
        let name = map.metadata.name.as_deref().unwrap_or_default();
        write_json(&self.file(Kind::ConfigMap, namespace, name), map)
    }

    /// Keeps a secret.
    pub(crate) fn put_secret(&self, namespace: &str, secret: &Secret) -> Result<()> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        write_json(&self.file(Kind::Secret, namespace, name), secret)
    }

    /// Removes one; it may be gone already.
    pub(crate) fn remove(&self, kind: Kind, namespace: &str, name: &str) -> Result<bool> {
        remove(&self.file(kind, namespace, name))
    }

    /// The data of one, by key; `None` when there is no such object.
    pub(crate) fn data(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>> {
        let file = self.file(kind, namespace, name);
        Ok(match kind {
            Kind::ConfigMap => read_json::<ConfigMap>(&file)?.map(|map| {
                let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
                let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
                text.chain(binary).collect()
            }),
            Kind::Secret => read_json::<Secret>(&file)?.map(|secret| {
                let data = secret.data.into_iter().flatten().map(|(key, value)| (key, value.0));
                let text =
                    secret.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
                data.chain(text).collect()
            }),
        })
    }

    fn file(&self, kind: Kind, namespace: &str, name: &str) -> PathBuf {
        self.dir.join(format!("{}_{namespace}_{name}.json", kind.prefix()))
    }
}
