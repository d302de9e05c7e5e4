//! Network namespaces held by a file descriptor.

use std::{
    fs::File,
    io,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    panic,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Arc,
    thread,
};

use ipnetwork::IpNetwork;
use nix::{sched::CloneFlags, sys::signal::Signal};

use crate::{FixtureError, link};

/// A network namespace. Clones share it; it is gone when the last holder (clone, process or socket
/// inside) is gone.
#[derive(Debug, Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes an empty namespace, `lo` up, everything else as the kernel makes it.
    ///
    /// # Errors
    /// When the kernel refuses, see [`crate::gate`].
    pub fn new() -> Result<Self, FixtureError> {
        let ns = on_fresh_thread(|| {
            unshare_net()?;
            Self::current()
        })?;
        link::netlink(&ns, "set lo up", async |h| link::set_up(&h, "lo").await)?;
        Ok(ns)
    }

    /// Gives the namespace addresses of its own, on its loopback: what it sends from to links without one.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn own(&self, addresses: &[IpAddr]) -> Result<(), FixtureError> {
        let index = link::index_of(self, "lo")?;
        let networks: Vec<IpNetwork> = addresses.iter().copied().map(IpNetwork::from).collect();
        link::netlink(self, "add addresses to lo", async |h| link::add_addresses(&h, index, &networks).await)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> Result<Self, FixtureError> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The namespace at `path` (`/proc/PID/ns/net`, or where one is mounted).
    ///
    /// # Errors
    /// When the path cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FixtureError> {
        let path = path.as_ref();
        let file =
            File::open(path).map_err(FixtureError::os(format!("open namespace {}", path.display())))?;
        Ok(Self { fd: Arc::new(file.into()) })
    }

    /// A path that any process of this PID namespace can open for as long as this process holds the
    /// namespace: what `CNI_NETNS` wants.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.fd.as_raw_fd()))
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The inode number that identifies the namespace, the same that `readlink /proc/PID/ns/net` shows.
    ///
    /// # Errors
    /// When the kernel refuses the fstat.
    pub fn inode(&self) -> Result<u64, FixtureError> {
        let file = self.fd.try_clone().map_err(FixtureError::os("duplicate namespace"))?;
        let meta = File::from(file).metadata().map_err(FixtureError::os("stat namespace"))?;
        Ok(meta.ino())
    }

    /// Runs `f` inside, on a fresh thread that ends with the call: there is nothing to switch back. A
    /// socket that `f` opens and returns stays inside. A panic in `f` goes on in the caller.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, FixtureError> {
        on_fresh_thread(|| {
            enter(self.fd.as_fd()).map_err(FixtureError::errno("enter namespace"))?;
            Ok(f())
        })
    }

    /// Makes `command` start inside, and end by SIGKILL when the thread that starts it ends. So start
    /// it from a thread that lives as long as the process should.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    #[expect(unsafe_code, reason = "pre_exec")]
    pub fn enter_for_child(&self, command: &mut Command) -> Result<(), FixtureError> {
        let fd = self.fd.try_clone().map_err(FixtureError::os("duplicate namespace"))?;
        let parent = nix::unistd::getpid();
        let inside = move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(enter(fd.as_fd())?)
        };
        // SAFETY: the closure makes only system calls that are async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(inside) };
        Ok(())
    }

    /// The largest segments in bytes that link `name` takes: out of any family, out of IPv4, in of any
    /// family, in of IPv4.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn segment_sizes(&self, name: &str) -> Result<[u32; 4], FixtureError> {
        link::segment_sizes(self, name)
    }

    /// Sets all of [`Self::segment_sizes`].
    ///
    /// # Errors
    /// When there is no such link, or the kernel refuses.
    pub fn set_segment_sizes(&self, name: &str, size: u32) -> Result<(), FixtureError> {
        link::set_segment_sizes(self, name, size)
    }
}

fn on_fresh_thread<T: Send>(f: impl FnOnce() -> Result<T, FixtureError> + Send) -> Result<T, FixtureError> {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(result) => result,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the module that makes namespaces")]
fn unshare_net() -> Result<(), FixtureError> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(FixtureError::errno("make a network namespace"))
}

#[expect(clippy::disallowed_methods, reason = "this is the module that enters namespaces")]
fn enter(fd: BorrowedFd<'_>) -> nix::Result<()> {
    nix::sched::setns(fd, CloneFlags::CLONE_NEWNET)
}
