//! Where the cluster is written down. A store delivers whole clusters; what it cannot read or believe it
//! reports, and keeps the last good one.

pub(crate) mod file;

use std::sync::Arc;
use std::time::SystemTime;

use flatnet_core::overlay::cluster::Cluster;

/// What a store knows at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreState {
    /// The last good cluster; `None` until there has been one.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// When that was read.
    pub(crate) loaded: Option<SystemTime>,
    /// Why what the store holds now is not used.
    pub(crate) error: Option<String>,
}
