//! What one node remembers on disk, below one directory (`/run/flatnet`): the node snapshot, one record
//! per attachment, and the address pool.
//!
//! Every file is replaced whole or written in one aligned piece, so that a process killed at any
//! instruction leaves each file readable. What is damaged all the same is set aside, reported once, and
//! stops nothing. No lock outlives its holder.

mod error;
mod files;
mod snapshot;
mod mark;
mod attachments;
mod addresses;
mod collect;

pub use addresses::{Addresses, Request, Usage, boot_seconds};
pub use attachments::Attachments;
pub use collect::{Collected, Judge};
pub use error::{PoolError, StateError};
pub use mark::Mark;

use std::path::{Path, PathBuf};

use addresses::WaitedInVain;
use flatnet_core::node::NodeSnapshot;

/// The state directory of one node.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
    waited: WaitedInVain,
}

impl StateDir {
    /// The directory need not exist: whoever writes first makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), waited: WaitedInVain::default() }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The records of attachments.
    #[must_use]
    pub fn attachments(&self) -> Attachments {
        Attachments::at(self.root.join("attachments"))
    }

    /// The address pool.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses::at(self.root.join("addresses"), self.attachments(), self.waited.clone())
    }

    /// Reads what the agent wrote; `None` where it has not yet.
    ///
    /// # Errors
    /// It cannot be read, or is not a snapshot of a version this build knows.
    pub fn snapshot(&self) -> Result<Option<NodeSnapshot>, StateError> {
        snapshot::read(&self.snapshot_path())
    }

    /// Writes the node snapshot, whole or not at all, unless it says the same already.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_snapshot(&self, snapshot: &NodeSnapshot) -> Result<(), StateError> {
        snapshot::write(&self.snapshot_path(), snapshot)
    }

    /// Takes the node snapshot away.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove_snapshot(&self) -> Result<(), StateError> {
        files::remove(&self.snapshot_path())
    }

    fn snapshot_path(&self) -> PathBuf {
        self.root.join("node.json")
    }
}
