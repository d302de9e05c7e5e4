//! Images as the OCI image layout has them: `oci-layout`, `index.json` and `blobs/sha256/…`.

use anyhow::{Context, Result, bail};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::{
    blobs::{Blobs, json},
    digest::Digest,
    layers::BLOBS,
    load::{Found, LayerFile},
    platform,
    reference::Reference,
};

pub(super) const INDEX: &str = "index.json";
/// How containerd and Docker name an image in full.
const FULL_NAME: &str = "io.containerd.image.name";
/// How the specification does; often that is only a tag.
const NAME: &str = "org.opencontainers.image.ref.name";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Indexes may name indexes.
const DEPTH: usize = 4;

/// Where the documents about an image are.
pub(super) trait Documents {
    /// The manifest or index of this digest.
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>>;

    /// The configuration of this digest.
    fn config(&self, digest: &Digest) -> Result<Vec<u8>>;
}

/// A layout has all of them in one place.
impl Documents for Blobs {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.verified(&blob(digest), digest)
    }

    fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.verified(&blob(digest), digest)
    }
}

/// The images of a layout that this machine can run.
pub(super) fn images(blobs: &Blobs) -> Result<Vec<Found>> {
    let index: ImageIndex = json(&blobs.document(INDEX)?, INDEX)?;
    let mut search = Search::new(blobs);
    let mut found: Vec<Found> = vec![];
    for entry in index.manifests() {
        let Some(mut image) = search.image(entry, DEPTH)? else { continue };
        image.names.extend(name(entry)?);
        match found.iter_mut().find(|known| known.config == image.config) {
            Some(known) => {
                known.names.extend(image.names);
                known.digests.extend(image.digests);
            }
            None => found.push(image),
        }
    }
    if found.is_empty() {
        bail!(search.nothing());
    }
    Ok(found)
}

/// The image that a manifest or an index leads to. It has no name yet.
#[cfg(feature = "registry")]
pub(super) fn image(documents: &dyn Documents, entry: &Descriptor) -> Result<Found> {
    let mut search = Search::new(documents);
    let found = search.image(entry, DEPTH)?;
    found.with_context(|| search.nothing())
}

/// The name that an index gives one of its entries.
fn name(entry: &Descriptor) -> Result<Option<Reference>> {
    let notes = entry.annotations().as_ref();
    let full = notes.and_then(|notes| notes.get(FULL_NAME));
    // Without a slash or a colon it is a tag, and the name that it belongs to is not told.
    let short = notes.and_then(|notes| notes.get(NAME)).filter(|name| name.contains(['/', ':']));
    let name = full.or(short).map(|name| name.parse());
    name.transpose().with_context(|| format!("the name of {}", entry.digest()))
}

struct Search<'a> {
    documents: &'a dyn Documents,
    own: String,
    /// Platforms of images that were passed over.
    others: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(documents: &'a dyn Documents) -> Self {
        Self { documents, own: platform::own(), others: vec![] }
    }

    /// That there is no image for this machine.
    fn nothing(&self) -> String {
        let others = self.others.join(", ");
        format!("no image for {}: it has {}", self.own, if others.is_empty() { "none" } else { &others })
    }

    /// The image that a descriptor leads to; `None` when it is none for this machine.
    fn image(&mut self, entry: &Descriptor, depth: usize) -> Result<Option<Found>> {
        if let Some(other) = entry.platform().as_ref().map(platform::of).filter(|name| *name != self.own) {
            self.others.push(other);
            return Ok(None);
        }
        let digest = digest(entry)?;
        let found = match entry.media_type() {
            MediaType::ImageIndex => self.index(&digest, depth)?,
            MediaType::Other(kind) if kind == DOCKER_LIST => self.index(&digest, depth)?,
            MediaType::ImageManifest => self.manifest(&digest)?,
            MediaType::Other(kind) if kind == DOCKER_MANIFEST => self.manifest(&digest)?,
            _ => None,
        };
        Ok(found.map(|mut image| {
            image.digests.push(digest);
            image
        }))
    }

    fn index(&mut self, digest: &Digest, depth: usize) -> Result<Option<Found>> {
        let Some(depth) = depth.checked_sub(1) else {
            bail!("index {digest} is below too many others");
        };
        let index: ImageIndex = json(&self.documents.manifest(digest)?, &blob(digest))?;
        for entry in index.manifests() {
            if let Some(found) = self.image(entry, depth)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn manifest(&mut self, of: &Digest) -> Result<Option<Found>> {
        let manifest: ImageManifest = json(&self.documents.manifest(of)?, &blob(of))?;
        let config_digest = digest(manifest.config())?;
        let config = self.documents.config(&config_digest)?;
        let read: ImageConfiguration = json(&config, &blob(&config_digest))?;
        let own = platform::name(read.os(), read.architecture());
        if own != self.own {
            self.others.push(own);
            return Ok(None);
        }
        let layer = |entry: &Descriptor| -> Result<LayerFile> {
            let digest = digest(entry)?;
            Ok(LayerFile { name: blob(&digest), digest: Some(digest), size: Some(entry.size()) })
        };
        let layers = manifest.layers().iter().map(layer).collect::<Result<_>>()?;
        Ok(Some(Found { names: vec![], digests: vec![], config, layers }))
    }
}

fn digest(entry: &Descriptor) -> Result<Digest> {
    entry.digest().to_string().parse()
}

fn blob(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}
