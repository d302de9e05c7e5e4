//! Files that are either as they were or as they shall be, whenever the writer is killed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Replaces the file at `path`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let told = || format!("write {}", path.display());
    let dir = path.parent().context("a file is in a directory").with_context(told)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One writer at a time has a file, but two writers of one directory may be one process each.
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&fresh).with_context(told)?;
    file.write_all(bytes).and_then(|()| file.sync_data()).with_context(told)?;
    fs::rename(&fresh, path).with_context(told)
}

/// Replaces the file at `path` by `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).with_context(|| format!("write {}", path.display()))?;
    write(path, &text)
}

/// Reads JSON; `None` when there is no file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged; remove the pod or node it belongs to", path.display()))?;
    Ok(Some(value))
}
