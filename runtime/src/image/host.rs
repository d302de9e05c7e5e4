//! The image with the programs of this machine: its `/usr`, which nobody can write to, below an `/etc` made for the
//! purpose. What is the machine's own affair is not in it: no passwords, keys, homes, settings of services. It is
//! no image to rely on elsewhere, and only for who names it.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Digest, HOST, Image, ImageConfig, layers::Layers};

/// What has to be a link into `/usr`, where it is there.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Directories that programs expect.
const DIRS: [&str; 11] =
    ["dev", "etc/ssl", "home", "mnt", "proc", "root", "run", "srv", "sys", "usr", "var/lib"];
/// Directories that anybody may write to.
const SHARED: [&str; 2] = ["tmp", "var/tmp"];
/// What programs in `/usr` need of `/etc` to run and to check certificates: no secrets, nothing of this machine's own.
const SETTINGS: [&str; 9] = [
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "os-release",
    "protocols",
    "services",
    "ssl/certs",
];
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";
/// Deeper than any directory of settings is.
const DEPTH: usize = 4;

/// The image, made now when it is not there yet, and anew when the settings have changed.
pub(super) fn image(layers: &Layers) -> Result<Image> {
    let machine = Path::new("/");
    let links = links(machine)?;
    let name = format!("host-{}", state(machine).short());
    let rootfs =
        layers.built(&name, |root| build(machine, root, &links).with_context(|| format!("build {HOST}")))?;
    let config = ImageConfig {
        cmd: vec!["/bin/sh".to_owned()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        working_dir: "/".to_owned(),
        ..ImageConfig::default()
    };
    let image = Image::of_directory(HOST.parse()?, rootfs, config)?;
    Ok(Image { host_dirs: vec![PathBuf::from("/usr")], ..image })
}

/// The machine's links into `/usr`.
fn links(machine: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut links = vec![];
    for name in MERGED {
        let at = machine.join(name);
        if at.symlink_metadata().is_err() {
            continue;
        }
        match fs::read_link(&at) {
            Ok(target) if target.strip_prefix("/").unwrap_or(&target).starts_with("usr") => {
                links.push((name, target));
            }
            _ => bail!("{HOST} needs a machine whose {} is a link into /usr", at.display()),
        }
    }
    Ok(links)
}

/// Changes when something that is copied does.
fn state(machine: &Path) -> Digest {
    let stamp = |name: &&str| {
        let meta = fs::metadata(machine.join("etc").join(name)).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
    };
    let stamps: Vec<_> = SETTINGS.iter().map(stamp).collect();
    Digest::of(format!("{stamps:?}").as_bytes())
}

fn build(machine: &Path, root: &Path, links: &[(&str, PathBuf)]) -> Result<()> {
    for dir in DIRS.iter().chain(&SHARED) {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("create /{dir}"))?;
    }
    for dir in SHARED {
        // Anybody may write, only the owner may remove.
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o1777)).context("open /tmp")?;
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700)).context("close /root")?;
    for (name, target) in links {
        symlink(target, root.join(name)).with_context(|| format!("link /{name}"))?;
    }
    symlink("/run", root.join("var/run")).context("link /var/run")?;
    let etc = root.join("etc");
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH)] {
        fs::write(etc.join(name), text).with_context(|| format!("write /etc/{name}"))?;
    }
    for name in SETTINGS {
        let told = || format!("copy /etc/{name}");
        copy(&machine.join("etc").join(name), &etc.join(name), DEPTH).with_context(told)?;
    }
    Ok(())
}

/// Copies links as they are, and files that all of the machine's users may read.
fn copy(from: &Path, to: &Path, depth: usize) -> Result<()> {
    let Ok(meta) = from.symlink_metadata() else { return Ok(()) };
    let for_all = |bits: u32| meta.mode() & bits == bits;
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to).with_context(|| format!("link {}", to.display()));
    }
    if meta.is_file() && for_all(0o004) {
        fs::copy(from, to).with_context(|| format!("write {}", to.display()))?;
    }
    if meta.is_dir() && for_all(0o005) && depth > 0 {
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()), depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these links to `usr` and these files.
    fn machine(links: &[&str], files: &[(&str, u32)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in links {
            symlink(format!("usr/{name}"), dir.path().join(name)).unwrap();
        }
        for (name, mode) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, name).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
        }
        dir
    }

    #[test]
    fn nothing_of_the_machines_own_is_in_it() {
        let files = [
            ("etc/shadow", 0o640),
            ("etc/passwd", 0o644),
            ("etc/hosts", 0o644),
            ("etc/ssl/private/key", 0o644),
            ("etc/ssl/certs/ca.pem", 0o644),
            ("etc/ssl/certs/mine.pem", 0o600),
            ("etc/services", 0o644),
            ("root/key", 0o644),
            ("home/me/file", 0o644),
        ];
        let (from, to) = (machine(&["bin", "lib64"], &files), tempfile::tempdir().unwrap());
        let links = links(from.path()).unwrap();
        assert_eq!(links, [("bin", "usr/bin".into()), ("lib64", "usr/lib64".into())]);
        build(from.path(), to.path(), &links).unwrap();
        let has = |name: &str| to.path().join(name).exists();
        let copied = files.map(|(name, _)| has(name));
        assert_eq!(copied, [false, true, false, false, true, false, true, false, false]);
        assert_eq!(fs::read_to_string(to.path().join("etc/passwd")).unwrap(), PASSWD);
        assert_eq!(fs::read_link(to.path().join("bin")).unwrap(), Path::new("usr/bin"));
    }

    #[test]
    fn a_machine_with_programs_outside_usr_has_no_such_image() {
        let from = machine(&[], &[("bin/sh", 0o755)]);
        assert!(links(from.path()).unwrap_err().to_string().contains("/bin is a link into /usr"));
    }

    #[test]
    fn a_change_of_settings_is_seen() {
        let from = machine(&[], &[("etc/services", 0o644)]);
        let before = state(from.path());
        assert_eq!(state(from.path()), before);
        fs::write(from.path().join("etc/services"), "more than before").unwrap();
        assert_ne!(state(from.path()), before);
    }
}
