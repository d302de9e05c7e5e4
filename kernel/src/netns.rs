//! Network namespaces: opened and verified once, entered for the length of one call.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

    /// Runs `f` inside the namespace, on the calling thread, which is back in its own afterwards: also
    /// when `f` panics. A thread thrown away for it would be as safe, and cost a tenth of an ADD.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let _back = Back(Self::current()?);
        enter(&self.file)
            .map_err(|errno| NetnsError::Enter { path: self.path.clone(), source: errno.into() })?;
        Ok(f())
    }
}

/// Takes the thread back to where it was.
struct Back(NetnsFd);

impl Drop for Back {
    fn drop(&mut self) {
        if enter(&self.0.file).is_err() {
            // Whatever this thread did next would be done to the wrong machine.
            std::process::abort();
        }
    }
}

fn enter(namespace: &File) -> nix::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the one place that enters a namespace")]
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)
}
