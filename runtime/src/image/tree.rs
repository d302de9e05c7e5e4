//! A directory that files of an archive are made in. Nothing outside it is ever touched, whatever the archive says:
//! every path is looked up by the kernel, which does not let it lead out (`RESOLVE_BENEATH`).

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chmodat, chownat, linkat, lsetxattr, mkdirat, mknodat, openat, openat2, statat,
        symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

/// Marks a directory that hides those of the layers below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
/// Somebody else mounts something while we look: the kernel then asks to try again.
const TRIES: usize = 128;

/// The directory.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// Where an entry goes: its directory, and its name there.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    name: OsString,
}

/// What an entry has beside its content.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) owner: (u32, u32),
    pub(super) mode: u32,
    pub(super) modified: i64,
    pub(super) extended: Vec<(String, Vec<u8>)>,
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: openat(CWD, path, flags, Mode::empty())? })
    }

    /// Finds a place. Directories that lead there and are in no archive are made: as Docker makes them, root's and
    /// open to all.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = match self.dir(parent) {
            Err(Errno::NOENT) => make_dirs(parent, |at| self.dir(at))?,
            found => found?,
        };
        let name = path.file_name().unwrap_or(OsStr::new(".")).to_owned();
        Ok(Place { dir, name })
    }

    fn dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        look_up(&self.root, path, OFlags::PATH | OFlags::DIRECTORY, inside)
    }
}

impl Place {
    /// The directory that it is in.
    pub(super) fn parent(self) -> Self {
        Self { dir: self.dir, name: ".".into() }
    }

    fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The same place as a path that no link of the archive is part of.
    fn path(&self) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(&self.name)
    }

    /// Removes what an earlier entry made here.
    fn clear(&self) -> io::Result<()> {
        match self.stat()? {
            None => Ok(()),
            Some(stat) if is(&stat, FileType::Directory) => fs::remove_dir_all(self.path()),
            Some(_) => Ok(unlinkat(&self.dir, &self.name, AtFlags::empty())?),
        }
    }

    /// Makes a directory, unless there is one.
    pub(super) fn directory(&self) -> io::Result<()> {
        let before = self.stat()?;
        if before.as_ref().is_some_and(|stat| is(stat, FileType::Directory)) {
            return Ok(());
        }
        self.clear()?;
        mkdirat(&self.dir, &self.name, Mode::from_raw_mode(0o755))?;
        // What was removed first is not to shine through.
        if before.is_some_and(|stat| is_whiteout(&stat)) { self.hide_lower() } else { Ok(()) }
    }

    /// Makes an empty file to write to.
    pub(super) fn file(&self) -> io::Result<File> {
        self.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.dir, &self.name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    pub(super) fn symlink(&self, target: &OsStr) -> io::Result<()> {
        self.clear()?;
        Ok(symlinkat(target, &self.dir, &self.name)?)
    }

    /// Makes a hard link to what an earlier entry made at `target`.
    pub(super) fn link(&self, target: &Self) -> io::Result<()> {
        self.clear()?;
        Ok(linkat(&target.dir, &target.name, &self.dir, &self.name, AtFlags::empty())?)
    }

    /// Makes a device or a named pipe.
    pub(super) fn special(&self, kind: FileType, device: Dev) -> io::Result<()> {
        self.clear()?;
        Ok(mknodat(&self.dir, &self.name, kind, Mode::from_raw_mode(0o600), device)?)
    }

    /// Hides what lower layers have here. What this layer has stays.
    pub(super) fn whiteout(&self) -> io::Result<()> {
        match self.stat()? {
            None => Ok(mknodat(&self.dir, &self.name, FileType::CharacterDevice, Mode::empty(), 0)?),
            Some(stat) if is(&stat, FileType::Directory) => self.hide_lower(),
            Some(_) => Ok(()),
        }
    }

    /// Hides what lower layers have in this directory.
    pub(super) fn hide_lower(&self) -> io::Result<()> {
        Ok(lsetxattr(self.path(), OPAQUE, b"y", XattrFlags::empty())?)
    }

    /// Gives the new entry what it has beside its content. In this order: a new owner takes set-user-ID bits and
    /// capabilities away.
    pub(super) fn dress(&self, attributes: &Attributes, is_link: bool) -> io::Result<()> {
        let (user, group) = attributes.owner;
        let owner = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        chownat(&self.dir, &self.name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_link {
            chmodat(&self.dir, &self.name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
        }
        for (name, value) in &attributes.extended {
            match lsetxattr(self.path(), name.as_str(), value, XattrFlags::empty()) {
                // Older kernels' tmpfs has no place for what users note on files.
                Err(Errno::OPNOTSUPP) if name.starts_with("user.") => {}
                done => done?,
            }
        }
        self.modified(attributes.modified)
    }

    /// Says when it was changed last.
    pub(super) fn modified(&self, seconds: i64) -> io::Result<()> {
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(&self.dir, &self.name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Opens what is at `path` in a directory, as far as `how` lets links lead. The directory itself has no name.
pub(crate) fn look_up(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path == Path::new("") { Path::new(".") } else { path };
    let look = || openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), how);
    let mut found = look();
    for _ in 0..TRIES {
        if found.as_ref().err() != Some(&Errno::AGAIN) {
            break;
        }
        found = look();
    }
    found
}

/// Makes the directories of a path that are missing, root's and open to all; answers the last. `open` looks one up.
pub(crate) fn make_dirs(
    path: &Path,
    open: impl Fn(&Path) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let mut at = PathBuf::new();
    let mut dir = open(&at)?;
    for part in path.components() {
        at.push(part);
        dir = match open(&at) {
            Err(Errno::NOENT) => {
                mkdirat(&dir, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                open(&at)?
            }
            found => found?,
        };
    }
    Ok(dir)
}

pub(super) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Whether it stands for something that is not there any more.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    is(stat, FileType::CharacterDevice) && stat.st_rdev == 0
}

/// The path of an entry, relative and without detours; `None` when it names something outside.
pub(super) fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}
