//! Images: a read-only file tree and how to run what is in it. From local files only.

mod store;
mod tools;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(crate) use store::{MissingImage, Store};

/// The image that is always there, made of flatpod itself.
pub(crate) const TOOLS: &str = "builtin/tools:v1";

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
    pub(crate) user: String,
    pub(crate) working_dir: String,
    pub(crate) stop_signal: Option<String>,
}

/// An image that can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Image {
    pub(crate) reference: String,
    /// Its directories, uppermost first, as overlayfs takes them.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) config: ImageConfig,
}

/// Images have `null` where there is nothing.
fn or_default<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
