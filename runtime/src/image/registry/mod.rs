//! Images from registries, by the OCI distribution specification: documents are read, layers come into files and are
//! then unpacked as those of an OCI image layout are.

mod keys;
mod remote;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;

use super::{
    Image, Reference, Store,
    blobs::{Blobs, json},
    digest::{Digest, Hashed},
    layers::{BLOBS, same},
    layout::{self, Documents},
    load::LayerFile,
};
use crate::state::Lock;
use remote::Remote;

pub(crate) use keys::Keys;

/// So many layers come at once.
const AT_ONCE: usize = 3;

/// How registries are spoken to.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Who we are to them.
    pub(crate) keys: Keys,
    /// Those that are spoken to without TLS, as HOST or HOST:PORT.
    pub(crate) insecure: Vec<String>,
}

impl Store {
    /// Gets an image from its registry; `None` when the registry has under this name what the store has. What came whole
    /// stays for the next try when something goes wrong; under its name the store has the image, or what it had before.
    pub(crate) fn pull(&self, name: &Reference, access: &Access) -> Result<Option<Image>> {
        if name.is_only_here() {
            bail!("{name} is a name of this machine's own images, not of a registry's");
        }
        let _nothing_is_swept = self.layers.loading()?;
        let kept = name.to_keep();
        let remote = Remote::new(name, access);
        if let Ok(known) = self.find(&kept.to_string()) {
            // What a digest leads to never changes.
            let now =
                name.digest().cloned().map_or_else(|| remote.digest(name), |digest| Ok(Some(digest)))?;
            if now.is_some_and(|digest| known.digests.contains(&digest)) {
                return Ok(None);
            }
        }
        self.pull_from(&remote, name, kept).map(Some)
    }

    fn pull_from(&self, remote: &Remote, name: &Reference, kept: Reference) -> Result<Image> {
        let document = remote.top(name)?;
        let top = Top { digest: Digest::of(&document), document, remote };
        let mut found = layout::image(&top, &top.descriptor()?)?;
        found.names = vec![kept];
        self.download(remote, found.layers()?)?;
        // One after the other: who is first takes away what the others, too, have found to be there, and by then they
        // find it unpacked.
        let _one_at_a_time = Lock::take(&self.layers.scratch()?.join("unpacking.lock"))?;
        let dir = File::open(&self.dir).with_context(|| format!("open {}", self.dir.display()))?;
        let images = self.take(&Blobs::Directory(dir), &found);
        for layer in &found.layers {
            // What is left goes with the next sweep.
            let _ = fs::remove_file(self.dir.join(&layer.name));
        }
        images?.pop().context("every image has a name")
    }

    /// Gets the layers that are not here, a few at once. After a failure none is begun any more.
    fn download(&self, remote: &Remote, layers: Vec<(&LayerFile, Digest)>) -> Result<()> {
        let blobs = self.dir.join(BLOBS);
        fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
        let queue = Mutex::new(layers.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((layer, id)) = next() {
                if let Err(error) = self.download_one(remote, layer, &id) {
                    while next().is_some() {}
                    return Err(error).with_context(|| format!("get {}", layer.name));
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| worker.join());
            { ended }.try_for_each(|end| end.unwrap_or_else(|_| Err(anyhow!("a download panicked"))))
        })
    }

    fn download_one(&self, remote: &Remote, layer: &LayerFile, id: &Digest) -> Result<()> {
        let (digest, size) = layer.digest.as_ref().zip(layer.size).context("a layer has digest and size")?;
        let (place, scratch) = (self.dir.join(&layer.name), self.layers.scratch()?);
        // Another one may be at it, and may have unpacked it by now.
        let _one_at_a_time = Lock::take(&scratch.join(format!("{}.pull.lock", digest.hex())))?;
        if place.exists() || self.layers.known(id)?.is_some() {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&scratch).context("make a file for a layer")?;
        let mut bytes = Hashed::new(remote.blob(digest)?.take(size.saturating_add(1)));
        let came = io::copy(&mut bytes, &mut file)?;
        if came != size {
            let more = if came > size { "more than " } else { "" };
            bail!("it is damaged: {more}{} bytes came, not {size}", came.min(size));
        }
        same("what came", &bytes.finish()?, digest)?;
        file.persist(&place).with_context(|| format!("create {}", place.display()))?;
        Ok(())
    }
}

/// The documents of a registry, the first of which is here already.
struct Top<'a> {
    digest: Digest,
    document: Vec<u8>,
    remote: &'a Remote,
}

impl Top<'_> {
    /// How an index would describe it. What it says of its kind is not asked: it is one or the other.
    fn descriptor(&self) -> Result<Descriptor> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<serde::de::IgnoredAny>>,
        }
        let either: Either = json(&self.document, "the manifest")?;
        let kind = either.manifests.map_or(MediaType::ImageManifest, |_| MediaType::ImageIndex);
        let digest: oci_spec::image::Digest = self.digest.to_string().parse()?;
        Ok(Descriptor::new(kind, self.document.len() as u64, digest))
    }
}

impl Documents for Top<'_> {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        if *digest == self.digest { Ok(self.document.clone()) } else { self.remote.manifest(digest) }
    }

    fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.remote.config(digest)
    }
}
