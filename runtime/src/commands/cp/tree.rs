//! Copying files and directories between two roots. Only the place to begin with is looked up by a path; from there on
//! everything is a name in a directory that is open, and no link is followed.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, ftruncate,
        mkdirat, openat, readlinkat, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

/// What is kept of modes: a copy gives nobody the rights of its owner.
const MODE: u32 = 0o777;

/// How copies are made.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Whose they are; else those of who copies.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether links are copied; else they are left out.
    pub(super) links: bool,
    /// What was left out, and what it is.
    pub(super) skipped: Vec<(PathBuf, &'static str)>,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: &'a OwnedFd,
    pub(super) name: &'a OsStr,
}

impl Copying {
    /// Copies a file or a directory with all that is in it. `shown` is the path that it is called by.
    pub(super) fn copy(&mut self, from: &OwnedFd, to: Place<'_>, shown: &Path) -> Result<()> {
        let told = || format!("copy {}", shown.display());
        let stat = fstat(from).with_context(told)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file((from, &stat), to).with_context(told),
            FileType::Directory => return self.directory((from, &stat), to, shown),
            FileType::Symlink if self.links => return self.link(from, to).with_context(told),
            FileType::Symlink => "a link",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        self.skipped.push((shown.to_owned(), kind));
        Ok(())
    }

    fn file(&self, (from, stat): (&OwnedFd, &Stat), to: Place<'_>) -> Result<()> {
        match statat(to.dir, to.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => to.is_to_be(FileType::RegularFile, &there)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What was looked at is what is opened, whatever has its name by now.
        let mut source = File::open(format!("/proc/self/fd/{}", from.as_raw_fd()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut made = File::from(openat(to.dir, to.name, flags, Mode::RUSR | Mode::WUSR)?);
        to.is_to_be(FileType::RegularFile, &fstat(&made)?)?;
        ftruncate(&made, 0)?;
        io::copy(&mut source, &mut made)?;
        self.dress(&OwnedFd::from(made), stat)
    }

    fn directory(&mut self, (from, stat): (&OwnedFd, &Stat), to: Place<'_>, shown: &Path) -> Result<()> {
        let told = || format!("copy {}", shown.display());
        let opened = |at: &OwnedFd, name: &OsStr| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::empty())
        };
        let source = opened(from, OsStr::new(".")).with_context(told)?;
        let names = names(&source).with_context(told)?;
        let is_new = match mkdirat(to.dir, to.name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let there = statat(to.dir, to.name, AtFlags::SYMLINK_NOFOLLOW).with_context(told)?;
                to.is_to_be(FileType::Directory, &there).with_context(told)?;
                false
            }
            Err(errno) => return Err(errno).with_context(told),
        };
        let made = opened(to.dir, to.name).with_context(told)?;
        for name in names {
            let name = OsStr::from_bytes(name.as_bytes());
            let shown = shown.join(name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&source, name, flags, Mode::empty()) {
                Ok(entry) => self.copy(&entry, Place { dir: &made, name }, &shown)?,
                // It has gone since.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).with_context(|| format!("copy {}", shown.display())),
            }
        }
        if is_new { self.dress(&made, stat).with_context(told) } else { Ok(()) }
    }

    fn link(&self, from: &OwnedFd, to: Place<'_>) -> Result<()> {
        let target = readlinkat(from, "", vec![])?;
        match statat(to.dir, to.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => {
                to.is_to_be(FileType::Symlink, &there)?;
                unlinkat(to.dir, to.name, AtFlags::empty())?;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        symlinkat(target, to.dir, to.name)?;
        if let Some((user, group)) = self.owner {
            let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
            chownat(to.dir, to.name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn dress(&self, made: &OwnedFd, stat: &Stat) -> Result<()> {
        if let Some((user, group)) = self.owner {
            fchown(made.as_fd(), Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        Ok(fchmod(made.as_fd(), Mode::from_raw_mode(stat.st_mode & MODE))?)
    }
}

impl Place<'_> {
    fn is_to_be(self, kind: FileType, there: &Stat) -> Result<()> {
        let is = FileType::from_raw_mode(there.st_mode);
        if is == kind {
            return Ok(());
        }
        bail!("{:?} is there and is {is:?}, not {kind:?}: remove it first", self.name)
    }
}

fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = vec![];
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
