//! For which machines an image is.

use oci_spec::image::{Arch, Os, Platform};

/// What flatpod runs on, in Go's words, as images have them.
pub(super) fn own() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{arch}")
}

/// What an image is for.
pub(super) fn name(os: &Os, arch: &Arch) -> String {
    format!("{os}/{arch}")
}

/// What an entry of an index is for.
pub(super) fn of(platform: &Platform) -> String {
    name(platform.os(), platform.architecture())
}
