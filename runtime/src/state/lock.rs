//! Locks on files. The kernel releases them when their holder ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A held lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock at `path`, or answers `None` when another process holds it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(anyhow!(errno)).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// Waits for the lock at `path`, to hold it alone.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        Self::wait(path, FlockArg::LockExclusive)
    }

    /// Waits for the lock at `path`, to hold it beside others that share it.
    pub(crate) fn share(path: &Path) -> Result<Self> {
        Self::wait(path, FlockArg::LockShared)
    }

    fn wait(path: &Path, how: FlockArg) -> Result<Self> {
        let locked = Flock::lock(open(path)?, how).map_err(|(_, errno)| errno);
        let file = locked.with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }

    /// Whether some process holds the lock at `path`.
    pub(crate) fn is_held(path: &Path) -> bool {
        path.exists() && matches!(Self::try_take(path), Ok(None))
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.open(path).with_context(|| format!("open {}", path.display()))
}
