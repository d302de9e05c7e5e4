//! Images: a read-only file tree and how to run what is in it. From local files and, with the feature `registry`,
//! from registries.

mod blobs;
mod compression;
mod digest;
mod docker;
mod files;
mod host;
mod layers;
mod layout;
mod load;
mod pack;
mod platform;
mod reference;
#[cfg(feature = "registry")]
mod registry;
mod save;
mod store;
mod tools;
mod tree;
mod unpack;
mod users;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(crate) use blobs::Source;
pub(crate) use digest::Digest;
pub(crate) use files::read as read_file;
pub(crate) use reference::Reference;
#[cfg(feature = "registry")]
pub(crate) use registry::{Access, Keys};
pub(crate) use store::{ImageError, Store};
pub(crate) use tree::{OPAQUE, look_up, make_dirs};
pub(crate) use users::{mounted, pods_with};

/// The image that is always there, made of flatpod itself.
pub(crate) const TOOLS: &str = "builtin/tools:v1";
/// The image with the programs of this machine.
pub(crate) const HOST: &str = "builtin/host:v1";

/// How to run an image, in the words of the OCI image specification (`config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageConfig {
    #[serde(deserialize_with = "or_default")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) working_dir: String,
    pub(crate) stop_signal: Option<String>,
}

/// An image that can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Image {
    pub(crate) reference: Reference,
    /// The same for every name that it has.
    pub(crate) id: Digest,
    /// What its manifest is called by; a name may ask for one of them.
    pub(crate) digests: Vec<Digest>,
    /// Its directories, uppermost first, as overlayfs takes them.
    pub(crate) lower: Vec<PathBuf>,
    /// The layers that it was loaded from, lowest first; none when its files are not the store's.
    pub(crate) layers: Vec<Digest>,
    pub(crate) config: ImageConfig,
    pub(crate) created: Option<Timestamp>,
    /// The sum of its files' sizes, where it is known.
    pub(crate) size: Option<u64>,
    /// Directories of this machine that containers see at the same place, and cannot write to.
    pub(crate) host_dirs: Vec<PathBuf>,
}

impl Image {
    /// An image that is a directory and not made of layers. Its id is made of its path.
    fn of_directory(reference: Reference, dir: PathBuf, config: ImageConfig) -> anyhow::Result<Self> {
        Ok(Self {
            reference,
            id: store::id(&config, &dir.to_string_lossy())?,
            digests: vec![],
            lower: vec![dir],
            layers: vec![],
            config,
            created: None,
            size: None,
            host_dirs: vec![],
        })
    }

    /// Whether a name means this image.
    pub(crate) fn is(&self, name: &Reference) -> bool {
        let same_name = self.reference.repository() == name.repository();
        same_name
            && match name.digest() {
                Some(digest) => self.digests.contains(digest),
                None => self.reference.tag() == name.tag(),
            }
    }
}

/// Images have `null` where there is nothing.
fn or_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
