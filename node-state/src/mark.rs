//! The mark beside a record that says "somebody is at it": made before anything is taken for an
//! attachment, locked for as long as its maker lives. A mark that nobody holds is what a killed maker left.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::error::StateError;
use crate::files;

/// A held mark. Dropping it, or dying, lets go of it; the file stays until the record replaces it. The
/// record is written into the same file, so that it is born locked.
#[derive(Debug)]
#[must_use]
pub struct Mark {
    _locked: File,
    path: PathBuf,
}

/// A mark as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenMark {
    /// Its maker's tag in the address pool, where it is written yet.
    pub(crate) owner: Option<u64>,
    /// Whether its maker lives.
    pub(crate) held: bool,
    /// Seconds since it was written.
    pub(crate) age: u64,
}

impl Mark {
    /// Makes the mark of the record at `record` and waits for whoever holds it, until `deadline`.
    pub(crate) fn make(record: &Path, owner: u64, deadline: Instant) -> Result<Self, StateError> {
        let path = files::beside(record);
        loop {
            let file = files::open_beside(record)?;
            files::lock(&file, &path, deadline)?;
            // Who held it may have removed it, or made a record of it.
            if files::is_at(&file, &path) {
                return Self::sign(file, path, owner);
            }
        }
    }

    /// The same without waiting; `None`: somebody holds it.
    pub(crate) fn try_make(record: &Path, owner: u64) -> Result<Option<Self>, StateError> {
        let path = files::beside(record);
        let file = files::open_beside(record)?;
        match file.try_lock() {
            Ok(()) if files::is_at(&file, &path) => Self::sign(file, path, owner).map(Some),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(StateError::io("lock", &path)(e)),
        }
    }

    fn sign(mut file: File, path: PathBuf, owner: u64) -> Result<Self, StateError> {
        let written = file.set_len(0).and_then(|()| file.write_all(format!("{owner:016x}").as_bytes()));
        let mark = Self { _locked: file, path };
        if let Err(e) = written {
            let failed = StateError::io("write", &mark.path)(e);
            mark.abandon();
            return Err(failed);
        }
        Ok(mark)
    }

    /// Takes the mark away: nothing was done yet. A mark that stays is looked into by the next ADD or DEL.
    pub fn abandon(self) {
        drop(files::remove(&self.path));
    }
}

/// Whether somebody holds the mark, or the record made of it, at `path`.
pub(crate) fn is_held(path: &Path) -> bool {
    let lock = File::open(path).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

/// Looks at a mark without making one; `None` where there is none.
pub(crate) fn look(path: &Path) -> Result<Option<SeenMark>, StateError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StateError::io("open", path)(e)),
    };
    // Shared, and given back at once: two that look do not take each other for the maker.
    let held = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(e)) => return Err(StateError::io("lock", path)(e)),
    };
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    let owner = read.ok().filter(|n| *n == 16).and_then(|_| u64::from_str_radix(&text, 16).ok());
    let written = file.metadata().and_then(|meta| meta.modified()).map_err(StateError::io("read", path))?;
    let age = SystemTime::now().duration_since(written).unwrap_or(Duration::ZERO).as_secs();
    Ok(Some(SeenMark { owner, held, age }))
}
