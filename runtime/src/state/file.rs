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

/// Removes the file at `path`, and what writers of it that were killed have left. Answers whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    let told = || format!("remove {}", path.display());
    let dir = path.parent().context("a file is in a directory").with_context(told)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = format!(".{name}.");
    for left in fs::read_dir(dir).into_iter().flatten().flatten() {
        let writer = left.file_name().to_string_lossy().strip_prefix(&fresh).map(str::parse::<u32>);
        if writer.is_some_and(|number| number.is_ok()) {
            // Its writer may live after all, and give it its name.
            let _ = fs::remove_file(left.path());
        }
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(told),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        write(&path, b"whole").unwrap();
        fs::write(dir.path().join(".result.2189"), b"ha").unwrap();
        fs::write(dir.path().join(".result.json.2189"), b"ha").unwrap();
        assert!(remove(&path).unwrap());
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [".result.json.2189"], "that is of another file");
        assert!(!remove(&path).unwrap());
    }
}
