//! Layers: archives of what an image adds to the layers below it, unpacked as overlayfs wants them.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FileType, makedev},
    io::Errno,
};
use tar::{Entry, EntryType};

use super::tree::{Attributes, Place, Tree, inside};

/// Marks the name of something that lower layers have and this one removes.
pub(super) const WHITEOUT: &str = ".wh.";
/// Marks a directory whose content in lower layers is removed.
pub(super) const HIDE_ALL: &str = ".wh..wh..opq";
/// Other files that begin so are for the tool that made the layer.
const PRIVATE: &str = ".wh..wh.";
/// Extended attributes in a header.
pub(super) const EXTENDED: &str = "SCHILY.xattr.";
/// Files with holes, as GNU tar writes them into archives of this format.
const SPARSE: &str = "GNU.sparse.";
/// With these a layer could make overlayfs show other files than it has.
pub(super) const OVERLAY: &str = "trusted.overlay.";
/// Labels of the machine that the layer was made on.
pub(super) const LABEL: &str = "security.selinux";

/// What a layer turned out to be.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// The sum of its files' sizes.
    pub(super) size: u64,
    /// Whether it hides all layers below it.
    pub(super) opaque: bool,
}

/// Unpacks an archive into the directory `to`.
pub(super) fn unpack(from: impl Read, to: &Path) -> Result<Unpacked> {
    let told = || format!("open {}", to.display());
    let mut layer =
        Layer { tree: Tree::open(to).with_context(told)?, dirs: vec![], done: Unpacked::default() };
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let name = entry.path_bytes().into_owned();
        let told = || format!("path {:?}", String::from_utf8_lossy(&name));
        layer.take(&mut entry, OsStr::from_bytes(&name)).with_context(told)?;
    }
    layer.finish()
}

struct Layer {
    tree: Tree,
    /// Directories and when they were changed last, which is said when nothing more is put into them.
    dirs: Vec<(PathBuf, i64)>,
    done: Unpacked,
}

impl Layer {
    fn take(&mut self, entry: &mut Entry<'_, impl Read>, name: &OsStr) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = checked(name)?;
        match path.file_name().and_then(OsStr::to_str) {
            Some(HIDE_ALL) => self.hide_lower(&path),
            Some(name) if name.starts_with(PRIVATE) => Ok(()),
            Some(name) if name.starts_with(WHITEOUT) => self.whiteout(&path, name),
            _ => self.make(entry, &path, name.as_bytes().ends_with(b"/")),
        }
    }

    fn place(&self, path: &Path) -> Result<Place> {
        let found = self.tree.place(path);
        if found.as_ref().is_err_and(|e| e.raw_os_error() == Some(Errno::XDEV.raw_os_error())) {
            bail!("a symbolic link on the way leads out of the image");
        }
        Ok(found?)
    }

    fn hide_lower(&mut self, path: &Path) -> Result<()> {
        // Overlayfs does not look at the attributes of the root.
        self.done.opaque |= path.parent() == Some(Path::new(""));
        Ok(self.place(path)?.parent().hide_lower()?)
    }

    fn whiteout(&self, path: &Path, name: &str) -> Result<()> {
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, "" | "." | "..") {
            bail!("it removes nothing that has a name");
        }
        Ok(self.place(&path.with_file_name(hidden))?.whiteout()?)
    }

    fn make(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path, is_dir: bool) -> Result<()> {
        let attributes = attributes(entry)?;
        let kind = entry.header().entry_type();
        let place = self.place(path)?;
        match kind {
            EntryType::Directory => place.directory()?,
            // Archives from before there were directories in them.
            EntryType::Regular if is_dir => place.directory()?,
            _ if path == Path::new("") => bail!("the root of an image is a directory"),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.done.size += io::copy(entry, &mut place.file()?)?;
            }
            EntryType::Symlink => place.symlink(OsStr::from_bytes(&target(entry)?))?,
            EntryType::Link => {
                let target = target(entry)?;
                let told = || format!("hard link to {:?}", String::from_utf8_lossy(&target));
                let old = checked(OsStr::from_bytes(&target)).with_context(told)?;
                let old = self.place(&old).with_context(told)?;
                // It is the same file, with the same attributes.
                return place.link(&old).with_context(told);
            }
            EntryType::Char => place.special(FileType::CharacterDevice, device(entry)?)?,
            EntryType::Block => place.special(FileType::BlockDevice, device(entry)?)?,
            EntryType::Fifo => place.special(FileType::Fifo, 0)?,
            other => bail!("entries of type {:?} are unknown", char::from(other.as_byte())),
        }
        place.dress(&attributes, kind == EntryType::Symlink)?;
        if matches!(kind, EntryType::Directory) {
            self.dirs.push((path.to_owned(), attributes.modified));
        }
        Ok(())
    }

    fn finish(self) -> Result<Unpacked> {
        for (path, modified) in self.dirs {
            // A later entry may have put something else there.
            if let Ok(place) = self.tree.place(&path) {
                let _ = place.modified(modified);
            }
        }
        Ok(self.done)
    }
}

fn checked(name: &OsStr) -> Result<PathBuf> {
    inside(Path::new(name)).context("it leads out of the image: names are relative and without \"..\"")
}

fn target(entry: &Entry<'_, impl Read>) -> Result<Vec<u8>> {
    let target = entry.link_name_bytes().context("a link to nothing")?.into_owned();
    if target.is_empty() {
        bail!("a link to nothing");
    }
    Ok(target)
}

fn device(entry: &Entry<'_, impl Read>) -> Result<u64> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?, header.device_minor()?);
    Ok(makedev(major.context("a device without number")?, minor.context("a device without number")?))
}

fn attributes(entry: &mut Entry<'_, impl Read>) -> Result<Attributes> {
    let mut extended = vec![];
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let key = extension.key().unwrap_or_default();
        if key.starts_with(SPARSE) {
            bail!("a file with holes, written in a way that is not read: make the archive without --sparse");
        }
        let Some(name) = key.strip_prefix(EXTENDED) else { continue };
        if name.starts_with(OVERLAY) {
            bail!("the attribute {name} is not a layer's to set");
        }
        if name != LABEL {
            extended.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).context("an owner out of range");
    Ok(Attributes {
        owner: (id(header.uid()?)?, id(header.gid()?)?),
        mode: header.mode()? & 0o7777,
        modified: i64::try_from(header.mtime()?).context("a time out of range")?,
        extended,
    })
}

#[cfg(test)]
mod tests;
