//! What can go wrong with state on disk.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

/// A file that cannot be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not what this program writes.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody holds the lock and does not let go.
    #[error("{path} is locked by another process")]
    Locked {
        /// The locked file.
        path: PathBuf,
    },
}

impl StateError {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }
}

/// Why no address was handed out.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// None is left.
    #[error("no free address in {network}: all {capacity} are in use")]
    Exhausted {
        /// The subnet.
        network: IpNetwork,
        /// How many addresses it has.
        capacity: u64,
    },
    /// The requested one belongs to somebody.
    #[error("requested address {0} is in use")]
    Taken(IpAddr),
    /// The requested one cannot be handed out here.
    #[error("requested address {ip} is not an address for pods in {network}")]
    Outside {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        network: IpNetwork,
    },
    /// The pool's file.
    #[error(transparent)]
    State(#[from] StateError),
}
