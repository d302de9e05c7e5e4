//! Files that are replaced whole, removed without fuss, and set aside when damaged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StateError;

/// How long to wait for a lock: its holders need microseconds, so a longer wait means a stopped one.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// When to give up waiting that begins now.
pub(crate) fn patience() -> Instant {
    Instant::now() + LOCK_PATIENCE
}

/// Where the next content of `path` is written before it is renamed into place. One name, not one per
/// process: each file has one writer at a time, and what a killed one left is found again.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Opens the file beside `path`, making it where there is none.
pub(crate) fn open_beside(path: &Path) -> Result<File, StateError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(beside(path));
    in_folder(folder, open)?.map_err(StateError::io("write", path))
}

/// Opens a file, and makes its folder only when that turns out to be missing.
pub(crate) fn in_folder(
    folder: &Path,
    open: impl Fn() -> io::Result<File>,
) -> Result<io::Result<File>, StateError> {
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(StateError::io("create directory", folder))?;
            Ok(open())
        }
        opened => Ok(opened),
    }
}

/// Writes `content` beside `path`, syncs it, and renames it into place.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let mut file = open_beside(path)?;
    let beside = beside(path);
    let emptied = file.set_len(0);
    let written = emptied.and_then(|()| file.write_all(content)).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&beside);
    }
    renamed.map_err(StateError::io("write", path))
}

/// Reads a file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    absent_is_none(fs::read(path)).map_err(StateError::io("read", path))
}

/// Removes a file; none there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), StateError> {
    absent_is_none(fs::remove_file(path)).map(drop).map_err(StateError::io("remove", path))
}

/// Moves a damaged file out of the way, beside its place, so that it can be looked at and stops nothing.
pub(crate) fn set_aside(path: &Path) -> Result<(), StateError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    absent_is_none(fs::rename(path, aside)).map(drop).map_err(StateError::io("set aside", path))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Locks a file, which no process keeps for long.
pub(crate) fn lock(file: &File, path: &Path, deadline: Instant) -> Result<(), StateError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                #[expect(clippy::disallowed_methods, reason = "flock(2) cannot wait with a deadline")]
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(e)) => return Err(StateError::io("lock", path)(e)),
        }
    }
}

/// Whether a locked file is still the one at its path: it may have been set aside while we waited.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}
