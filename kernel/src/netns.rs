//! Network namespaces: opened and verified once, entered only on threads that are thrown away.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::CloneFlags;

/// A network namespace, held open.
#[derive(Debug)]
pub struct NetnsFd {
    file: File,
    path: PathBuf,
    inode: u64,
}

/// Why a path does not lead to a usable network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It cannot be opened.
    #[error("open network namespace {path}: {source}")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{path} is not a network namespace ({what})")]
    NotANamespace {
        /// The path as given.
        path: PathBuf,
        /// What is there instead.
        what: &'static str,
    },
    /// It could not be entered.
    #[error("enter network namespace {path}: {source}")]
    Enter {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

mod ioctl {
    nix::ioctl_none_bad!(
        /// Answers the `CLONE_NEW*` flag of the namespace behind a descriptor.
        ns_get_nstype,
        nix::libc::NS_GET_NSTYPE
    );
}

impl NetnsFd {
    /// Opens `path` and makes sure that a network namespace is there (`NS_GET_NSTYPE`, ioctl_nsfs(2)).
    ///
    /// # Errors
    /// Nothing there, or something else.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let open = |source| NetnsError::Open { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(open)?;
        if !meta.is_file() {
            // Opening a FIFO would wait for its other end, a device might act.
            return Err(NetnsError::NotANamespace { path: path.to_owned(), what: "not even a file" });
        }
        let file = File::open(path).map_err(open)?;
        // SAFETY: NS_GET_NSTYPE takes no argument and only answers a number; `file` is open.
        #[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
        let kind = unsafe { ioctl::ns_get_nstype(file.as_raw_fd()) };
        match kind {
            Ok(nix::libc::CLONE_NEWNET) => {
                let inode = file.metadata().map_err(open)?.ino();
                Ok(Self { file, path: path.to_owned(), inode })
            }
            Ok(_) => {
                Err(NetnsError::NotANamespace { path: path.to_owned(), what: "a namespace of another kind" })
            }
            Err(_) => Err(NetnsError::NotANamespace { path: path.to_owned(), what: "an ordinary file" }),
        }
    }

    /// The namespace this thread runs in.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Whether both are one namespace.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.inode == other.inode
    }

    /// Number of the namespace's inode, unique while it lives.
    #[must_use]
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open descriptor's number, for netlink attributes.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `f` on a fresh thread inside the namespace. The thread ends with the call, so there is
    /// nothing to restore and nothing that can stay behind in the wrong namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let inside = || {
            #[expect(clippy::disallowed_methods, reason = "the one place that enters a namespace")]
            nix::sched::setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result.map_err(|errno: nix::Error| NetnsError::Enter {
                path: self.path.clone(),
                source: errno.into(),
            }),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}
