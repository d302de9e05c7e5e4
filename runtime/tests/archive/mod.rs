//! Images as other tools write them, made here: layers, OCI image layouts, docker archives.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// What the image's programs are.
const APPLETS: [&str; 13] =
    ["wc", "sh", "cat", "ls", "sleep", "echo", "id", "env", "stat", "find", "touch", "readlink", "kill"];

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive that is made entry by entry; names go into it as they are.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(vec![]))
    }

    /// With a shell, and users.
    pub(crate) fn base() -> Self {
        let mut layer = Self::new().dir("bin").dir("etc").dir("proc").dir("dev").dir("sys").dir("tmp");
        let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
        layer = layer.file("bin/busybox", &busybox, 0o755);
        for name in APPLETS {
            layer = layer.link(EntryType::Symlink, &format!("bin/{name}"), "busybox");
        }
        layer.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nbird:x:1234:1235::/:/bin/sh\n", 0o644)
    }

    pub(crate) fn file(self, name: &str, data: &[u8], mode: u32) -> Self {
        self.entry(EntryType::Regular, (name, ""), data, mode)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, (name, ""), b"", 0o755)
    }

    pub(crate) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.entry(kind, (name, target), b"", 0o777)
    }

    fn entry(mut self, kind: EntryType, (name, target): (&str, &str), data: &[u8], mode: u32) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        let fields = header.as_ustar_mut().expect("a ustar header");
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        self.0.append(&header, data).expect("an entry");
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().expect("an archive")
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    to.write_all(bytes).expect("gzip");
    to.finish().expect("gzip")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// The name of the machine's architecture in images.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image's configuration.
pub(crate) fn config(run: &Value, layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|tar| digest(tar)).collect();
    let all = json!({ "architecture": arch(), "os": "linux", "created": "2024-02-03T04:05:06Z", "config": run,
        "rootfs": { "type": "layers", "diff_ids": ids } });
    all.to_string().into_bytes()
}

/// An OCI image layout that is being made.
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).expect("a directory");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        Self { dir, entries: vec![] }
    }

    /// Puts a blob there and answers its descriptor.
    pub(crate) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        fs::write(self.file(&digest(bytes)), bytes).expect("a blob");
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len() })
    }

    /// Where the blob with this digest is.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }

    /// A manifest of a configuration and of layers, each as it is and as it is kept.
    pub(crate) fn manifest(&self, config: &[u8], layers: &[&[u8]]) -> Value {
        let layers: Vec<_> = layers.iter().map(|bytes| self.blob("layer.v1.tar", bytes)).collect();
        let config = self.blob("config.v1+json", config);
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.blob("manifest.v1+json", manifest.to_string().as_bytes())
    }

    /// Puts an entry into the index, with this name.
    pub(crate) fn name(&mut self, mut entry: Value, name: &str) {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        self.entries.push(entry);
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        fs::write(self.dir.join("index.json"), index.to_string()).expect("the index");
    }

    /// All of it in an archive.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = Builder::new(vec![]);
        tar.append_dir_all(".", &self.dir).expect("an archive");
        tar.into_inner().expect("an archive")
    }
}

/// An image in a layout, of layers that are as they are.
pub(crate) fn layout(dir: &Path, name: &str, run: &Value, layers: &[&[u8]]) -> Layout {
    let mut layout = Layout::new(dir.to_owned());
    let manifest = layout.manifest(&config(run, layers), layers);
    layout.name(manifest, name);
    layout
}

/// What `docker save` writes.
pub(crate) fn docker_archive(name: &str, run: &Value, layers: &[&[u8]]) -> Vec<u8> {
    let config = config(run, layers);
    let of_config = format!("{}.json", hex(&config));
    let mut archive = Layer::new().file(&of_config, &config, 0o444);
    let mut names = vec![];
    for tar in layers {
        let (short, file) = (&hex(tar)[..12], format!("{}.tar", hex(tar)));
        names.push(format!("{short}/layer.tar"));
        archive = archive.file(&file, tar, 0o444);
        archive = archive.link(EntryType::Symlink, &format!("{short}/layer.tar"), &format!("../{file}"));
    }
    let manifest = json!([{ "Config": of_config, "RepoTags": [name], "Layers": names }]);
    archive.file("manifest.json", manifest.to_string().as_bytes(), 0o444).tar()
}
