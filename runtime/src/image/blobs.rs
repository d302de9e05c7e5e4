//! The files that an image comes in: those of a directory, or of an archive.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, ResolveFlags};
use serde::de::DeserializeOwned;

use super::{
    compression,
    digest::Digest,
    tree::{inside, look_up},
};

/// No document about an image is larger (containerd's limit).
pub(super) const DOCUMENT: u64 = 8 << 20;
/// Links in an archive may lead to links.
const HOPS: usize = 8;

/// The files.
#[derive(Debug)]
pub(super) enum Blobs {
    Directory(File),
    Archive { file: File, entries: BTreeMap<PathBuf, Stored> },
}

/// What an archive has under a name.
#[derive(Debug)]
pub(super) enum Stored {
    Bytes { start: u64, size: u64 },
    Link(PathBuf),
}

/// Where an image is loaded from.
#[derive(Debug)]
pub(crate) enum Source {
    Path(PathBuf),
    Stdin,
}

impl Source {
    /// A path, or `-` for standard input.
    pub(crate) fn of(text: &Path) -> Self {
        if text == Path::new("-") { Self::Stdin } else { Self::Path(text.to_owned()) }
    }

    /// The directory that it is, if it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Path(path) if path.is_dir() => Some(path),
            _ => None,
        }
    }

    /// Its bytes, as they are.
    pub(super) fn open(&self) -> Result<Box<dyn Read>> {
        Ok(match self {
            Self::Stdin => Box::new(io::stdin().lock()),
            Self::Path(path) => {
                Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?)
            }
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

impl Blobs {
    /// Finds out what there is. What is compressed or comes through a pipe is first written to a file in `scratch`,
    /// which has no name and goes with us.
    pub(super) fn open(source: &Source, scratch: &Path) -> Result<Self> {
        if let Some(dir) = source.directory() {
            return Ok(Self::Directory(File::open(dir)?));
        }
        if let Source::Path(path) = source
            && let Ok(mut file) = File::open(path)
            && let Ok(entries) = index(&mut file)
        {
            return Ok(Self::Archive { file, entries });
        }
        let mut file = tempfile::tempfile_in(scratch).context("make a file to unpack to")?;
        let mut plain = compression::plain(source.open()?)?;
        io::copy(&mut plain, &mut file)?;
        let entries = index(&mut file).context("it is no tar archive")?;
        Ok(Self::Archive { file, entries })
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.read(name).is_ok()
    }

    /// Reads a file.
    pub(super) fn read(&self, name: &str) -> Result<Box<dyn Read>> {
        let path = inside(Path::new(name)).with_context(|| format!("{name:?} leads out"))?;
        match self {
            Self::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK;
                let file = look_up(dir, &path, flags, ResolveFlags::BENEATH);
                let file = File::from(file.with_context(|| format!("open {name}"))?);
                if !file.metadata()?.is_file() {
                    bail!("{name} is no file");
                }
                Ok(Box::new(file))
            }
            Self::Archive { file, entries } => {
                let (start, size) = find(entries, path).with_context(|| format!("no file {name}"))?;
                let file = file.try_clone().context("open the archive again")?;
                Ok(Box::new(Part { file, at: start, end: start + size }))
            }
        }
    }

    /// Reads a document.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        self.read(name)?
            .take(DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {name}"))?;
        if bytes.len() as u64 > DOCUMENT {
            bail!("{name} is larger than {} MiB", DOCUMENT >> 20);
        }
        Ok(bytes)
    }

    /// Reads a document that has to have this digest.
    pub(super) fn verified(&self, name: &str, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.document(name)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            bail!("{name} is damaged: its digest is {found}, not {digest}");
        }
        Ok(bytes)
    }
}

/// A document's value.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("read {name}"))
}

/// Where the files of an archive are.
fn index(file: &mut File) -> Result<BTreeMap<PathBuf, Stored>> {
    file.seek(SeekFrom::Start(0))?;
    let mut archive = tar::Archive::new(file);
    let mut found = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let Some(path) = inside(&entry.path()?) else { continue };
        let kind = entry.header().entry_type();
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let stored = match (kind, link) {
            (tar::EntryType::Symlink, Some(link)) => {
                Stored::Link(path.parent().unwrap_or(Path::new("")).join(link))
            }
            (tar::EntryType::Link, Some(link)) => Stored::Link(link),
            _ if kind.is_file() => Stored::Bytes { start: entry.raw_file_position(), size: entry.size() },
            _ => continue,
        };
        found.insert(path, stored);
    }
    Ok(found)
}

/// Follows links to a file of the archive.
fn find(entries: &BTreeMap<PathBuf, Stored>, path: PathBuf) -> Option<(u64, u64)> {
    let mut path = path;
    for _ in 0..HOPS {
        match entries.get(&path)? {
            Stored::Bytes { start, size } => return Some((*start, *size)),
            Stored::Link(target) => path = without_detours(target),
        }
    }
    None
}

/// `a/../b` as `b`. Above the archive's root there is nothing.
fn without_detours(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// A stretch of a file that others may read at the same time.
struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at)?;
        if bytes == 0 && left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes as u64;
        Ok(bytes)
    }
}
