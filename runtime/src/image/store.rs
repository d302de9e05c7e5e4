//! The local store: names of images, and where their files are.

use std::{collections::BTreeSet, fmt, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::{
    HOST, Image, ImageConfig, TOOLS,
    blobs::Source,
    digest::Digest,
    host,
    layers::{Expected, Layers},
    load::Parts,
    reference::{InvalidReference, Reference},
    tools,
};
use crate::state::{Lock, read_json, remove, write_json};

/// The least digits that an image's id is recognised by.
const SHORTEST_ID: usize = 6;

/// Why what is not in the store is nowhere.
const NOT_PULLED: &str = if cfg!(feature = "registry") {
    "and is not to be pulled: imagePullPolicy is Never, or the name is none of a registry's"
} else {
    "and nothing is pulled from registries"
};

/// Why an image cannot be used.
#[derive(Debug)]
pub(crate) enum ImageError {
    InvalidName(InvalidReference),
    /// With what may have been meant.
    Missing(String, Option<Reference>),
}

impl ImageError {
    /// Kubernetes' word for it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "InvalidImageName",
            Self::Missing(..) => "ErrImageNeverPull",
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(error) => error.fmt(f),
            Self::Missing(name, Some(meant)) => {
                write!(
                    f,
                    "image {name:?} is not in the local store, but {:?} is: name it in full",
                    meant.to_string()
                )
            }
            Self::Missing(name, None) => write!(
                f,
                "image {name:?} is not in the local store, {NOT_PULLED}. Load it: docker save {name} | flatpod image \
                 load - (or, from a root file system: flatpod image import {name} ROOTFS)"
            ),
        }
    }
}

impl std::error::Error for ImageError {}

/// The image store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) dir: PathBuf,
    pub(super) layers: Layers,
}

