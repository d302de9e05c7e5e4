//! Locks on files, of two kinds. The kernel releases both when their holder ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    path::Path,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, fcntl},
    libc,
};

/// A held lock that keeps others out (flock(2)).
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock at `path`, or answers `None` when another one is held.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(anyhow!(errno)).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// Waits for the lock at `path`, to hold it alone.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        Self::wait(path, FlockArg::LockExclusive)
    }

    /// Waits for the lock at `path`, to hold it beside others that share it.
    pub(crate) fn share(path: &Path) -> Result<Self> {
        Self::wait(path, FlockArg::LockShared)
    }

    fn wait(path: &Path, how: FlockArg) -> Result<Self> {
        let locked = Flock::lock(open(path)?, how).map_err(|(_, errno)| errno);
        let file = locked.with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// The sign that a process keeps something: a lock that is the process' own (fcntl(2), "record locks") and is not
/// handed down to what it forks. The first process of a container, which a killed keeper left half made, has no such
/// lock. Looking whether it is held disturbs nobody.
///
/// The process must not open the file a second time: closing that would release the lock.
#[derive(Debug)]
pub(crate) struct Keeper {
    _file: File,
}

impl Keeper {
    /// Takes the lock at `path`, or answers `None` when another process holds it.
    pub(crate) fn try_become(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// Whether some other process holds the lock at `path`.
    pub(crate) fn is_there(path: &Path) -> bool {
        let mut other = whole(libc::F_WRLCK);
        let asked = File::open(path).map(|file| fcntl(&file, FcntlArg::F_GETLK(&mut other)));
        matches!(asked, Ok(Ok(_))) && other.l_type != whole(libc::F_UNLCK).l_type
    }
}

/// A lock on all of a file.
fn whole(how: libc::c_int) -> libc::flock {
    let narrow = |number: libc::c_int| libc::c_short::try_from(number).unwrap_or_default();
    libc::flock { l_type: narrow(how), l_whence: narrow(libc::SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.open(path).with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use nix::{
        sys::wait::waitpid,
        unistd::{ForkResult, fork},
    };

    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "what is forked is what is tested")]
    fn what_a_killed_keeper_has_forked_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (mut ends, end) = pipe().unwrap();
        let (mut held, holds) = pipe().unwrap();
        // SAFETY: the children only make system calls, and end without returning.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let keeper = Keeper::try_become(&path).ok().flatten();
                // SAFETY: as above.
                if let Ok(ForkResult::Child) = unsafe { fork() } {
                    drop((end, holds));
                    let _ = ends.read(&mut [0]);
                    // SAFETY: ends this process, nothing else.
                    unsafe { libc::_exit(0) };
                }
                // Until the test has seen it held.
                drop((end, holds));
                let _ = held.read(&mut [0]);
                std::mem::forget(keeper);
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            ForkResult::Parent { child } => {
                let seen = netns_fixtures::wait_until("the lock", std::time::Duration::from_secs(20), || {
                    Keeper::is_there(&path).then_some(())
                });
                drop(holds);
                waitpid(child, None).unwrap();
                assert!(seen.is_ok() && !Keeper::is_there(&path));
                drop(end);
            }
        }
    }
}
