//! Where the cluster is written down. A store delivers whole clusters; what it cannot read or believe it
//! reports, and keeps the last good one.

pub(crate) mod file;
#[cfg(feature = "etcd")]
pub(crate) mod etcd;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod followed;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod news;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::settings::Settings;

/// Where a store that hands out subnets remembers the node's; cleaned up by every build.
pub(crate) fn lease_path(state_dir: &Path) -> PathBuf {
    state_dir.join("lease.json")
}

/// What a store knows at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreState {
    /// The last good cluster; `None` until there has been one.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// When that was read.
    pub(crate) loaded: Option<SystemTime>,
    /// Why what the store holds now is not used.
    pub(crate) error: Option<String>,
    /// What this node is to do, where the store decides that.
    pub(crate) settings: Option<Settings>,
    /// Why no further pod may have an address of this node's subnets; those that have one keep it.
    pub(crate) alarm: Option<String>,
    /// What the store holds and nobody can use.
    pub(crate) left_out: Vec<String>,
    /// Since when the store does not answer.
    pub(crate) unreachable: Option<SystemTime>,
}
