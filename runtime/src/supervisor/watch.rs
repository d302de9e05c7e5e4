//! Waiting until something happens: a file that was replaced, a child that ended.

use std::{os::fd::AsFd as _, path::Path, time::Duration};

use anyhow::{Context, Result};
use inotify::{Inotify, WatchMask};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// What to look out for.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    signals: SignalFd,
}

impl Watch {
    pub(crate) fn new() -> Result<Self> {
        let watched: SigSet = [Signal::SIGCHLD].into_iter().collect();
        watched.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("watch signals")?;
        Ok(Self { inotify: Inotify::init().context("watch files")?, signals })
    }

    /// Watches the files of a directory.
    pub(crate) fn add(&mut self, dir: &Path) -> Result<()> {
        let watched = self.inotify.watches().add(dir, WatchMask::MOVED_TO);
        watched.map(drop).with_context(|| format!("watch {}", dir.display()))
    }

    /// Returns when something may have happened, at the latest after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<()> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for events"),
        }
        let mut buffer = [0; 4096];
        // What they say does not matter, only that they are read; none is no error.
        while self.inotify.read_events(&mut buffer).is_ok_and(|mut events| events.next().is_some()) {}
        while let Ok(Some(_)) = self.signals.read_signal() {}
        Ok(())
    }
}
