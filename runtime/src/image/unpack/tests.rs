//! Archives that are as they should be, and archives that would do harm.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use rustix::fs::lgetxattr;
use tar::{Builder, Header};

use super::*;
use crate::image::tree::OPAQUE;

/// An archive that is made entry by entry. Names go into it as they are.
struct Made(Builder<Vec<u8>>);

impl Made {
    fn new() -> Self {
        Self(Builder::new(vec![]))
    }

    fn entry(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Self {
        let mut header = header(kind, name, data);
        header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, name, "", data.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"")
    }

    /// The next entry has this attribute.
    fn attribute(self, name: &str, value: &[u8]) -> Self {
        self.extension(&format!("SCHILY.xattr.{name}"), value)
    }

    fn extension(mut self, key: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(key, value)]).unwrap();
        self
    }

    fn unpack(self, to: &Path) -> Result<Unpacked> {
        unpack(&self.0.into_inner().unwrap()[..], to)
    }

    /// Unpacks beside a directory that nothing may be written to, and answers what was said.
    fn refused(self) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "ours").unwrap();
        let told = format!("{:#}", self.unpack(&root).unwrap_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{told}");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "ours", "{told}");
        assert_eq!(fs::metadata(outside.join("file")).unwrap().nlink(), 1, "{told}");
        told
    }
}

fn header(kind: EntryType, name: &str, data: &[u8]) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(data.len() as u64);
    header.set_mode(0o755);
    header.set_uid(1000);
    header.set_gid(2000);
    header.set_mtime(1_000_000_000);
    header
}

fn good(archive: Made) -> (tempfile::TempDir, Unpacked) {
    let dir = tempfile::tempdir().unwrap();
    let done = archive.unpack(dir.path()).unwrap();
    (dir, done)
}

