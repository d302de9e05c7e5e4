//! One image for everything, made here from the static busybox: no registry is asked.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::tool;

/// What containerd runs to hold a sandbox.
pub const PAUSE: &str = "flatnet.test/pause:1";
/// What containers are made of.
pub const BUSYBOX: &str = "flatnet.test/busybox:1";
/// What the web server in the image answers.
pub const PAGE: &str = "served from a container";

/// Makes an archive of both images, of the form that `docker save` writes.
///
/// # Panics
/// A file cannot be written, or there is no static busybox.
#[must_use]
pub fn archive(dir: &Path) -> PathBuf {
    let (files, image) = (dir.join("rootfs"), dir.join("image"));
    for folder in [&files.join("bin"), &files.join("www"), &image] {
        fs::create_dir_all(folder).expect("make a folder");
    }
    fs::copy("/bin/busybox", files.join("bin/busybox")).expect("copy the static busybox");
    fs::write(files.join("www/index.html"), PAGE).expect("write the page");
    let layer = image.join("layer.tar");
    tool("tar", &["-C", path(&files), "--owner=0", "--group=0", "-cf", path(&layer), "."]);
    let digest = Sha256::digest(fs::read(&layer).expect("read the layer"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": { "Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "86400"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    fs::write(image.join("config.json"), config.to_string()).expect("write the configuration");
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [PAUSE, BUSYBOX], "Layers": ["layer.tar"] }]);
    fs::write(image.join("manifest.json"), manifest.to_string()).expect("write the manifest");
    let archive = dir.join("image.tar");
    tool("tar", &["-C", path(&image), "-cf", path(&archive), "manifest.json", "config.json", "layer.tar"]);
    archive
}

/// The processor's name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
