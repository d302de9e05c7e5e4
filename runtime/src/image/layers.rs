//! Unpacked layers, one directory each, called by the digest of what they were unpacked from (diffID).
//!
//! ```text
//! images/layers/DIGITS/fs           what overlayfs mounts
//!                      layer.json   how large it is
//!        blobs/sha256/DIGITS        layers as they came from a registry, of images that are not whole yet
//!        tmp/                       what is being unpacked, and locks of who does it
//!        loading.lock               shared by those who add layers that no image names yet
//!        launching.lock             shared by those who are about to mount layers
//! ```
//!
//! A layer is unpacked and verified in a directory of its own and then renamed, so it is whole or not there. Layers
//! that nobody uses and what killed loads have left are swept away by whoever finds nobody loading.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    compression,
    digest::{Digest, Hashed},
    unpack::unpack,
};
use crate::state::{Lock, read_json, write_json};

/// Where layers are that were pulled and not unpacked yet: as in a layout.
pub(super) const BLOBS: &str = "blobs/sha256";

/// The layers of a store.
#[derive(Debug)]
pub(super) struct Layers {
    /// The store's directory.
    dir: PathBuf,
}

/// A layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layer {
    pub(super) diff_id: Digest,
    /// The sum of its files' sizes.
    pub(super) size: u64,
    /// Whether it hides all layers below it.
    pub(super) opaque: bool,
}

/// What a layer has to be: the digest of the file that it comes in, and of what that unpacks to, as far as they
/// are known.
#[derive(Debug, Default)]
pub(super) struct Expected<'a> {
    pub(super) blob: Option<&'a Digest>,
    pub(super) diff_id: Option<&'a Digest>,
}

impl Layers {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// As long as this is held no layer is swept away, and what is in `scratch` stays.
    pub(super) fn loading(&self) -> Result<Lock> {
        Lock::share(&self.dir.join("loading.lock"))
    }

    /// As long as this is held no layer is swept away. Not to be held for long.
    pub(super) fn launching(&self) -> Result<Lock> {
        Lock::share(&self.dir.join("launching.lock"))
    }

    /// For what is not finished yet.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        let dir = self.dir.join("tmp");
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// Where the files of a layer are.
    pub(super) fn files(&self, diff_id: &Digest) -> PathBuf {
        self.place(diff_id).join("fs")
    }

    fn place(&self, diff_id: &Digest) -> PathBuf {
        self.all().join(diff_id.hex())
    }

    fn all(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// A layer that is there.
    pub(super) fn known(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        read_json(&self.place(diff_id).join("layer.json"))
    }

    /// Adds a layer, unless it is there. Two who add the same one do not unpack it twice.
    pub(super) fn add(&self, from: Box<dyn io::Read>, expected: &Expected<'_>) -> Result<Layer> {
        let scratch = self.scratch()?;
        let lock = |id: &Digest| Lock::take(&scratch.join(format!("{}.lock", id.hex())));
        let _one_at_a_time = expected.diff_id.map(lock).transpose()?;
        if let Some(id) = expected.diff_id
            && let Some(layer) = self.known(id)?
        {
            if let Some(blob) = expected.blob {
                same("the file", &Hashed::new(from).finish()?, blob)?;
            }
            return Ok(layer);
        }
        let fresh = tempfile::tempdir_in(&scratch).context("make a directory to unpack to")?;
        let layer = fill(fresh.path(), from, expected)?;
        let place = self.place(&layer.diff_id);
        fs::create_dir_all(self.all()).with_context(|| format!("create {}", self.all().display()))?;
        settle(fresh, &place)?;
        Ok(layer)
    }

    /// The directory of a built-in image, made by `build` when it is not there yet.
    pub(super) fn built(&self, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let place = self.dir.join(name);
        if !place.exists() {
            let _stays = self.launching()?;
            let fresh = tempfile::tempdir_in(self.scratch()?).context("make a directory for an image")?;
            build(fresh.path())?;
            fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).context("open it to all")?;
            settle(fresh, &place)?;
        }
        Ok(place)
    }

    /// Removes what nobody uses, unless somebody is loading, who will do it. `used` answers the directories that are
    /// in use; it is asked when nobody can begin to use another one.
    pub(super) fn sweep(&self, used: impl FnOnce() -> Result<BTreeSet<PathBuf>>) -> Result<()> {
        let Some(_nobody_loads) = Lock::try_take(&self.dir.join("loading.lock"))? else {
            return Ok(());
        };
        let nobody_launches = Lock::take(&self.dir.join("launching.lock"))?;
        let (used, scratch) = (used()?, self.scratch()?);
        for layer in entries(&self.all()) {
            if !used.contains(&layer.join("fs")) {
                let name = layer.file_name().unwrap_or_default();
                // At once for everybody else: we may be killed.
                fs::rename(&layer, scratch.join(name))
                    .with_context(|| format!("remove {}", layer.display()))?;
            }
        }
        // Files take a while to remove, and nobody else has to do with these.
        let left = [entries(&scratch), entries(&self.dir.join(BLOBS))].concat();
        drop(nobody_launches);
        for left in left {
            let removed = if left.is_dir() { fs::remove_dir_all(&left) } else { fs::remove_file(&left) };
            removed.with_context(|| format!("remove {}", left.display()))?;
        }
        Ok(())
    }
}

/// Gives a finished directory its place.
fn settle(fresh: tempfile::TempDir, place: &Path) -> Result<()> {
    match fs::rename(fresh.path(), place) {
        Ok(()) => drop(fresh.keep()),
        // Another one was faster, and what it made is as good.
        Err(_) if place.exists() => {}
        Err(e) => return Err(e).with_context(|| format!("create {}", place.display())),
    }
    Ok(())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Makes a layer in `dir`: its files, and what is known of it.
fn fill(dir: &Path, from: Box<dyn io::Read>, expected: &Expected<'_>) -> Result<Layer> {
    let files = dir.join("fs");
    fs::create_dir(&files).with_context(|| format!("create {}", files.display()))?;
    fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).context("open the layer to all")?;
    let mut blob = Hashed::new(from);
    let mut plain = Hashed::new(compression::plain(&mut blob)?);
    let unpacked = unpack(&mut plain, &files);
    let diff_id = plain.finish();
    // Damage is the reason for whatever else went wrong.
    match (expected.blob, blob.finish()) {
        (Some(wanted), Ok(found)) => same("the file", &found, wanted)?,
        (_, found) => drop(found.context("read it")?),
    }
    let unpacked = unpacked?;
    let diff_id = diff_id.context("read it")?;
    if let Some(wanted) = expected.diff_id {
        same("what it unpacks to", &diff_id, wanted)?;
    }
    let layer = Layer { diff_id, size: unpacked.size, opaque: unpacked.opaque };
    write_json(&dir.join("layer.json"), &layer)?;
    Ok(layer)
}

pub(super) fn same(what: &str, found: &Digest, wanted: &Digest) -> Result<()> {
    if found != wanted {
        bail!("{what} is damaged: its digest is {found}, not {wanted}");
    }
    Ok(())
}
