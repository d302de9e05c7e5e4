//! A pod's volumes: made once for the pod, mounted into containers, gone with the pod.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _, lchown, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, Volume, VolumeMount,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::{Making, PodView, environment, quantity::quantity};
use crate::state::Kind;

/// An emptyDir may be used by any user of any container.
const OPEN: u32 = 0o777;
/// What files of configuration maps and secrets are, unless the manifest says otherwise.
const FILE_MODE: u32 = 0o644;

/// Makes what the pod's volumes need. Safe to repeat: what is there, and what is in it, stays.
pub(crate) fn mount_volumes(view: &PodView<'_>) -> Result<()> {
    for volume in view.spec().volumes.iter().flatten() {
        make(view, volume).with_context(|| format!("volume {}", volume.name))?;
    }
    Ok(())
}

/// Unmounts what [`mount_volumes`] mounted.
pub(crate) fn unmount_volumes(volumes: &Path) {
    for entry in fs::read_dir(volumes).into_iter().flatten().flatten() {
        // Most are no mounts.
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
    }
}

/// The OCI mounts of a container's volumes.
pub(super) fn mounts(making: &Making<'_>) -> Result<Vec<Value>> {
    let mounts = making.container.volume_mounts.iter().flatten();
    mounts.map(|one| mounted(making, one).with_context(|| format!("volumeMount {}", one.name))).collect()
}

fn mounted(making: &Making<'_>, wanted: &VolumeMount) -> Result<Value> {
    let volumes = making.spec().volumes.iter().flatten();
    let volume = volumes.into_iter().find(|volume| volume.name == wanted.name).context("no such volume")?;
    let mut source = source_of(&making.view, volume);
    let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(expression)) => Some(environment::expand(expression, &environment::variables(making)?)),
        (None, None) => None,
    };
    if let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) {
        source = below(&source, Path::new(&sub_path))?;
    }
    let mut options = vec!["rbind", if wanted.read_only == Some(true) { "ro" } else { "rw" }];
    options.push(match wanted.mount_propagation.as_deref() {
        None | Some("None") => "rprivate",
        Some("HostToContainer") => "rslave",
        Some(other) => bail!("mountPropagation {other} is not supported; None and HostToContainer are"),
    });
    Ok(json!({ "destination": wanted.mount_path, "type": "bind", "source": source, "options": options }))
}

/// The directory or file `path` in `volume`, made when it is not there. Symbolic links must not lead out.
fn below(volume: &Path, path: &Path) -> Result<PathBuf> {
    use std::path::Component;
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(plain) {
        bail!("subPath {} must be relative and without ..", path.display());
    }
    let volume = volume.canonicalize().with_context(|| format!("look up {}", volume.display()))?;
    let mut at = volume.clone();
    for part in path.components() {
        let next = at.join(part);
        if !next.exists() && !next.is_symlink() {
            fs::create_dir(&next).with_context(|| format!("create subPath {}", path.display()))?;
        }
        at = next.canonicalize().with_context(|| format!("look up subPath {}", path.display()))?;
        if !at.starts_with(&volume) {
            bail!("subPath {} leads out of the volume", path.display());
        }
    }
    Ok(at)
}

fn source_of(view: &PodView<'_>, volume: &Volume) -> PathBuf {
    match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => view.dir.file("volumes").join(&volume.name),
    }
}

fn make(view: &PodView<'_>, volume: &Volume) -> Result<()> {
    let at = source_of(view, volume);
    if let Some(host) = &volume.host_path {
        return host_path(host);
    }
    let is_new = match &volume.empty_dir {
        Some(empty) => empty_dir(&at, empty)?,
        None => files_of(view, volume)?.write(&at)?,
    };
    let group = view.spec().security_context.as_ref().and_then(|context| context.fs_group);
    match group.and_then(|group| u32::try_from(group).ok()).filter(|_| is_new) {
        Some(group) => give(&at, group).with_context(|| format!("give {} to group {group}", at.display())),
        None => Ok(()),
    }
}

/// Lets a group use what was just made: it may read all, write in directories, and what others make there is its
/// own, too (`SetVolumeOwnership` of `pkg/volume/volume_linux.go`).
fn give(at: &Path, group: u32) -> Result<()> {
    lchown(at, None, Some(group))?;
    let meta = fs::symlink_metadata(at)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    if meta.is_dir() {
        fs::set_permissions(at, fs::Permissions::from_mode(mode | 0o2770))?;
        for entry in fs::read_dir(at)? {
            give(&entry?.path(), group)?;
        }
        return Ok(());
    }
    Ok(fs::set_permissions(at, fs::Permissions::from_mode(mode | 0o440))?)
}

fn files_of(view: &PodView<'_>, volume: &Volume) -> Result<Files> {
    let mut files = Files::default();
    if let Some(map) = &volume.config_map {
        let from = (Kind::ConfigMap, map.name.as_str(), map.optional == Some(true));
        files.mode = mode(map.default_mode);
        files.add(view, from, map.items.as_deref())?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        files.mode = mode(secret.default_mode);
        files.add(view, (Kind::Secret, name, secret.optional == Some(true)), secret.items.as_deref())?;
    } else if let Some(downward) = &volume.downward_api {
        files.mode = mode(downward.default_mode);
        files.add_fields(view, downward.items.as_deref())?;
    } else if let Some(projected) = &volume.projected {
        files.mode = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let from = (Kind::ConfigMap, map.name.as_str(), map.optional == Some(true));
                files.add(view, from, map.items.as_deref())?;
            } else if let Some(secret) = &source.secret {
                let from = (Kind::Secret, secret.name.as_str(), secret.optional == Some(true));
                files.add(view, from, secret.items.as_deref())?;
            } else if let Some(downward) = &source.downward_api {
                files.add_fields(view, downward.items.as_deref())?;
            } else {
                bail!("this source of a projected volume is not supported");
            }
        }
    } else {
        bail!(
            "this kind of volume is not supported: emptyDir, hostPath, configMap, secret, downwardAPI, projected are"
        );
    }
    Ok(files)
}

