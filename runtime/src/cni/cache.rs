//! What was attached, and how: libcni's files (`results/NETWORK-CONTAINER-IFNAME`, kind `cniCacheV1`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base64;
use crate::state;

const KIND: &str = "cniCacheV1";

/// One attachment. Written before ADD, without a result; again after it, with one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    kind: String,
    pub(super) container_id: String,
    /// The network's configuration, in Base64.
    config: String,
    pub(super) if_name: String,
    pub(super) network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) netns: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cni_args: Vec<[String; 2]>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) capability_args: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
}

impl Entry {
    /// An attachment that is about to be made to the network `config`.
    pub(super) fn new(network_name: &str, config: &Value) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: String::new(),
            config: base64::encode(config.to_string().as_bytes()),
            if_name: super::IFNAME.to_owned(),
            network_name: network_name.to_owned(),
            netns: String::new(),
            cni_args: vec![],
            capability_args: Map::new(),
            result: None,
        }
    }

    /// The network's configuration as it was.
    pub(super) fn config(&self) -> Result<Value> {
        let bytes = base64::decode(&self.config).context("the cached configuration is no Base64")?;
        serde_json::from_slice(&bytes).context("read the cached configuration")
    }
}

/// A node's cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn new(cache_dir: &Path) -> Self {
        Self { dir: cache_dir.join("results") }
    }

    /// Remembers an attachment.
    pub(super) fn put(&self, entry: &Entry) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("create {}", self.dir.display()))?;
        state::write_json(&self.file(entry), entry)
    }

    /// Forgets an attachment.
    pub(super) fn remove(&self, entry: &Entry) -> Result<()> {
        state::remove(&self.file(entry)).map(drop)
    }

    /// Removes what was left half-written for a container by one who was killed, with nothing remembered yet or not.
    pub(super) fn sweep(&self, container_id: &str) -> Result<()> {
        for left in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = left.file_name();
            if name.as_encoded_bytes().starts_with(b".") && name.to_string_lossy().contains(container_id) {
                fs::remove_file(left.path()).with_context(|| format!("remove {}", left.path().display()))?;
            }
        }
        Ok(())
    }

    /// Everything remembered. Files that are damaged, or of another kind, are left alone.
    pub(super) fn all(&self) -> Vec<Entry> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let read = |file: PathBuf| serde_json::from_slice::<Entry>(&fs::read(file).ok()?).ok();
        let mut entries: Vec<_> = files.filter_map(read).filter(|entry| entry.kind == KIND).collect();
        entries.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        entries
    }

    fn file(&self, entry: &Entry) -> PathBuf {
        self.dir.join(format!("{}-{}-{}", entry.network_name, entry.container_id, entry.if_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_written_goes_with_its_container() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let entry = |id: &str| Entry { container_id: id.to_owned(), ..Entry::new("net", &Value::Null) };
        cache.put(&entry("one")).unwrap();
        for left in [".net-one-eth0.12", ".net-two-eth0.12"] {
            fs::write(dir.path().join("results").join(left), "{").unwrap();
        }
        cache.sweep("one").unwrap();
        assert_eq!(cache.all(), [entry("one")]);
        let mut files: Vec<_> = fs::read_dir(dir.path().join("results"))
            .unwrap()
            .flatten()
            .map(|file| file.file_name())
            .collect();
        files.sort();
        assert_eq!(files, [".net-two-eth0.12", "net-one-eth0"]);
    }
}
