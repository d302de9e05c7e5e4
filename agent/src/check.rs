//! `flatnetd check-config`: is everything written correctly?

use crate::config::{Config, Overrides, StoreConfig};
use crate::output;
use crate::store::file;

/// Checks the configuration and the cluster file it names. Changes nothing.
///
/// # Errors
/// All that is wrong.
pub(crate) fn run(overrides: Overrides) -> Result<(), String> {
    let config = Config::load(overrides).map_err(|e| e.to_string())?;
    let store = match &config.store {
        StoreConfig::File(path) => {
            let cluster = file::load(path, &config.settings.node)?;
            format!("cluster of {} nodes in {}", cluster.nodes.len(), path.display())
        }
        #[cfg(feature = "etcd")]
        StoreConfig::Etcd(_) => format!("etcd at {} (not asked)", config.store),
        #[cfg(feature = "kubernetes")]
        StoreConfig::Kubernetes(_) => format!("Kubernetes by {} (not asked)", config.store),
    };
    let settings = &config.settings;
    output::say(&format!("good: node {}, backend {}, {store}", settings.node, settings.backend));
    Ok(())
}
