//! Namespaces kept alive by a mount, for as long as nobody unmounts it.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

/// Mounts the namespace file `source` (`/proc/PID/ns/net`) at `at`.
pub(crate) fn pin(source: &Path, at: &Path) -> Result<()> {
    File::create(at).with_context(|| format!("create {}", at.display()))?;
    let none: Option<&str> = None;
    mount(Some(source), at, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("mount {} at {}", source.display(), at.display()))
}

/// Takes [`pin`] back; it may be gone already.
pub(crate) fn unpin(at: &Path) -> Result<()> {
    match umount2(at, MntFlags::MNT_DETACH) {
        // EINVAL: there is a file, but no mount.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(errno) => return Err(errno).with_context(|| format!("unmount {}", at.display())),
    }
    match fs::remove_file(at) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", at.display()))
        }
        _ => Ok(()),
    }
}