impl Store {
    /// The store in `dir`.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { layers: Layers::new(&dir), dir }
    }

    /// As long as this is held the files of images that were found stay. Not to be held for long.
    pub(crate) fn launching(&self) -> Result<Lock> {
        self.layers.launching()
    }

    /// The image of that name.
    pub(crate) fn find(&self, name: &str) -> Result<Image> {
        let reference: Reference = name.parse().map_err(ImageError::InvalidName)?;
        let found = match reference.to_string().as_str() {
            TOOLS => Some(tools::image(&self.layers)?),
            HOST => Some(host::image(&self.layers)?),
            _ if reference.digest().is_some() => self.stored()?.into_iter().find(|one| one.is(&reference)),
            _ => read_json(&self.file(&reference))?,
        };
        Ok(found.ok_or_else(|| ImageError::Missing(name.to_owned(), self.built_here(&reference)))?)
    }

    /// The image that `podman build` gives this name.
    fn built_here(&self, name: &Reference) -> Option<Reference> {
        let full: Reference = format!("localhost/{name}").parse().ok()?;
        self.file(&full).exists().then_some(full)
    }

    /// The images that a name, an id or the beginning of an id means.
    pub(crate) fn matching(&self, text: &str) -> Result<Vec<Image>> {
        match self.find(text) {
            Ok(image) => return Ok(vec![image]),
            Err(error) if error.downcast_ref::<ImageError>().is_none() => return Err(error),
            Err(_) => {}
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut found = if digits.len() < SHORTEST_ID { vec![] } else { self.all()? };
        found.retain(|image| image.id.hex().starts_with(digits));
        if found.is_empty() {
            bail!("no image {text:?}");
        }
        if found.iter().any(|image| Some(&image.id) != found.first().map(|first| &first.id)) {
            bail!("{text:?} means more than one image");
        }
        Ok(found)
    }

    /// Gives a root file system a name. A directory is used where it is and never written to; an archive is unpacked.
    pub(crate) fn import(&self, name: &Reference, source: &Source, config: ImageConfig) -> Result<Image> {
        let told = || format!("import {source}");
        let Some(dir) = source.directory() else {
            let _nothing_is_swept = self.layers.loading()?;
            let layer = source.open().and_then(|bytes| self.layers.add(bytes, &Expected::default()));
            let layers = vec![layer.with_context(told)?];
            let id = id(&config, &layers[0].diff_id.to_string())?;
            return self.keep(name, &[], &Parts { id, layers, config, created: Some(Timestamp::now()) });
        };
        let lower = dir.canonicalize().with_context(told)?;
        let image = Image::of_directory(name.clone(), lower, config)?;
        let image = Image { created: Some(Timestamp::now()), ..image };
        self.put(&image)?;
        Ok(image)
    }

    pub(super) fn put(&self, image: &Image) -> Result<()> {
        let name = &image.reference;
        if name.familiar().starts_with("builtin/") {
            bail!("{name} is a name of built-in images: choose another one");
        }
        if name.digest().is_some_and(|digest| !image.digests.contains(digest)) {
            bail!("{name} is the name of another image: a name to give is without digest");
        }
        fs::create_dir_all(self.refs()).with_context(|| format!("create {}", self.refs().display()))?;
        write_json(&self.file(name), image)
    }

    /// Every image there is, by name.
    pub(crate) fn all(&self) -> Result<Vec<Image>> {
        let mut images = vec![tools::image(&self.layers)?];
        // Where it cannot be made there is none to show; whoever names it is told why.
        images.extend(host::image(&self.layers).ok());
        images.extend(self.stored()?);
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Those that were loaded or imported.
    fn stored(&self) -> Result<Vec<Image>> {
        let files = fs::read_dir(self.refs()).into_iter().flatten().flatten().map(|entry| entry.path());
        let images = files.filter(|file| file.extension().is_some_and(|kind| kind == "json"));
        // One that is removed meanwhile is none.
        Ok(images.map(|file| read_json(&file)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Forgets the name of an image. Its files go when nobody uses them: see `sweep`.
    pub(crate) fn remove(&self, name: &Reference) -> Result<()> {
        remove(&self.file(name)).map(drop)
    }

    /// Removes layers of no image, but for those that containers use: `mounted` answers them.
    pub(crate) fn sweep(&self, mounted: impl FnOnce() -> Result<BTreeSet<PathBuf>>) -> Result<()> {
        self.layers.sweep(|| {
            let mut used = mounted()?;
            used.extend(self.stored()?.into_iter().flat_map(|image| image.lower));
            Ok(used)
        })
    }

    fn refs(&self) -> PathBuf {
        self.dir.join("refs")
    }

    fn file(&self, name: &Reference) -> PathBuf {
        // A percent sign is in no name, so no two make one file name.
        let name = match (name.tag(), name.digest()) {
            (None, Some(digest)) => format!("{}@{digest}", name.repository()),
            (tag, _) => format!("{}:{}", name.repository(), tag.unwrap_or_default()),
        };
        self.refs().join(format!("{}.json", name.replace('/', "%")))
    }
}

/// The id of an image that has no configuration of its own: made of what it is.
pub(super) fn id(config: &ImageConfig, files: &str) -> Result<Digest> {
    let text = serde_json::to_vec(&(config, files)).context("write a configuration")?;
    Ok(Digest::of(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        (dir, store)
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let (dir, store) = store();
        let told = store.find("nginx:1.27").unwrap_err();
        assert_eq!(told.downcast_ref::<ImageError>().unwrap().reason(), "ErrImageNeverPull");
        assert!(told.to_string().contains("docker save nginx:1.27 | flatpod image load -"), "{told}");
        let told = store.find("Nginx").unwrap_err();
        assert_eq!(told.downcast_ref::<ImageError>().unwrap().reason(), "InvalidImageName");
        let name: Reference = "nginx:1.27".parse().unwrap();
        let source = Source::Path(dir.path().to_owned());
        store.import(&name, &source, ImageConfig::default()).unwrap();
        assert_eq!(store.find("docker.io/library/nginx:1.27").unwrap().reference, name);
        store.remove(&name).unwrap();
        store.remove(&name).unwrap();
        store.import(&"localhost/nginx:1.27".parse().unwrap(), &source, ImageConfig::default()).unwrap();
        let told = store.find("nginx:1.27").unwrap_err();
        assert!(told.to_string().contains("\"localhost/nginx:1.27\" is: name it in full"), "{told}");
        assert!(store.find("nginx:1.27").is_err());
    }

    #[test]
    fn names_of_built_in_images_are_not_given() {
        let (dir, store) = store();
        let source = Source::Path(dir.path().to_owned());
        for name in ["builtin/tools:v1", "builtin/mine"] {
            let told = store.import(&name.parse().unwrap(), &source, ImageConfig::default()).unwrap_err();
            assert!(told.to_string().contains("built-in"), "{told}");
        }
    }
}