fn mode(wanted: Option<i32>) -> u32 {
    wanted.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(FILE_MODE)
}

/// Answers whether it was made now.
fn empty_dir(at: &Path, wanted: &EmptyDirVolumeSource) -> Result<bool> {
    let mut is_new = !at.exists();
    fs::create_dir_all(at).with_context(|| format!("create {}", at.display()))?;
    match wanted.medium.as_deref() {
        None | Some("") => {}
        Some("Memory") if is_mount(at)? => {}
        Some("Memory") => {
            let size = wanted.size_limit.as_ref().and_then(|limit| quantity(&limit.0));
            let options = size.map_or(String::from("mode=0777"), |size| format!("mode=0777,size={size}"));
            mount(
                Some("tmpfs"),
                at,
                Some("tmpfs"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                Some(options.as_str()),
            )
            .context("mount a tmpfs")?;
            is_new = true;
        }
        Some(other) => bail!("emptyDir medium {other} is not supported; \"\" and Memory are"),
    }
    if is_new {
        fs::set_permissions(at, fs::Permissions::from_mode(OPEN)).context("open it to all users")?;
    }
    Ok(is_new)
}

/// Whether something is mounted at `at`.
pub(crate) fn is_mount(at: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == at))
}

fn host_path(wanted: &HostPathVolumeSource) -> Result<()> {
    let path = Path::new(&wanted.path);
    let kind = wanted.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(path).ok();
    match (kind, found) {
        ("" | "DirectoryOrCreate", None) => {
            fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
        }
        ("FileOrCreate", None) => {
            File::create(path).map(drop).with_context(|| format!("create {}", path.display()))
        }
        (_, None) => bail!("hostPath {} does not exist", path.display()),
        (kind, Some(meta)) => {
            let is = match kind {
                "" => true,
                "Directory" | "DirectoryOrCreate" => meta.is_dir(),
                "File" | "FileOrCreate" => meta.is_file(),
                "Socket" => meta.file_type().is_socket(),
                "CharDevice" => meta.file_type().is_char_device(),
                "BlockDevice" => meta.file_type().is_block_device(),
                other => bail!("hostPath has no type {other}"),
            };
            if !is {
                bail!("hostPath {} is no {kind}", path.display());
            }
            Ok(())
        }
    }
}

/// Files that are made from objects.
#[derive(Debug, Default)]
struct Files {
    mode: u32,
    all: BTreeMap<PathBuf, (Vec<u8>, u32)>,
}

impl Files {
    fn add(
        &mut self,
        view: &PodView<'_>,
        (kind, name, optional): (Kind, &str, bool),
        items: Option<&[KeyToPath]>,
    ) -> Result<()> {
        let Some(mut data) = view.objects.data(kind, view.namespace(), name)? else {
            if optional {
                return Ok(());
            }
            bail!("{kind:?} {name:?} not found");
        };
        let Some(items) = items else {
            self.all.extend(data.into_iter().map(|(key, value)| (PathBuf::from(key), (value, self.mode))));
            return Ok(());
        };
        for item in items {
            match data.remove(&item.key) {
                Some(value) => self.put(&item.path, value, item.mode)?,
                None if optional => {}
                None => bail!("{kind:?} {name:?} has no key {:?}", item.key),
            }
        }
        Ok(())
    }

    fn add_fields(&mut self, view: &PodView<'_>, items: Option<&[DownwardAPIVolumeFile]>) -> Result<()> {
        for item in items.into_iter().flatten() {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => environment::field(view, field)?,
                (None, Some(resource)) => {
                    let first = view.spec().containers.first().context("a pod has a container")?;
                    environment::resource(view, first, resource)?
                }
                (None, None) => bail!("{} names neither fieldRef nor resourceFieldRef", item.path),
            };
            self.put(&item.path, value.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn put(&mut self, path: &str, value: Vec<u8>, wanted: Option<i32>) -> Result<()> {
        let path = PathBuf::from(path);
        if !path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            bail!("path {} must be relative and without ..", path.display());
        }
        let mode = wanted.map_or(self.mode, |_| mode(wanted));
        self.all.insert(path, (value, mode));
        Ok(())
    }

    /// Writes them as Kubernetes does: in a directory of their own that a link leads to, so that all of them can
    /// change at once. Answers whether they were written now.
    fn write(&self, at: &Path) -> Result<bool> {
        let told = || format!("write {}", at.display());
        if at.join("..data").exists() {
            return Ok(false);
        }
        let data = at.join("..1");
        for (path, (value, mode)) in &self.all {
            let file = data.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&data)).with_context(told)?;
            fs::write(&file, value).with_context(told)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).with_context(told)?;
        }
        fs::create_dir_all(&data).with_context(told)?;
        let mut tops: Vec<_> = self.all.keys().filter_map(|path| path.components().next()).collect();
        tops.dedup();
        for top in tops {
            let link = at.join(top);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(top), link).with_context(told)?;
            }
        }
        symlink("..1", at.join("..data")).with_context(told)?;
        Ok(true)
    }
}
