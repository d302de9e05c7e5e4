//! One agent per state directory. The lock dies with its holder, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Held while an agent runs.
#[derive(Debug)]
pub(crate) struct RunLock {
    file: File,
    path: PathBuf,
}

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.lock")
}

impl RunLock {
    /// # Errors
    /// Another agent runs on `state_dir`, or the directory cannot be used.
    pub(crate) fn take(state_dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(state_dir).with_context(|| format!("make {}", state_dir.display()))?;
        let path = path(state_dir);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path }),
            Err(TryLockError::WouldBlock) => {
                bail!("a flatnetd runs with state directory {}; stop it first", state_dir.display())
            }
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("lock {}", path.display())),
        }
    }
}

impl RunLock {
    /// Whether the locked file is still the one that others find: it, or its directory, may have been
    /// removed.
    pub(crate) fn is_in_place(&self) -> bool {
        let identity = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
        let (own, found) = (self.file.metadata(), std::fs::metadata(&self.path));
        matches!((own, found), (Ok(own), Ok(found)) if identity(&own) == identity(&found))
    }
}

/// Whether an agent runs on `state_dir`.
///
/// # Errors
/// It cannot be told.
pub(crate) fn is_held(state_dir: &Path) -> io::Result<bool> {
    let file = match File::open(path(state_dir)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
