//! The local store: names of images, and where their files are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Image, ImageConfig, TOOLS, tools};
use crate::state::{read_json, write_json};

/// No image of that name is here.
#[derive(Debug)]
pub(crate) struct MissingImage(String);

impl std::fmt::Display for MissingImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is not in the local store, and nothing is pulled from registries. Import it: flatpod image import {} \
             ROOTFS, or use {TOOLS}",
            self.0, self.0
        )
    }
}

impl std::error::Error for MissingImage {}

/// The image store.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in `dir`.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The image of that name.
    pub(crate) fn find(&self, reference: &str) -> Result<Image> {
        let reference = full_name(reference);
        if reference == TOOLS {
            return tools::image(&self.dir);
        }
        match read_json(&self.file(&reference))? {
            Some(image) => Ok(image),
            None => Err(MissingImage(reference).into()),
        }
    }

    /// Gives a directory with a root file system a name. The directory is used where it is and never written to.
    pub(crate) fn import(&self, reference: &str, rootfs: &Path, config: ImageConfig) -> Result<Image> {
        let reference = full_name(reference);
        if reference == TOOLS {
            bail!("{TOOLS} is built in; choose another name");
        }
        let at = || format!("import {}", rootfs.display());
        let lower = rootfs.canonicalize().with_context(at)?;
        if !lower.is_dir() {
            bail!("{} is no directory; unpack it first", rootfs.display());
        }
        if lower.to_string_lossy().contains([':', ',', '\\']) {
            bail!("{}: overlayfs takes no path with a colon, a comma or a backslash", rootfs.display());
        }
        let image = Image { reference: reference.clone(), lower: vec![lower], config };
        let file = self.file(&reference);
        let dir = file.parent().context("a file is in a directory")?;
        fs::create_dir_all(dir).with_context(at)?;
        write_json(&file, &image)?;
        Ok(image)
    }

    /// Every image there is, by name.
    pub(crate) fn all(&self) -> Result<Vec<Image>> {
        let mut images = vec![tools::image(&self.dir)?];
        for entry in fs::read_dir(self.refs()).into_iter().flatten().flatten() {
            images.extend(read_json(&entry.path())?);
        }
        images.sort_by(|a: &Image, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Forgets an image; answers whether there was one. Its files stay, they are not ours.
    pub(crate) fn remove(&self, reference: &str) -> Result<bool> {
        let file = self.file(&full_name(reference));
        match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).with_context(|| format!("remove {}", file.display())),
        }
    }

    fn refs(&self) -> PathBuf {
        self.dir.join("refs")
    }

    fn file(&self, reference: &str) -> PathBuf {
        // A percent sign is in no reference, so no two make one file name.
        self.refs().join(format!("{}.json", reference.replace('/', "%")))
    }
}

/// The name with its tag: `latest` when it has none.
fn full_name(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    let tagged = last.contains(':') || reference.contains('@');
    if tagged { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_tag_means_latest() {
        assert_eq!(full_name("nginx"), "nginx:latest");
        assert_eq!(full_name("localhost:5000/nginx"), "localhost:5000/nginx:latest");
        assert_eq!(full_name("a/b:v1"), "a/b:v1");
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        let told = store.find("nginx:1.27").unwrap_err();
        assert!(told.downcast_ref::<MissingImage>().is_some());
        assert!(told.to_string().contains("flatpod image import nginx:1.27"), "{told}");
        store.import("nginx:1.27", dir.path(), ImageConfig::default()).unwrap();
        assert_eq!(store.find("nginx:1.27").unwrap().reference, "nginx:1.27");
        assert!(store.remove("nginx:1.27").unwrap() && !store.remove("nginx:1.27").unwrap());
    }
}
