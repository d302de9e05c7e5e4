//! A container's root file system, and what the shim's own mounts must not keep alive.
//!
//! All of it is in a mount namespace that goes with the shim: nobody else sees these mounts, and none is left over.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount as mount_at, umount2},
    sched::CloneFlags,
    sys::stat::Mode,
};
use rustix::fs::{AtFlags, FileType, OFlags, ResolveFlags, statat, unlinkat};
use serde_json::Value;

use crate::{
    container::POD_FILES,
    image::{look_up, make_dirs},
    state::read_json,
};

/// Mounts the image with a writable layer above it at `rootfs` in `attempt`.
#[expect(clippy::disallowed_methods, reason = "a shim's mounts are its own")]
pub(super) fn mount(attempt: &Path, lower: &[PathBuf]) -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none: Option<&str> = None;
    // A slave still learns of what the node unmounts.
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cut off the mounts")?;
    discard(attempt);
    for dir in ["upper", "work", "rootfs"] {
        let dir = attempt.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    // All options together have to fit into a page, so layers are named by descriptors: any number, any path.
    let lower = lower.iter().map(|dir| open(dir)).collect::<Result<Vec<_>>>()?;
    let named = lower.iter().map(|dir| format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let lowerdir = named.collect::<Vec<_>>().join(":");
    let (upper, work) = (attempt.join("upper"), attempt.join("work"));
    let options = format!("lowerdir={lowerdir},upperdir={},workdir={}", upper.display(), work.display());
    let rootfs = super::rootfs_of(attempt);
    mount_at(Some("overlay"), &rootfs, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mount the root file system with {options}"))?;
    prepare(attempt, &rootfs)
}

/// Makes what the launcher does not: a working directory that the image lacks; and files of ours in `/etc` in place
/// of links, which lead nowhere in many root file systems of machines (`resolv.conf`).
fn prepare(attempt: &Path, rootfs: &Path) -> Result<()> {
    let config: Value = read_json(&attempt.join("config.json"))?.context("a run has a configuration")?;
    let root = open(rootfs)?;
    if let Ok(etc) = inside(&root, Path::new("/etc")) {
        let is_link = |name: &&str| {
            let stat = statat(&etc, *name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        };
        for name in POD_FILES.into_iter().filter(is_link) {
            unlinkat(&etc, name, AtFlags::empty()).with_context(|| format!("replace /etc/{name}"))?;
        }
    }
    let cwd = Path::new(config["process"]["cwd"].as_str().unwrap_or("/"));
    let made = make_dirs(cwd, |at| inside(&root, at));
    made.map(drop).with_context(|| format!("make the working directory {}", cwd.display()))
}

/// A directory as the container finds it: its links lead nowhere else.
fn inside(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    look_up(root, path, OFlags::PATH | OFlags::DIRECTORY, how)
}

fn open(layer: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(layer, flags, Mode::empty());
    opened.with_context(|| format!("open the image's directory {}", layer.display()))
}

/// Unmounts it, and removes what the container wrote.
pub(super) fn discard(attempt: &Path) {
    // Whether there is something to unmount or to remove depends on how far an earlier start came; what
    // cannot be removed now goes with the pod.
    let _ = umount2(&super::rootfs_of(attempt), MntFlags::MNT_DETACH);
    for dir in ["upper", "work", "rootfs", "oci"] {
        let _ = fs::remove_dir_all(attempt.join(dir));
    }
}

/// Unmounts every namespace in the shim's own view: a copy of another pod's mount would keep that pod's network
/// namespace for as long as this container runs.
pub(super) fn let_go_of_namespaces() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let namespaces = mounts.lines().filter(|line| line.contains(" - nsfs "));
    for at in namespaces.filter_map(|line| line.split(' ').nth(4)) {
        // The worst that a failure does is what was said above.
        let _ = umount2(at, MntFlags::MNT_DETACH);
    }
}
