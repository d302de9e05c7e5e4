//! The built-in image: flatpod itself, with the libraries that it is linked to, in a tree of its own.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Image, ImageConfig, TOOLS, layers::Layers};
use crate::tools;

/// Directories that programs expect.
const DIRS: [&str; 12] =
    ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/run", "var/tmp", "srv"];
/// Who there is.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/tools\nnobody:x:65534:65534:nobody:/:/bin/tools\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// Every program is one file under several names; this is the file.
const PROGRAM: &str = "bin/tools";
/// Anybody may write, only the owner may remove.
const STICKY: u32 = 0o1777;

/// The image, made now when it is not there yet, and anew when flatpod is another one.
pub(super) fn image(layers: &Layers) -> Result<Image> {
    let program = std::env::current_exe().context("find flatpod's own executable file")?;
    let meta = fs::metadata(&program).with_context(|| format!("stat {}", program.display()))?;
    let id = format!("tools-{:x}-{:x}-{:x}", meta.ino(), meta.mtime(), meta.size());
    let rootfs = layers.built(&id, |root| build(root, &program).context("build the tools image"))?;
    let config = ImageConfig {
        entrypoint: vec![format!("/{PROGRAM}")],
        cmd: vec!["pause".to_owned()],
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        working_dir: "/".to_owned(),
        ..ImageConfig::default()
    };
    Image::of_directory(TOOLS.parse()?, rootfs, config)
}

fn build(root: &Path, program: &Path) -> Result<()> {
    for dir in DIRS {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("create {dir}"))?;
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(STICKY)).context("open /tmp")?;
    }
    fs::write(root.join("etc/passwd"), PASSWD).context("write /etc/passwd")?;
    fs::write(root.join("etc/group"), GROUP).context("write /etc/group")?;
    place(program, &root.join(PROGRAM))?;
    for library in libraries()? {
        place(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    if let Some(loader) = interpreter(&fs::read(program).context("read flatpod's own executable file")?) {
        let at = root.join(loader.strip_prefix("/").unwrap_or(&loader));
        if !at.exists() {
            place(&loader.canonicalize().context("find the dynamic loader")?, &at)?;
        }
    }
    for name in tools::names() {
        symlink("tools", root.join("bin").join(&name)).with_context(|| format!("link {name}"))?;
    }
    Ok(())
}

/// Puts `file` at `to`: as a hard link where that is possible, as a copy elsewhere.
fn place(file: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().context("a file is in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    if fs::hard_link(file, to).is_err() {
        fs::copy(file, to).with_context(|| format!("copy {} to {}", file.display(), to.display()))?;
    }
    Ok(())
}

/// The libraries that this process, which is flatpod, has loaded: none when it is linked statically.
fn libraries() -> Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps").context("read /proc/self/maps")?;
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).map(PathBuf::from);
    let is_library = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        file.is_absolute() && (name.contains(".so.") || name.ends_with(".so"))
    };
    Ok(files.filter(is_library).collect())
}

/// The dynamic loader that a program names (ELF-64, program header of type `PT_INTERP`).
fn interpreter(elf: &[u8]) -> Option<PathBuf> {
    const INTERP: u64 = 3;
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = elf.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let header = (0..count).map(|at| table + at * size).find(|at| number(*at, 4) == Some(INTERP))?;
    let (start, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
    let text = elf.get(usize::try_from(start).ok()?..usize::try_from(start + length).ok()?)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(PathBuf::from(String::from_utf8(text.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_program_is_found() {
        // Linked dynamically, which the tests themselves need not be.
        let shell = fs::read("/bin/sh").unwrap();
        let loader = interpreter(&shell).unwrap();
        assert!(loader.exists() && loader.to_string_lossy().contains("ld"), "{}", loader.display());
        assert_eq!(interpreter(b"no program"), None);
    }
}
