//! Files that are replaced whole, removed without fuss, and set aside when damaged.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::StateError;

/// Writes `content` beside `path`, syncs it, and renames it into place.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(StateError::io("create directory", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
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
