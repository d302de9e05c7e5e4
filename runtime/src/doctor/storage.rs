//! The root directory, and the file system that it is on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Finding;
use crate::shim::rootfs;

/// For pods' own files, before there is an image.
const SPACE: u64 = 16 << 20;
const MIB: u64 = 1 << 20;
const ELSEWHERE: &str = "choose another directory with --root";

/// Whether there is room, and whether root file systems can be there.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let dir = match standing(root) {
        Ok(dir) => dir,
        Err(error) => return vec![Finding::missing("directory", format!("{error:#}"), ELSEWHERE)],
    };
    let mut findings = vec![Finding::of("directory", room(root, &dir), ELSEWHERE)];
    let overlay = overlay(&dir);
    let hint = "a kernel with overlay, and a directory on a file system of the machine's own, which keeps trusted.* \
        attributes (--root)";
    // One thing that is wrong is told once.
    if findings.iter().all(|finding| finding.remedy.is_none()) || overlay.is_ok() {
        findings.push(Finding::of("overlayfs", overlay, hint));
    }
    findings
}

/// The directory, or as long as it is not there, the one that it would be made in.
fn standing(root: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(root).with_context(|| format!("look up {}", root.display()))?;
    let found = path.ancestors().find(|dir| dir.is_dir());
    found.map(Path::to_owned).with_context(|| format!("there is nothing above {}", path.display()))
}

fn room(root: &Path, dir: &Path) -> Result<String> {
    let of = statvfs(dir).with_context(|| format!("ask for the file system of {}", dir.display()))?;
    let at = root.display();
    let free = of.f_bavail * of.f_frsize;
    if of.f_flag.contains(StatVfsMountFlags::RDONLY) {
        bail!("{at} is on a file system that is mounted read-only");
    }
    if free < SPACE {
        bail!("{at} is on a file system with {} MiB free, and needs {} at least", free / MIB, SPACE / MIB);
    }
    if of.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        bail!("{at} is on a file system that is mounted noexec: programs in volumes could not be run");
    }
    scratch(dir)?;
    Ok(format!("{at}: writable, {} MiB free", free / MIB))
}

fn scratch(dir: &Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix(".doctor-").tempdir_in(dir);
    made.with_context(|| format!("make a directory in {}", dir.display()))
}

fn overlay(dir: &Path) -> Result<String> {
    let scratch = scratch(dir)?;
    // What is mounted there later has no commas and colons in its options.
    let path = fs::canonicalize(scratch.path()).context("look up the directory")?;
    rootfs::try_out(&path)?;
    Ok("mounted, written to, keeps trusted.* attributes".to_owned())
}
