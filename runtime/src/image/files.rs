//! Files of an image, read without mounting it and without ever leaving it: its links are not ours to follow.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fgetxattr, fstat, openat};

use super::tree::{OPAQUE, is, is_whiteout, look_up};

/// A list of users is not longer.
const LONGEST: u64 = 1 << 20;

/// The text of the file at `path`, in the uppermost directory that has it.
pub(crate) fn read(lower: &[PathBuf], path: &str) -> Option<String> {
    for layer in lower {
        let root =
            openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let path = Path::new(path);
        if open(&root, path, OFlags::PATH).is_some_and(|at| fstat(at).is_ok_and(|stat| !is_whiteout(&stat))) {
            return text(&root, path);
        }
        if path.ancestors().any(|at| hides(&root, at)) {
            return None;
        }
    }
    None
}

/// Only a file is opened: to open a device may already do something.
fn text(root: impl AsFd, path: &Path) -> Option<String> {
    let stat = fstat(open(&root, path, OFlags::PATH)?).ok()?;
    if !is(&stat, FileType::RegularFile) {
        return None;
    }
    let mut bytes = vec![];
    File::from(open(&root, path, OFlags::RDONLY)?).take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Option<OwnedFd> {
    look_up(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS).ok()
}

/// Whether a layer says that lower ones have nothing there.
fn hides(root: impl AsFd, path: &Path) -> bool {
    if path == Path::new("") {
        return false;
    }
    let is_gone = |at: &OwnedFd| fstat(at).is_ok_and(|stat| is_whiteout(&stat));
    let is_opaque = |dir: OwnedFd| {
        let mut value = [0];
        fgetxattr(dir, OPAQUE, &mut value[..]).is_ok() && value == *b"y"
    };
    open(&root, path, OFlags::PATH | OFlags::NOFOLLOW).is_some_and(|at| is_gone(&at))
        || open(&root, path, OFlags::RDONLY | OFlags::DIRECTORY).is_some_and(is_opaque)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::image::tree::Tree;

    #[test]
    fn the_uppermost_file_counts_and_what_is_removed_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["upper", "lower"].map(|name| dir.path().join(name));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        for file in ["etc/a", "etc/b", "etc/c", "c"] {
            fs::write(layers[1].join(file), "lower").unwrap();
        }
        fs::write(layers[0].join("etc/a"), "upper").unwrap();
        let upper = Tree::open(&layers[0]).unwrap();
        upper.place(Path::new("etc/b")).unwrap().whiteout().unwrap();
        let seen = |name: &str| read(&layers, name);
        assert_eq!([seen("etc/a"), seen("etc/b"), seen("etc/d")], [Some("upper".into()), None, None]);
        assert_eq!(seen("etc/c").unwrap(), "lower");
        upper.place(Path::new("etc")).unwrap().hide_lower().unwrap();
        assert_eq!((seen("etc/c"), seen("c")), (None, Some("lower".into())));
    }

    #[test]
    fn links_of_an_image_lead_to_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let layers = [dir.path().join("root")];
        fs::create_dir_all(layers[0].join("etc")).unwrap();
        fs::write(dir.path().join("secret"), "ours").unwrap();
        fs::write(layers[0].join("real"), "the image's").unwrap();
        symlink("../../secret", layers[0].join("etc/up")).unwrap();
        symlink(dir.path().join("secret"), layers[0].join("etc/out")).unwrap();
        symlink("/real", layers[0].join("etc/in")).unwrap();
        assert_eq!([read(&layers, "etc/up"), read(&layers, "etc/out")], [None, None]);
        assert_eq!(read(&layers, "etc/in").unwrap(), "the image's");
        assert_eq!(read(&layers, "etc"), None);
    }
}
