//! Notices when somebody removes the state directory, or files from it, under the running agent.

use std::io;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};
use tokio::io::unix::AsyncFd;

use crate::readable::{happened, readable};

/// A watch of one directory. Plugins write below it all day; only removals count.
pub(crate) struct StateWatch {
    folder: PathBuf,
    inotify: AsyncFd<Inotify>,
}

impl StateWatch {
    /// # Errors
    /// inotify is not to be had.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let watch = Self { folder: folder.to_owned(), inotify: readable(Inotify::init()?)? };
        watch.begin()?;
        Ok(watch)
    }

    /// Watches the directory that is there now. Watching twice is watching once.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let mask = WatchMask::DELETE | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        self.inotify.get_ref().watches().add(&self.folder, mask).map(drop)
    }

    /// Returns once something was removed. Cancel safe.
    ///
    /// # Errors
    /// The descriptor is broken.
    pub(crate) async fn removed(&mut self) -> io::Result<()> {
        happened(&mut self.inotify).await
    }
}
