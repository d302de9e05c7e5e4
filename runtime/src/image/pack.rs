//! The way back: a layer's directory as an archive, removals included.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::{self, File, Metadata},
    io::{Read as _, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{lgetxattr, llistxattr, major, minor};
use tar::{Builder, EntryType, Header};

use super::{
    tree::OPAQUE,
    unpack::{EXTENDED, HIDE_ALL, LABEL, OVERLAY, WHITEOUT},
};

/// The kernel has no longer attribute, and no longer list of their names.
const LONGEST: usize = 64 << 10;

/// Writes everything in the directory `from` as an archive.
pub(super) fn pack<W: Write>(from: &Path, to: W) -> Result<W> {
    let mut packing = Packing { tar: Builder::new(to), linked: HashMap::new() };
    packing.directory(from, Path::new(""))?;
    packing.tar.into_inner().context("write the archive")
}

struct Packing<W: Write> {
    tar: Builder<W>,
    /// Files with several names, by device and inode, and the first name that was met.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packing<W> {
    /// What is in a directory that is called `name` in the archive.
    fn directory(&mut self, from: &Path, name: &Path) -> Result<()> {
        let told = || format!("read {}", from.display());
        let entries = fs::read_dir(from).with_context(told)?;
        let mut names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>().with_context(told)?;
        names.sort();
        for below in names {
            let path = from.join(&below);
            self.entry(&path, &name.join(&below)).with_context(|| format!("pack {}", path.display()))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> Result<()> {
        let meta = path.symlink_metadata()?;
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            let mut hidden = WHITEOUT.as_bytes().to_vec();
            hidden.extend(name.file_name().unwrap_or_default().as_bytes());
            return self.mark(&name.with_file_name(OsStr::from_bytes(&hidden)));
        }
        let mut header = header(&meta);
        if meta.nlink() > 1 && !meta.is_dir() {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return Ok(self.tar.append_link(&mut header, name, first)?);
            }
            self.linked.insert((meta.dev(), meta.ino()), name.to_owned());
        }
        if kind.is_socket() {
            // No archive has them, and none outlives the process that made it.
            return Ok(());
        }
        let attributes = attributes(path)?;
        let kept = attributes.iter().filter(|(key, _)| !key.starts_with(OVERLAY) && key != LABEL);
        let kept: Vec<_> = kept.map(|(key, value)| (format!("{EXTENDED}{key}"), value)).collect();
        if !kept.is_empty() {
            self.tar
                .append_pax_extensions(kept.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        if meta.is_symlink() {
            return Ok(self.tar.append_link(&mut header, name, fs::read_link(path)?)?);
        }
        if meta.is_file() {
            return self.file(path, name, (header, meta.len()));
        }
        self.tar.append_data(&mut header, name, std::io::empty())?;
        if meta.is_dir() {
            if attributes.iter().any(|(key, value)| key == OPAQUE && value == b"y") {
                self.mark(&name.join(HIDE_ALL))?;
            }
            self.directory(path, name)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path, (mut header, size): (Header, u64)) -> Result<()> {
        let mut data = File::open(path)?.take(size);
        self.tar.append_data(&mut header, name, &mut data)?;
        if data.limit() > 0 {
            bail!("it became shorter meanwhile");
        }
        Ok(())
    }

    /// An empty file whose name says something about lower layers.
    fn mark(&mut self, name: &Path) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        Ok(self.tar.append_data(&mut header, name, std::io::empty())?)
    }
}

fn header(meta: &Metadata) -> Header {
    let kind = meta.file_type();
    let mut header = Header::new_gnu();
    header.set_entry_type(match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_symlink() => EntryType::Symlink,
        () if kind.is_char_device() => EntryType::Char,
        () if kind.is_block_device() => EntryType::Block,
        () if kind.is_fifo() => EntryType::Fifo,
        () => EntryType::Regular,
    });
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mode(meta.mode() & 0o7777);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(if kind.is_file() { meta.len() } else { 0 });
    if let Some(gnu) = header.as_gnu_mut().filter(|_| kind.is_char_device() || kind.is_block_device()) {
        gnu.set_device_major(major(meta.rdev()));
        gnu.set_device_minor(minor(meta.rdev()));
    }
    header
}

/// The extended attributes of a file, a link included.
fn attributes(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; LONGEST];
    let bytes = match llistxattr(path, &mut names[..]) {
        Ok(bytes) => bytes,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(vec![]),
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(bytes);
    let mut found = vec![];
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name)?.to_str()?.to_owned();
        let mut value = vec![0; LONGEST];
        let bytes = lgetxattr(path, name.as_str(), &mut value[..])?;
        value.truncate(bytes);
        found.push((name, value));
    }
    Ok(found)
}
