//! Images as `docker save` writes them: `manifest.json`, which names a configuration and an archive per layer.

use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use super::{
    blobs::{Blobs, json},
    digest::Digest,
    load::{Found, LayerFile},
    platform,
};

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The images of such an archive.
pub(super) fn images(blobs: &Blobs) -> Result<Vec<Found>> {
    let entries: Vec<Entry> = json(&blobs.document(MANIFEST)?, MANIFEST)?;
    entries.iter().map(|entry| image(blobs, entry)).collect()
}

fn image(blobs: &Blobs, entry: &Entry) -> Result<Found> {
    // The file is called by its digest, where there is one to check.
    let stem = Path::new(&entry.config).file_stem().unwrap_or_default().to_string_lossy();
    let config = match format!("sha256:{stem}").parse::<Digest>() {
        Ok(digest) => blobs.verified(&entry.config, &digest)?,
        Err(_) => blobs.document(&entry.config)?,
    };
    let read: ImageConfiguration = json(&config, &entry.config)?;
    let (of, own) = (platform::name(read.os(), read.architecture()), platform::own());
    if of != own {
        bail!("the image is for {of}, and this machine is {own}");
    }
    let names = entry.repo_tags.iter().flatten().map(|name| name.parse());
    let names = names.collect::<Result<_, _>>().context("a name in RepoTags")?;
    let layer = |name: &String| LayerFile { name: name.clone(), digest: None, size: None };
    let layers = entry.layers.iter().map(layer).collect();
    Ok(Found { names, digests: vec![], config, layers })
}
