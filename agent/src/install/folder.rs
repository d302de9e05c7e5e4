//! A directory that runtimes read while we change it: every file in it appears, changes and goes whole, and
//! is on the disk before the next step begins.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The file system refused.
    #[error("{op} {path}: {error}{}", remedy(error))]
    Io { op: &'static str, path: PathBuf, error: io::Error },
    /// Somebody else changes the directory.
    #[error("another flatnetd install or uninstall works in {path}; run it again when that one is done")]
    Locked { path: PathBuf },
}

impl FolderError {
    fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { op, path, error }
    }
}

/// What a person can do about it.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a directory that can be written (--bin-dir, --conf-dir), and name it to the runtime too"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on that file system",
        io::ErrorKind::NotADirectory => "; a part of this path is a file",
        _ => "",
    }
}

/// A directory, locked against other installs. The lock dies with its holder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    file: File,
}

impl Folder {
    /// Opens a directory, and makes it where there is none.
    pub(crate) fn make(path: &Path) -> Result<Self, FolderError> {
        make_all(path)?;
        Self::lock(path, File::open(path).map_err(FolderError::io("open", path))?)
    }

    /// Opens a directory; `None` where there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, FolderError> {
        match File::open(path) {
            Ok(file) => Self::lock(path, file).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FolderError::io("open", path)(e)),
        }
    }

    fn lock(path: &Path, file: File) -> Result<Self, FolderError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file }),
            Err(TryLockError::WouldBlock) => Err(FolderError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(e)) => Err(FolderError::io("lock", path)(e)),
        }
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of everything in it but directories, sorted by their bytes.
    pub(crate) fn names(&self) -> Result<Vec<String>, FolderError> {
        let listed: io::Result<Vec<String>> = fs::read_dir(&self.path).and_then(|entries| {
            let file_name = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                let is_file = !entry.file_type()?.is_dir();
                Ok(is_file.then(|| entry.file_name().to_string_lossy().into_owned()))
            };
            entries.filter_map(|entry| file_name(entry).transpose()).collect()
        });
        let mut names = listed.map_err(FolderError::io("list", &self.path))?;
        names.sort_unstable();
        Ok(names)
    }

    /// A file's content; `None` where there is none, or a link that leads nowhere.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path(name);
        absent_is_none(fs::read(&path)).map_err(FolderError::io("read", &path))
    }

    /// Whether a file that is there has all of these permissions.
    pub(crate) fn allows(&self, name: &str, mode: u32) -> Result<bool, FolderError> {
        let path = self.path(name);
        let found = fs::metadata(&path).map_err(FolderError::io("read", &path))?;
        Ok(found.permissions().mode() & mode == mode)
    }

    /// Puts a file in its place: written beside it, under a name that no runtime loads, and renamed. What
    /// runs from the old file goes on with that.
    pub(crate) fn put(&self, name: &str, content: &[u8], mode: u32) -> Result<(), FolderError> {
        let (path, beside) = (self.path(name), self.path(&temporary(name)));
        self.forget(name)?;
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
            // Whatever the umask is: runtimes and their users have to get at it.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&beside, &path)
        })();
        if written.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(&beside);
        }
        written.map_err(FolderError::io("write", &path))?;
        self.sync()
    }

    /// Removes what an install that was killed left of this file.
    pub(crate) fn forget(&self, name: &str) -> Result<(), FolderError> {
        let beside = self.path(&temporary(name));
        unlink(&beside).map_err(FolderError::io("remove", &beside))
    }

    /// Gives a file another name, in place of what has it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(FolderError::io("rename", &path))?;
        self.sync()
    }

    /// Removes a file; none there is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FolderError> {
        let path = self.path(name);
        unlink(&path).map_err(FolderError::io("remove", &path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), FolderError> {
        self.file.sync_all().map_err(FolderError::io("sync", &self.path))
    }
}

/// The name under which a file is written before it is complete.
fn temporary(name: &str) -> String {
    format!(".{}.flatnet-tmp", name.trim_start_matches('.'))
}

/// Makes a directory and those above it, readable for everybody whatever the umask is.
fn make_all(path: &Path) -> Result<(), FolderError> {
    let made = match DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            path.parent().map_or(Ok(()), make_all)?;
            DirBuilder::new().mode(0o755).create(path)
        }
        made => made,
    };
    match made {
        Ok(()) => {
            let open = fs::set_permissions(path, Permissions::from_mode(0o755));
            let kept =
                open.and_then(|()| path.parent().map_or(Ok(()), |above| File::open(above)?.sync_all()));
            kept.map_err(FolderError::io("make directory", path))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A directory that is there can be used though nothing may be made beside it.
        Err(_) if path.is_dir() => Ok(()),
        Err(e) => Err(FolderError::io("make directory", path)(e)),
    }
}

/// Removes what is there. Asked first: a read-only file system refuses even to remove what is not.
fn unlink(path: &Path) -> io::Result<()> {
    absent_is_none(fs::symlink_metadata(path))?.map_or(Ok(()), |_| fs::remove_file(path))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::netconf;

    #[test]
    fn directories_are_made_and_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        assert!(Folder::open(&path).unwrap().is_none());
        let folder = Folder::make(&path).unwrap();
        for made in [&path, &dir.path().join("a")] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o755);
        }
        let e = Folder::open(&path).unwrap_err().to_string();
        assert!(e.contains("another flatnetd install"), "{e}");
        drop(folder);
        assert!(Folder::open(&path).unwrap().is_some());
    }

    #[test]
    fn files_are_replaced_not_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(dir.path()).unwrap();
        folder.put("x.conf", b"one", 0o755).unwrap();
        let old = File::open(folder.path("x.conf")).unwrap();
        // What a killed install left, and somebody else's file of a similar name.
        fs::write(folder.path(&temporary("x.conf")), "half").unwrap();
        fs::write(folder.path(".x.conf.tmp"), "theirs").unwrap();
        folder.put("x.conf", b"two", 0o644).unwrap();
        assert_eq!(io::read_to_string(old).unwrap(), "one");
        assert_eq!(folder.read("x.conf").unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(folder.path("x.conf")).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(folder.names().unwrap(), [".x.conf.tmp", "x.conf"]);
        assert!(!netconf::is_configuration(&temporary("x.conf")));
    }

    #[test]
    fn errors_say_what_can_be_done() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let e = Folder::make(&dir.path().join("file/below")).unwrap_err().to_string();
        assert!(e.contains("make directory") && e.contains("a part of this path is a file"), "{e}");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let e = FolderError::io("write", Path::new("/opt/cni/bin/flatnet"))(denied).to_string();
        assert!(e.contains("/opt/cni/bin/flatnet") && e.contains("as root"), "{e}");
    }
}
