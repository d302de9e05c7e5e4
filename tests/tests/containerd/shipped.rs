//! The image that `deploy/image/build` makes, imported and run by containerd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flatnet_tests::containerd::Containerd;
use flatnet_tests::{program, tool};
use sha2::{Digest as _, Sha256};

use crate::DUAL;

const NAME: &str = "flatnet.test/flatnet:1";

/// The programs under test, without their symbols.
fn programs(folder: &Path) {
    for name in ["flatnet", "flatnetd"] {
        let copy = folder.join(name);
        fs::copy(program(name), &copy).unwrap();
        tool("strip", &[copy.to_str().unwrap()]);
    }
}

/// Builds an image of what is in `folder`.
fn build(folder: &Path, output: &str, umask: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image/build");
    let words = format!(
        "umask {umask}; cd {}; exec {} --bin-dir . --output {output} --name {NAME}",
        folder.display(),
        script.display()
    );
    tool("sh", &["-c", &words]);
    folder.join(output)
}

#[test]
fn the_image_is_reproducible_and_installs_the_plugin() {
    let containerd = Containerd::start(&DUAL);
    let (host_bin, host_conf) = (containerd.folder("host-bin"), containerd.folder("host-net.d"));
    let images = containerd.folder("images");
    programs(&images);
    let archive = build(&images, "one.tar", "022");
    let again = build(&images, "two.tar", "077");
    let digest = |path: &Path| Sha256::digest(fs::read(path).unwrap());
    assert_eq!(digest(&archive), digest(&again), "the same programs, the same archive");
    let archive = archive.to_str().unwrap();
    containerd.ctr(&["images", "import", "--snapshotter", "native", archive]).unwrap();
    let listed = containerd.ctr(&["images", "list", "--quiet"]).unwrap();
    assert!(listed.lines().any(|line| line == NAME), "{listed}");
    let run = |id: &str, args: &[&str]| {
        let mount =
            |from: &Path, to: &str| format!("type=bind,src={},dst={to},options=rbind:rw", from.display());
        let (bin, conf) = (mount(&host_bin, "/host/bin"), mount(&host_conf, "/host/net.d"));
        let cgroup = containerd.cgroup(id);
        let options = ["run", "--rm", "--snapshotter", "native", "--cgroup", &cgroup];
        let mounts = ["--mount", &bin, "--mount", &conf, NAME, id];
        containerd.ctr(&[&options[..], &mounts, args].concat())
    };
    let version = run("version", &["/bin/flatnetd", "--version"]).unwrap();
    assert_eq!(version.trim(), concat!("flatnetd ", env!("CARGO_PKG_VERSION")));
    // As the init container of a node does; the agent's container writes the configuration.
    let said =
        run("init", &["/bin/flatnetd", "install", "--bin-dir", "/host/bin", "--binaries-only"]).unwrap();
    assert!(said.contains("installed /host/bin/flatnet"), "{said}");
    let installed = fs::read(host_bin.join("flatnet")).unwrap();
    assert!(installed == fs::read(images.join("flatnet")).unwrap(), "the very plugin");
    assert_eq!(fs::metadata(host_bin.join("loopback")).unwrap().permissions().mode() & 0o777, 0o755);
    let places = ["--bin-dir", "/host/bin", "--conf-dir", "/host/net.d"];
    let words = [&["/bin/flatnetd", "install"][..], &places, &["--subnets", "10.22.0.0/24"]].concat();
    let said = run("whole", &words).unwrap();
    assert!(said.contains("unchanged /host/bin/flatnet"), "{said}");
    assert!(host_conf.join("10-flatnet.conflist").exists());
    // Without a snapshot nothing is shown, and the container fails with the reason.
    fs::remove_file(host_conf.join("10-flatnet.conflist")).unwrap();
    let words = [&["/bin/flatnetd", "install"][..], &places].concat();
    assert!(run("early", &words).is_err());
    assert!(!host_conf.join("10-flatnet.conflist").exists());
    let words = [&["/bin/flatnetd", "uninstall"][..], &places].concat();
    run("uninstall", &words).unwrap();
    assert_eq!(fs::read_dir(&host_bin).unwrap().count(), 0);
}
