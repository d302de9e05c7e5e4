//! Network configurations as runtimes find and read them: libcni's `ConfFiles` and `ConfListFromBytes`, and
//! their caller in containerd (`loadFromConfDir` of go-cni). CRI-O and podman read the same way.

use serde::Serialize;
use serde_json::{Map, Value};

/// What libcni loads. It looks at nothing but the extension, so that a hidden file counts like any other.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// A network that a runtime would make pods part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// Types, in the order in which they are called; at least one.
    pub(crate) plugins: Vec<String>,
}

/// One file that runtimes look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfFile {
    pub(crate) name: String,
    /// What it says, or why it cannot be loaded.
    pub(crate) network: Result<Network, String>,
}

impl ConfFile {
    pub(crate) fn new(name: String, bytes: &[u8]) -> Self {
        let network = read(&name, bytes);
        Self { name, network }
    }

    /// Whether it calls the plugin `flatnet`.
    pub(crate) fn calls_flatnet(&self) -> bool {
        self.network.as_ref().is_ok_and(|network| network.plugins.iter().any(|plugin| plugin == "flatnet"))
    }
}

/// Whether runtimes take a file of this name for a configuration.
pub(crate) fn is_configuration(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

/// The one that runtimes use, of files sorted by name: the first that can be loaded. containerd uses none if
/// one before it cannot; CRI-O passes over those.
pub(crate) fn used(files: &[ConfFile]) -> Option<&ConfFile> {
    files.iter().find(|file| file.network.is_ok())
}

/// Reads a file as libcni does: a `.conflist` is a list, every other file one plugin.
///
/// # Errors
/// Why a runtime refuses it.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Result<Network, String> {
    let file: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|e| format!("is not a JSON object: {e}"))?;
    let text = |object: &Map<String, Value>, key| {
        object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if !name.ends_with(".conflist") {
        let plugin = text(&file, "type").ok_or("has no \"type\"")?;
        return Ok(Network { name: text(&file, "name").unwrap_or_default(), plugins: vec![plugin] });
    }
    let name = text(&file, "name").ok_or("has no \"name\"")?;
    let entries = file.get("plugins").and_then(Value::as_array).ok_or("has no list \"plugins\"")?;
    let kind = |entry: &Value| text(entry.as_object()?, "type");
    let plugins: Option<Vec<String>> = entries.iter().map(kind).collect();
    let plugins = plugins.ok_or("has a plugin without \"type\"")?;
    if plugins.is_empty() { Err("has no plugins".to_owned()) } else { Ok(Network { name, plugins }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_by_their_extension_alone() {
        for name in ["10-a.conf", "a.conflist", "z.json", ".hidden.json", ".conf", "a.b.conf"] {
            assert!(is_configuration(name), "{name}");
        }
        for name in ["a", "conf", "10-a.conflist.flatnet-disabled", "a.conf~", ".flatnet-installed", "a.CONF"]
        {
            assert!(!is_configuration(name), "{name}");
        }
    }

    #[test]
    fn lists_and_single_plugins_are_read() {
        let list = br#"{"name":"n","plugins":[{"type":"a"},{"type":"b"}]}"#;
        let network = read("1.conflist", list).unwrap();
        assert_eq!((network.name.as_str(), network.plugins), ("n", vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(read("1.conf", br#"{"name":"n","type":"a"}"#).unwrap().plugins, ["a"]);
    }

    #[test]
    fn what_runtimes_refuse_is_refused_with_the_reason() {
        for (name, text, why) in [
            ("1.conflist", "", "is not a JSON object"),
            ("1.conflist", "[]", "is not a JSON object"),
            ("1.conflist", r#"{"plugins":[{"type":"a"}]}"#, "has no \"name\""),
            ("1.conflist", r#"{"name":"n"}"#, "has no list"),
            ("1.conflist", r#"{"name":"n","plugins":[]}"#, "has no plugins"),
            ("1.conflist", r#"{"name":"n","plugins":[{}]}"#, "has a plugin without"),
            // A list in a file for one plugin.
            ("1.conf", r#"{"name":"n","plugins":[{"type":"a"}]}"#, "has no \"type\""),
            ("1.json", r#"{"type":""}"#, "has no \"type\""),
        ] {
            let e = read(name, text.as_bytes()).unwrap_err();
            assert!(e.starts_with(why), "{name} {text}: {e}");
        }
    }

    #[test]
    fn the_first_that_loads_is_used() {
        let good = br#"{"name":"n","type":"a"}"#;
        let files = [("1.conf", &b"{"[..]), ("2.conf", good), ("3.conf", good)];
        let files = files.map(|(name, bytes)| ConfFile::new(name.to_owned(), bytes));
        assert_eq!(used(&files).unwrap().name, "2.conf");
        assert_eq!(used(&files[..1]), None);
    }
}
