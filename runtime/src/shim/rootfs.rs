//! A container's root file system, and what the shim's own mounts must not keep alive.
//!
//! All of it is in a mount namespace that goes with the shim: nobody else sees these mounts, and none is left over.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount as mount_at, umount2},
    sched::CloneFlags,
    sys::stat::Mode,
};
use rustix::fs::{AtFlags, FileType, OFlags, ResolveFlags, XattrFlags, setxattr, statat, unlinkat};
use serde_json::Value;

use crate::{
    container::POD_FILES,
    image::{OPAQUE, look_up, make_dirs},
    state::read_json,
};

/// Mounts the image with a writable layer above it at `rootfs` in `attempt`.
pub(super) fn mount(attempt: &Path, lower: &[PathBuf]) -> Result<()> {
    cut_off()?;
    lay(attempt, lower)?;
    prepare(attempt, &super::rootfs_of(attempt))
}

/// Does the same with a layer of one file, where nobody sees it, and writes to the file: whether `dir` is where root file
/// systems can be.
pub(crate) fn try_out(dir: &Path) -> Result<()> {
    let tried = || {
        cut_off()?;
        let layer = dir.join("layer");
        fs::create_dir_all(&layer).with_context(|| format!("create {}", layer.display()))?;
        fs::write(layer.join("file"), "lower").context("write a layer's file")?;
        lay(dir, std::slice::from_ref(&layer))?;
        let file = super::rootfs_of(dir).join("file");
        let written = fs::write(&file, "upper").with_context(|| format!("write {}", file.display()));
        let marked = setxattr(dir.join("upper"), OPAQUE, b"y", XattrFlags::empty());
        discard(dir);
        written.and(marked.with_context(|| format!("set {OPAQUE} below {}", dir.display())))
    };
    // The thread's mount namespace goes with it.
    let tried = thread::scope(|scope| scope.spawn(tried).join());
    tried.unwrap_or_else(|_| Err(anyhow!("the thread that tried it panicked")))
}

#[expect(clippy::disallowed_methods, reason = "a shim's mounts are its own")]
fn cut_off() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none: Option<&str> = None;
    // A slave still learns of what the node unmounts.
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cut off the mounts")
}

fn lay(attempt: &Path, lower: &[PathBuf]) -> Result<()> {
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
        .with_context(|| format!("mount the root file system with {options}"))
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
