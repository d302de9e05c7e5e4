//! From an archive or a directory to images of the store.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

use super::{
    Image, ImageConfig, Store,
    blobs::{Blobs, Source, json},
    digest::Digest,
    docker,
    layers::{Expected, Layer},
    layout,
    reference::Reference,
};

/// An image that was found, of which nothing is unpacked yet.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) names: Vec<Reference>,
    /// What its manifest and the indexes that lead there are called by.
    pub(super) digests: Vec<Digest>,
    /// Its configuration as it is in the file: the image's id is made of it.
    pub(super) config: Vec<u8>,
    /// The lowest first.
    pub(super) layers: Vec<LayerFile>,
}

/// The file that a layer is in.
#[derive(Debug)]
pub(super) struct LayerFile {
    pub(super) name: String,
    pub(super) digest: Option<Digest>,
    /// How long it is, where that is told.
    #[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "only a download can have no end"))]
    pub(super) size: Option<u64>,
}

impl Found {
    /// Its layers' files, each with the digest of what it unpacks to.
    pub(super) fn layers(&self) -> Result<Vec<(&LayerFile, Digest)>> {
        let read: ImageConfiguration = json(&self.config, "the image's configuration")?;
        let ids = read.rootfs().diff_ids();
        if ids.len() != self.layers.len() {
            bail!("the image has {} layers, its configuration {}", self.layers.len(), ids.len());
        }
        let with_id =
            |(file, id): (_, &String)| Ok((file, id.parse().with_context(|| format!("layer {id}"))?));
        self.layers.iter().zip(ids).map(with_id).collect()
    }
}

impl Store {
    /// Loads every image of `source` that this machine can run. `tag` is for one image, in place of its own names.
    pub(crate) fn load(&self, source: &Source, tag: Option<&Reference>) -> Result<Vec<Image>> {
        let told = || format!("load {source}");
        let _nothing_is_swept = self.layers.loading()?;
        let blobs = Blobs::open(source, &self.layers.scratch()?).with_context(told)?;
        let mut found = if blobs.has(layout::INDEX) {
            layout::images(&blobs).with_context(told)?
        } else if blobs.has(docker::MANIFEST) {
            docker::images(&blobs).with_context(told)?
        } else {
            bail!(
                "load {source}: no image: there is neither index.json (OCI image layout) nor manifest.json (docker \
                 save). A root file system is imported: flatpod image import NAME {source} --cmd COMMAND"
            );
        };
        call(&mut found, tag).with_context(told)?;
        let mut loaded = vec![];
        for image in found {
            loaded.extend(self.take(&blobs, &image).with_context(told)?);
        }
        Ok(loaded)
    }

    /// Unpacks an image, and keeps it under its names.
    pub(super) fn take(&self, blobs: &Blobs, found: &Found) -> Result<Vec<Image>> {
        let read: ImageConfiguration = json(&found.config, "the image's configuration")?;
        let mut layers = vec![];
        for (file, id) in found.layers()? {
            let told = || format!("layer {id}");
            // One that is here need not come again.
            if let Some(known) = self.layers.known(&id)?.filter(|_| !blobs.has(&file.name)) {
                layers.push(known);
                continue;
            }
            let expected = Expected { blob: file.digest.as_ref(), diff_id: Some(&id) };
            layers.push(
                blobs
                    .read(&file.name)
                    .and_then(|bytes| self.layers.add(bytes, &expected))
                    .with_context(told)?,
            );
        }
        let config: RunConfig = json(&found.config, "the image's configuration")?;
        let created = read.created().as_ref().and_then(|time| time.parse().ok());
        let parts = Parts {
            id: Digest::of(&found.config),
            layers,
            config: config.config.unwrap_or_default(),
            created,
        };
        found.names.iter().map(|name| self.keep(name, &found.digests, &parts)).collect()
    }

    /// Keeps an image under a name.
    pub(super) fn keep(&self, name: &Reference, digests: &[Digest], parts: &Parts) -> Result<Image> {
        // What an archive says of its digests stays known when another one of the same image does not.
        let known = self.find(&name.to_string()).ok().filter(|known| known.id == parts.id);
        let mut digests = digests.to_vec();
        digests.extend(known.into_iter().flat_map(|known| known.digests));
        digests.sort();
        digests.dedup();
        let image = Image {
            reference: name.clone(),
            id: parts.id.clone(),
            digests,
            lower: self.lower(&parts.layers)?,
            layers: parts.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            config: parts.config.clone(),
            created: parts.created,
            size: Some(parts.layers.iter().map(|layer| layer.size).sum()),
            host_dirs: vec![],
        };
        self.put(&image)?;
        Ok(image)
    }

    /// The directories of layers, uppermost first, as overlayfs takes them.
    fn lower(&self, layers: &[Layer]) -> Result<Vec<std::path::PathBuf>> {
        let mut lower = vec![];
        for layer in layers.iter().rev() {
            let files = self.layers.files(&layer.diff_id);
            // Overlayfs takes no directory twice; what is below its first place is hidden by that anyway.
            if !lower.contains(&files) {
                lower.push(files);
            }
            if layer.opaque {
                break;
            }
        }
        if lower.is_empty() {
            let empty = self.layers.add(Box::new(std::io::empty()), &Expected::default())?;
            lower.push(self.layers.files(&empty.diff_id));
        }
        Ok(lower)
    }
}

/// What an image is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) id: Digest,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
    pub(super) config: ImageConfig,
    pub(super) created: Option<Timestamp>,
}

/// The part of a configuration that says how to run the image.
#[derive(Debug, serde::Deserialize)]
struct RunConfig {
    config: Option<ImageConfig>,
}

/// Gives every image a name.
fn call(found: &mut [Found], tag: Option<&Reference>) -> Result<()> {
    match (found, tag) {
        ([one], Some(tag)) => one.names = vec![tag.clone()],
        (all, Some(_)) => bail!("--tag names one image, and there are {}", all.len()),
        (all, None) => {
            if let Some(nameless) = all.iter().find(|image| image.names.is_empty()) {
                bail!("image {} has no name there: say --tag NAME", Digest::of(&nameless.config));
            }
        }
    }
    Ok(())
}