#[test]
fn entries_become_what_they_were() {
    let (dir, done) = good(
        Made::new()
            .dir("./")
            .dir("a/")
            .file("a/file", "content")
            .hard_link("a/again", "a/file")
            .symlink("a/link", "/etc/passwd")
            .entry(EntryType::Fifo, "pipe", "", b"")
            .file("not/listed/file", "x"),
    );
    let at = |name: &str| dir.path().join(name);
    let file = fs::metadata(at("a/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 2000, 0o755));
    assert_eq!((file.mtime(), file.nlink()), (1_000_000_000, 2));
    assert_eq!(file.ino(), fs::metadata(at("a/again")).unwrap().ino());
    assert_eq!(fs::read_link(at("a/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::symlink_metadata(at("a/link")).unwrap().uid(), 1000);
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(at("a")).unwrap().mtime(), 1_000_000_000, "also with files made in it later");
    let implied = fs::metadata(at("not/listed")).unwrap();
    assert_eq!((implied.uid(), implied.mode() & 0o7777), (0, 0o755));
    assert_eq!(done.size, 8);
    assert!(!done.opaque);
}

#[test]
fn special_modes_and_attributes_survive_a_new_owner() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut archive = Made::new().attribute("security.capability", &capability).file("ping", "x");
    let mut setuid = header(EntryType::Regular, "su", b"x");
    setuid.set_mode(0o4755);
    setuid.set_cksum();
    archive.0.append(&setuid, &b"x"[..]).unwrap();
    let (dir, _) = good(archive.attribute("security.selinux", b"label").file("label", ""));
    let su = fs::metadata(dir.path().join("su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid()), (0o4755, 1000));
    let mut value = [0; 64];
    let bytes = lgetxattr(dir.path().join("ping"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..bytes], capability);
}

#[test]
fn removals_are_written_as_overlayfs_reads_them() {
    let opaque = |path: PathBuf| lgetxattr(path, OPAQUE, &mut [0; 8]).is_ok();
    let (dir, done) = good(
        Made::new()
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/stays", "x")
            .file("c/stays", "x")
            .file(".wh.c", "")
            .file(".wh.d", "")
            .dir("d")
            .file("d/new", "x")
            .file("e", "x")
            .file(".wh.e", "")
            .file(".wh..wh.plnk", ""),
    );
    let at = |name: &str| dir.path().join(name);
    let gone = fs::symlink_metadata(at("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(opaque(at("b")) && at("b/stays").exists());
    assert!(opaque(at("c")) && at("c/stays").exists(), "what the same layer adds stays");
    assert!(opaque(at("d")) && at("d/new").exists(), "what was removed does not shine through");
    assert_eq!(fs::read_to_string(at("e")).unwrap(), "x");
    assert!(!opaque(at("a")) && !at(".wh..wh.plnk").exists() && !done.opaque);
    let (_, done) = good(Made::new().file(".wh..wh..opq", ""));
    assert!(done.opaque);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (dir, _) = good(
        Made::new()
            .file("a", "1")
            .file("a", "2")
            .dir("b")
            .file("b/file", "1")
            .symlink("b", "a")
            .symlink("c", "a")
            .dir("c")
            .dir("real")
            .symlink("way", "real")
            .file("way/file", "through a link inside"),
    );
    let at = |name: &str| dir.path().join(name);
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "2");
    assert!(at("b").is_symlink() && at("c").is_dir() && !at("c").is_symlink());
    assert!(at("real/file").exists() && at("way").is_symlink());
}

#[test]
fn nothing_outside_is_touched_and_the_path_is_named() {
    let outside = "../outside";
    for (archive, path, why) in [
        (Made::new().file("../outside/new", "x"), "../outside/new", "leads out"),
        (Made::new().file("a/../../outside/new", "x"), "a/../../outside/new", "leads out"),
        (Made::new().file("/etc/new", "x"), "/etc/new", "leads out"),
        (Made::new().symlink("out", outside).file("out/new", "x"), "out/new", "link on the way leads out"),
        (
            Made::new().symlink("out", "/").file("out/tmp/new", "x"),
            "out/tmp/new",
            "link on the way leads out",
        ),
        (Made::new().symlink("out", outside).dir("out/new"), "out/new", "leads out"),
        (Made::new().symlink("out", outside).file("out/.wh.file", ""), "out/.wh.file", "leads out"),
        (
            Made::new().symlink("out", outside).file("out/.wh..wh..opq", "leads out"),
            "out/.wh..wh..opq",
            "leads out",
        ),
        (Made::new().hard_link("new", "../outside/file"), "new", "hard link to \"../outside/file\""),
        (
            Made::new().symlink("out", outside).hard_link("new", "out/file"),
            "new",
            "hard link to \"out/file\"",
        ),
        (Made::new().file(".wh...", ""), ".wh...", "removes nothing"),
        (Made::new().file(".wh..", ""), ".wh..", "removes nothing"),
        (Made::new().symlink("", "x"), "", "the root of an image"),
        (Made::new().hard_link("new", "absent"), "new", "hard link to \"absent\""),
        (Made::new().entry(EntryType::new(b'V'), "v", "", b""), "v", "type 'V'"),
        (Made::new().attribute("trusted.overlay.redirect", b"/").dir("d"), "d", "trusted.overlay.redirect"),
        (Made::new().extension("GNU.sparse.major", b"1").file("holes", "0\n"), "holes", "without --sparse"),
    ] {
        let told = archive.refused();
        assert!(told.contains(&format!("path {path:?}")) && told.contains(why), "{path}: {told}");
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::write(&outside, "ours").unwrap();
    let archive = Made::new().symlink("file", "../outside").file("file", "theirs");
    archive.symlink("dir", "/").file("dir", "x").unpack(&root).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "ours");
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "theirs");
}

#[test]
fn an_archive_that_is_cut_off_is_an_error() {
    let whole = Made::new().file("a", &"x".repeat(2000)).0.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(unpack(&whole[..1500], dir.path()).is_err());
    assert!(unpack(&b"no archive at all".repeat(100)[..], dir.path()).is_err());
}

#[test]
fn what_is_packed_again_unpacks_to_the_same() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("{}/{}", "d".repeat(90), "e".repeat(90));
    let (dir, _) = good(
        Made::new()
            .dir("a")
            .file("a/file", "content")
            .hard_link("a/again", "a/file")
            .symlink("a/link", "/etc/passwd")
            .entry(EntryType::Fifo, "pipe", "", b"")
            .attribute("security.capability", &capability)
            .file("ping", "x")
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/c", "x"),
    );
    fs::create_dir_all(dir.path().join(&long)).unwrap();
    let packed = crate::image::pack::pack(dir.path(), vec![]).unwrap();
    let again = tempfile::tempdir().unwrap();
    assert_eq!(unpack(&packed[..], again.path()).unwrap().size, 9);
    let seen = |root: &Path| {
        let all = ["a", "a/file", "a/again", "a/link", "a/gone", "pipe", "ping", "b", "b/c", &long];
        all.map(|name| {
            let at = root.join(name);
            let meta = fs::symlink_metadata(&at).unwrap();
            let mut capability = [0; 32];
            let bytes = lgetxattr(&at, "security.capability", &mut capability).unwrap_or(0);
            let opaque = lgetxattr(&at, OPAQUE, &mut [0; 8]).is_ok();
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            let owner = (meta.uid(), meta.gid(), meta.mtime());
            (meta.mode(), links, meta.rdev(), owner, capability[..bytes].to_vec(), opaque)
        })
    };
    assert_eq!(seen(dir.path()), seen(again.path()));
    assert_eq!(crate::image::pack::pack(again.path(), vec![]).unwrap(), packed);
}
