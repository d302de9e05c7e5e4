//! Network configurations: the first usable one of a directory, as every runtime does it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};

/// The protocol versions that we speak, oldest first. Older results have another shape.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What a configuration without a version means.
const OLDEST: &str = "0.1.0";

/// A list of plugins that together are one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkConf {
    pub(super) name: String,
    /// The versions that it names, oldest first, of those that we speak.
    pub(super) versions: Vec<&'static str>,
    pub(super) disable_check: bool,
    pub(super) disable_gc: bool,
    pub(super) plugins: Vec<Map<String, Value>>,
    /// The list itself.
    pub(super) raw: Value,
}

impl NetworkConf {
    /// The first file of `dir`, by name, that holds a usable configuration.
    pub(super) fn first_of(dir: &Path) -> Result<Self> {
        let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![],
        };
        files.retain(|file| {
            let ending = file.extension().unwrap_or_default();
            ["conf", "conflist", "json"].iter().any(|known| ending == *known)
        });
        files.sort();
        let mut wrong = vec![];
        for file in files {
            match Self::read(&file) {
                Ok(conf) => return Ok(conf),
                Err(e) => wrong.push(format!("{e:#}")),
            }
        }
        let hint = format!("no CNI network in {}: put a .conflist there", dir.display());
        Err(if wrong.is_empty() { anyhow!(hint) } else { anyhow!("{hint} ({})", wrong.join("; ")) })
    }

    fn read(file: &Path) -> Result<Self> {
        let at = || format!("read {}", file.display());
        let value: Value = serde_json::from_slice(&fs::read(file).with_context(at)?).with_context(at)?;
        let is_list =
            file.extension().is_some_and(|ending| ending == "conflist") || value["plugins"].is_array();
        Self::parse(if is_list { value } else { list_of(value) }).with_context(at)
    }

    /// Understands a list.
    pub(super) fn parse(raw: Value) -> Result<Self> {
        let name = raw["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            bail!("the network has no name");
        }
        let plugins: Vec<Map<String, Value>> = raw["plugins"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_object().cloned())
            .collect();
        if plugins.is_empty()
            || plugins.iter().any(|plugin| !plugin.get("type").is_some_and(Value::is_string))
        {
            bail!("network {name} has no plugins, or one without a type");
        }
        let named = raw["cniVersions"].as_array().into_iter().flatten().chain([&raw["cniVersion"]]);
        let named: Vec<&str> = named.filter_map(Value::as_str).collect();
        let versions: Vec<_> = VERSIONS.into_iter().filter(|version| named.contains(version)).collect();
        if versions.is_empty() {
            let named = if named.is_empty() { OLDEST.to_owned() } else { named.join(", ") };
            bail!("network {name} is for CNI {named}; {} is spoken here", VERSIONS.join(", "));
        }
        // The strings are for configurations written by hand: libcni takes them too.
        let flag = |key: &str| raw[key] == json!(true) || raw[key] == json!("true");
        let (disable_check, disable_gc) = (flag("disableCheck"), flag("disableGC"));
        Ok(Self { name, versions, disable_check, disable_gc, plugins, raw })
    }
}

/// A configuration of one plugin as a list.
fn list_of(plugin: Value) -> Value {
    let version = plugin["cniVersion"].clone();
    json!({ "name": plugin["name"], "cniVersion": version, "plugins": [plugin] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_file_by_name_wins() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("00-broken.conf", "{");
        put("05-notes.txt", r#"{"name":"not","cniVersion":"1.0.0","type":"bridge"}"#);
        put("10-one.conf", r#"{"name":"one","cniVersion":"0.4.0","type":"bridge"}"#);
        put("20-two.conflist", r#"{"name":"two","cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}"#);
        let conf = NetworkConf::first_of(dir.path()).unwrap();
        assert_eq!((conf.name.as_str(), conf.versions.as_slice()), ("one", &["0.4.0"][..]));
        fs::remove_file(dir.path().join("10-one.conf")).unwrap();
        assert_eq!(NetworkConf::first_of(dir.path()).unwrap().name, "two");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let told = |raw: Value| format!("{:#}", NetworkConf::parse(raw).unwrap_err());
        assert!(told(json!({ "name": "n", "cniVersion": "1.0.0", "plugins": [] })).contains("no plugins"));
        let old = told(json!({ "name": "n", "cniVersion": "0.2.0", "plugins": [{ "type": "x" }] }));
        assert!(old.contains("0.2.0") && old.contains("1.1.0"), "{old}");
        let empty = tempfile::tempdir().unwrap();
        let none = format!("{:#}", NetworkConf::first_of(empty.path()).unwrap_err());
        assert!(none.contains("put a .conflist there"), "{none}");
    }
}
