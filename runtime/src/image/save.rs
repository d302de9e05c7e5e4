//! From an image of the store to an archive as `docker save` writes it.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tar::{Builder, Header};

use super::{
    Image, Store,
    digest::{Digest, Hashed},
    docker::MANIFEST,
    pack::pack,
    platform,
};

/// A file of the archive: its name, how long it is, and its bytes.
type Part = (String, u64, File);

impl Store {
    /// Writes an image. Layers are packed anew, so it is the same image under another id.
    pub(crate) fn save(&self, image: &Image, to: impl Write) -> Result<()> {
        let told = || format!("save {}", image.reference);
        if !image.host_dirs.is_empty() {
            bail!("{}: most of it is this machine's own, and in no image", told());
        }
        let _nothing_is_swept = self.layers.loading()?;
        let mut tar = Builder::new(to);
        let (mut names, mut ids) = (vec![], vec![]);
        for dir in image.lower.iter().rev() {
            let (id, part) = self.packed(dir).with_context(told)?;
            names.push(part.0.clone());
            ids.push(id);
            append(&mut tar, &part.0, part.1, part.2).with_context(told)?;
        }
        let platform = platform::own();
        let (os, arch) = platform.split_once('/').unwrap_or_default();
        let config = json!({ "architecture": arch, "os": os, "created": image.created, "config": image.config,
            "rootfs": { "type": "layers", "diff_ids": ids } });
        let config = config.to_string();
        let file = format!("{}.json", Digest::of(config.as_bytes()).hex());
        let manifest =
            json!([{ "Config": file, "RepoTags": [image.reference], "Layers": names }]).to_string();
        for (name, text) in [(file.as_str(), &config), (MANIFEST, &manifest)] {
            append(&mut tar, name, text.len() as u64, text.as_bytes()).with_context(told)?;
        }
        tar.into_inner().and_then(|mut to| to.flush()).with_context(told)
    }

    /// Packs a layer into a file without a name.
    fn packed(&self, dir: &Path) -> Result<(Digest, Part)> {
        let scratch = self.layers.scratch()?;
        let file = tempfile::tempfile_in(scratch).context("make a file to pack to")?;
        let mut file = pack(dir, io::BufWriter::new(file))?.into_inner().context("write the layer")?;
        let size = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        let id = Hashed::new(&file).finish()?;
        file.seek(SeekFrom::Start(0))?;
        Ok((id.clone(), (format!("{}/layer.tar", id.hex()), size, file)))
    }
}

fn append(tar: &mut Builder<impl Write>, name: &str, size: u64, data: impl io::Read) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o444);
    Ok(tar.append_data(&mut header, name, data)?)
}
