//! `node.json`: agent to plugin.

use std::path::Path;

use flatnet_core::node::{NODE_SNAPSHOT_VERSION, NodeSnapshot};

use crate::error::StateError;
use crate::files;

pub(crate) fn read(path: &Path) -> Result<Option<NodeSnapshot>, StateError> {
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let snapshot: NodeSnapshot = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if snapshot.version != NODE_SNAPSHOT_VERSION {
        let why = format!("version {} (this build knows {NODE_SNAPSHOT_VERSION})", snapshot.version);
        return Err(damaged(why));
    }
    Ok(Some(snapshot))
}

pub(crate) fn write(path: &Path, snapshot: &NodeSnapshot) -> Result<(), StateError> {
    let content = serde_json::to_vec(snapshot)
        .map_err(|e| StateError::Damaged { path: path.to_owned(), why: e.to_string() })?;
    if files::read(path)?.as_deref() == Some(content.as_slice()) {
        return Ok(());
    }
    files::replace(path, &content)
}

#[cfg(test)]
mod tests {
    use crate::StateDir;
    use flatnet_core::node::NodeSnapshot;

    const EXAMPLE: &str = r#"{"version":1,"node":"n1","subnets":["10.244.1.0/24"],"clusterNetworks":["10.244.0.0/16"],"mtu":1450,"segmentSize":65536,"masquerade":true}"#;

    #[test]
    fn the_documented_form_is_read_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("deep/below"));
        assert_eq!(state.snapshot().unwrap(), None);
        let snapshot: NodeSnapshot = serde_json::from_str(EXAMPLE).unwrap();
        state.write_snapshot(&snapshot).unwrap();
        assert_eq!(std::fs::read_to_string(state.path().join("node.json")).unwrap(), EXAMPLE);
        assert_eq!(state.snapshot().unwrap(), Some(snapshot));
        state.remove_snapshot().unwrap();
        state.remove_snapshot().unwrap();
    }

    #[test]
    fn a_damaged_snapshot_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        for bad in ["", &EXAMPLE[..40], "{}", &EXAMPLE.replace("\"version\":1", "\"version\":99")] {
            std::fs::write(dir.path().join("node.json"), bad).unwrap();
            let e = state.snapshot().unwrap_err().to_string();
            assert!(e.contains("node.json is damaged"), "{e}");
        }
    }
}
