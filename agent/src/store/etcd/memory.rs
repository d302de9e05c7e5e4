//! What this node had from etcd last, in `STATEDIR/lease.json`: so that it asks for the same subnet again,
//! and knows how packets travel before etcd has answered.

use std::io::{self, Write as _};
use std::path::Path;

use flatnet_core::link::Vni;
use flatnet_core::overlay::flannel::SubnetKey;
use flatnet_core::overlay::settings::Settings;
use flatnet_node_state::StateDir;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::store::lease_path;

/// Version of the file that this build writes and reads.
const VERSION: u32 = 1;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    key: Option<SubnetKey>,
    written: Option<Remembered>,
    /// What became of the subnets, once they are lost.
    pub(super) lost_why: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    version: u32,
    subnets: Vec<IpNetwork>,
    backend: String,
    vni: Vni,
    port: u16,
}

impl Memory {
    /// Reads the file. A damaged one is reported and forgotten. A node that has none, because its cluster
    /// came from elsewhere so far, has the subnets that its pods are told.
    pub(super) fn recall(state_dir: &StateDir) -> Self {
        let file = lease_path(state_dir.path());
        let remembered = read(&file).unwrap_or_else(|error| {
            tracing::warn!(error, "the last subnet is forgotten");
            None
        });
        if let Some(remembered) = remembered {
            let key = SubnetKey::of(&remembered.subnets);
            return Self { key, written: Some(remembered), lost_why: None };
        }
        let snapshot = state_dir.snapshot().ok().flatten();
        let key = snapshot.and_then(|snapshot| SubnetKey::of(&snapshot.subnets));
        Self { key, ..Self::default() }
    }

    /// The subnets that this node had.
    pub(super) const fn key(&self) -> Option<SubnetKey> {
        self.key
    }

    /// The settings that the network made of `base`.
    pub(super) fn settings(&self, base: &Settings) -> Option<Settings> {
        let known = self.written.as_ref()?;
        let backend = known.backend.parse().ok()?;
        Some(Settings { backend, vni: known.vni, port: known.port, ..base.clone() })
    }

    /// Writes the file, whole or not at all, unless it says the same already.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn remember(
        &mut self,
        state_dir: &StateDir,
        key: SubnetKey,
        settings: &Settings,
    ) -> io::Result<()> {
        self.key = Some(key);
        let fresh = Remembered {
            version: VERSION,
            subnets: key.subnets().collect(),
            backend: settings.backend.to_string(),
            vni: settings.vni,
            port: settings.port,
        };
        if self.written.as_ref() == Some(&fresh) {
            return Ok(());
        }
        let path = lease_path(state_dir.path());
        let beside = path.with_extension("json.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&fresh)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        self.written = Some(fresh);
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Remembered>, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(&e)),
    };
    let remembered: Remembered = serde_json::from_slice(&bytes).map_err(|e| at(&e))?;
    if remembered.version != VERSION {
        return Err(at(&format!("version {}; this build knows {VERSION}", remembered.version)));
    }
    Ok(Some(remembered))
}

#[cfg(test)]
mod tests {
    use flatnet_core::overlay::settings::Backend;

    use super::*;

    fn base() -> Settings {
        Settings {
            node: "n1".parse().unwrap(),
            backend: Backend::Auto,
            vni: 1.try_into().unwrap(),
            port: 8472,
            peers_only: true,
            uplink_segment_size: None,
        }
    }

    #[test]
    fn subnet_and_settings_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(dir.path());
        let mut memory = Memory::recall(&state_dir);
        assert_eq!((memory.key(), memory.settings(&base())), (None, None));
        let key = "10.5.7.0-24&fd00:5:0:7::-64".parse().unwrap();
        let settings = Settings { backend: Backend::Vxlan, vni: 7.try_into().unwrap(), ..base() };
        memory.remember(&state_dir, key, &settings).unwrap();
        let memory = Memory::recall(&state_dir);
        assert_eq!((memory.key(), memory.settings(&base())), (Some(key), Some(settings)));
        for bad in ["", "{}", r#"{"version":9}"#] {
            std::fs::write(lease_path(dir.path()), bad).unwrap();
            assert_eq!(Memory::recall(&state_dir).key(), None);
        }
    }

    #[test]
    fn a_node_that_comes_from_another_store_keeps_its_subnet() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = r#"{"version":1,"node":"n1","subnets":["10.5.1.0/24"],"clusterNetworks":["10.5.0.0/16"],
            "mtu":1450,"segmentSize":65536,"masquerade":true}"#;
        std::fs::write(dir.path().join("node.json"), snapshot).unwrap();
        let memory = Memory::recall(&StateDir::new(dir.path()));
        assert_eq!(memory.key(), Some("10.5.1.0-24".parse().unwrap()));
    }
}
