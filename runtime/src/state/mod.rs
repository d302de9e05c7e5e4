//! What flatpod remembers, as files below one directory: nodes, pods, objects, workloads, images.
//!
//! Files are replaced whole, never changed in place. An intent is written before the effect it announces, so
//! that whoever comes after a crash knows what to look for. Owners are shown by locks, which die with them.

mod file;
mod lock;
mod node;
mod objects;
mod pod;
mod process;
mod workloads;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flatpod::letters;

pub(crate) use file::{read_json, remove, write, write_json};
pub(crate) use lock::{Keeper, Lock};
pub(crate) use node::{NodeDir, NodeRecord};
pub(crate) use objects::{Kind, Objects};
pub(crate) use pod::{Attempt, ContainerRecord, Deletion, ExitRecord, PodDir, SandboxRecord, StartRecord};
pub(crate) use process::ProcessId;
pub(crate) use workloads::{Cascade, Stored, Workloads};

/// How the directory of a pod is called while it is removed.
const GONE: &str = ".gone-";

/// The directory that everything is below.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Makes the directory when it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("look up {}", path.display()))?;
        for below in ["pods", "names", "nodes", "objects", "images", "workloads"] {
            let dir = path.join(below);
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        // Images bring programs that run as their owner: they are for containers, not for users of this machine.
        let images = path.join("images");
        let closed = fs::set_permissions(&images, fs::Permissions::from_mode(0o700));
        closed.with_context(|| format!("close {}", images.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup, from the root of each hierarchy, that the cgroups of all pods are below. Each root
    /// directory has its own, so that two of them never meet.
    pub(crate) fn cgroup(&self) -> PathBuf {
        Self::cgroup_of(&self.path)
    }

    /// The same for a directory that may be gone.
    pub(crate) fn cgroup_of(path: &Path) -> PathBuf {
        let hash = letters::hash(path.as_os_str().as_encoded_bytes());
        PathBuf::from(format!("/flatpod-{hash:08x}"))
    }

    /// The directory of the image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// The configuration maps and secrets that were applied.
    pub(crate) fn objects(&self) -> Objects {
        Objects::new(self.path.join("objects"))
    }

    /// The workloads that were applied, and those that these own.
    pub(crate) fn workloads(&self) -> Workloads {
        Workloads::new(self.path.join("workloads"))
    }

    /// Waits to be the only one who gives names and nodes to pods.
    pub(crate) fn lock_names(&self) -> Result<Lock> {
        Lock::take(&self.path.join("names.lock"))
    }

    /// Removes what is left of pods whose maker was killed before they were there: names and empty directories.
    pub(crate) fn sweep(&self) -> Result<()> {
        let _nobody_is_making_one = self.lock_names()?;
        for name in self.names_in("names")? {
            let link = self.path.join("names").join(&name);
            let uid = fs::read_link(&link).map(|uid| uid.to_string_lossy().into_owned()).unwrap_or_default();
            if !self.pod(&uid).manifest_file().exists() {
                // Its supervisor may be faster.
                let _ = fs::remove_file(&link);
            }
        }
        for uid in self.names_in("pods")?.iter().filter(|uid| !uid.starts_with(GONE)) {
            let dir = self.pod(uid);
            if !dir.manifest_file().exists() && dir.path().exists() {
                let _ = fs::remove_dir_all(dir.path());
            }
        }
        Ok(())
    }

    /// The pod with this unique id, whether it exists or not.
    pub(crate) fn pod(&self, uid: &str) -> PodDir {
        PodDir::new(self.path.join("pods").join(uid), uid)
    }

    /// Removes a pod's files: all at once for everybody else, who may be about to make one of them.
    pub(crate) fn remove_pod(&self, dir: &PodDir) -> Result<()> {
        let gone = self.path.join("pods").join(format!("{GONE}{}", dir.uid()));
        fs::rename(dir.path(), &gone).with_context(|| format!("remove {}", dir.path().display()))?;
        fs::remove_dir_all(&gone).with_context(|| format!("remove {}", gone.display()))
    }

    /// Every pod there is, in the order of their unique ids.
    pub(crate) fn pods(&self) -> Result<Vec<PodDir>> {
        for left in self.names_in("pods")?.iter().filter(|name| name.starts_with(GONE)) {
            // Its remover was killed, or is at it now.
            let _ = fs::remove_dir_all(self.path.join("pods").join(left));
        }
        let mut pods: Vec<_> = self.names_in("pods")?.iter().map(|uid| self.pod(uid)).collect();
        pods.retain(|pod| !pod.uid().starts_with(GONE) && pod.manifest_file().exists());
        Ok(pods)
    }

    /// Reserves a pod's name for `uid`. Answers the unique id that has it already, if any.
    pub(crate) fn reserve(&self, namespace: &str, name: &str, uid: &str) -> Result<Option<String>> {
        let link = self.name_link(namespace, name);
        match std::os::unix::fs::symlink(uid, &link) {
            Ok(()) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.find(namespace, name),
            Err(e) => Err(e).with_context(|| format!("reserve the name {}", link.display())),
        }
    }

    /// Gives a pod's name back, if `uid` still has it.
    pub(crate) fn release(&self, namespace: &str, name: &str, uid: &str) -> Result<()> {
        if self.find(namespace, name)?.as_deref() != Some(uid) {
            return Ok(());
        }
        let link = self.name_link(namespace, name);
        fs::remove_file(&link).with_context(|| format!("release the name {}", link.display()))
    }

    /// The unique id of the pod of that name.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Result<Option<String>> {
        let link = self.name_link(namespace, name);
        match fs::read_link(&link) {
            Ok(uid) => Ok(Some(uid.to_string_lossy().into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("read {}", link.display())),
        }
    }

    /// The node of that name, whether it exists or not.
    pub(crate) fn node(&self, name: &str) -> NodeDir {
        NodeDir::new(self.path.join("nodes").join(name), name)
    }

    /// The names of all nodes, sorted.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        let mut names = self.names_in("nodes")?;
        names.retain(|name| self.node(name).record_file().exists());
        Ok(names)
    }

    fn name_link(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither may contain an underscore, so no two pairs make one file name.
        self.path.join("names").join(format!("{namespace}_{name}"))
    }

    fn names_in(&self, below: &str) -> Result<Vec<String>> {
        let dir = self.path.join(below);
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }
}
