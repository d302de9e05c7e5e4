//! Cgroups, in whichever hierarchies the machine has: version 1, version 2, or both beside each other.

mod devices;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use netns_fixtures::wait_until;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) use usage::Usage;

/// What a machine without them is told.
const NONE: &str =
    "containers need cgroups, and none are mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup";
/// For killed processes to leave a cgroup: the kernel is at it, but a busy machine takes its time.
const LEAVE: Duration = Duration::from_secs(20);

/// One period of the CPU quota in microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// What the processes of a cgroup may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The weight beside others, in the unit of version 1: 1024 for a CPU.
    pub(crate) cpu_shares: u64,
    /// Microseconds in each [`CPU_PERIOD`].
    pub(crate) cpu_quota: Option<u64>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
}

/// One cgroup: the same path in every hierarchy that has it.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// The cgroup at `path`, which begins with a slash, in every hierarchy.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let below = path.strip_prefix("/").unwrap_or(path);
        Ok(Self { dirs: hierarchies()?.into_iter().map(|mount| mount.join(below)).collect() })
    }

    /// Makes it where there is something to limit, and sets the limits.
    pub(crate) fn limit(path: &Path, limits: &Limits) -> Result<()> {
        let below = path.strip_prefix("/").unwrap_or(path);
        let mounts = hierarchies()?;
        if mounts.is_empty() {
            bail!(NONE);
        }
        for mount in mounts {
            let dir = mount.join(below);
            let settings = limits.settings(&mount);
            if !settings.is_empty() {
                fs::create_dir_all(&dir).with_context(|| format!("create cgroup {}", dir.display()))?;
                delegate(&mount, below)?;
            }
            for (file, value) in settings {
                let file = dir.join(file);
                fs::write(&file, &value).with_context(|| format!("write {value} to {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Makes it in every hierarchy, holds it to its devices, and takes it away again.
    pub(crate) fn try_out(path: &Path) -> Result<()> {
        let cgroup = Self::at(path)?;
        if cgroup.dirs.is_empty() {
            bail!(NONE);
        }
        let made = cgroup.make().and_then(|()| cgroup.restrict_devices());
        let removed = cgroup.remove();
        made.and(removed)
    }

    fn make(&self) -> Result<()> {
        for dir in &self.dirs {
            fs::create_dir_all(dir).with_context(|| format!("create cgroup {}", dir.display()))?;
            let delegation = dir.with_file_name("cgroup.subtree_control");
            if delegation.exists() {
                // Opened, and not written: what others have there stays.
                let opened = fs::OpenOptions::new().write(true).open(&delegation);
                opened.with_context(|| format!("write to {}", delegation.display()))?;
            }
        }
        Ok(())
    }

    /// Lets its processes open the usual devices only, where no hierarchy of version 1 sees to that.
    pub(crate) fn restrict_devices(&self) -> Result<()> {
        if controllers()?.get("devices") == Some(&Version::One) {
            return Ok(());
        }
        let unified = self.dirs.iter().find(|dir| dir.join("cgroup.controllers").exists());
        devices::restrict(unified.context("the container is in no cgroup of version 2")?)
    }

    /// In how many hierarchies it is.
    pub(crate) fn count(&self) -> usize {
        self.dirs.iter().filter(|dir| dir.exists()).count()
    }

    /// Every process in it and below.
    pub(crate) fn processes(&self) -> Result<BTreeSet<i32>> {
        let mut found = BTreeSet::new();
        for dir in &self.dirs {
            collect(dir, &mut found)?;
        }
        Ok(found)
    }

    /// Kills every process in it and below, also those that are being made meanwhile, and waits until all have left.
    pub(crate) fn kill(&self) -> Result<()> {
        for switch in self.dirs.iter().map(|dir| dir.join("cgroup.kill")).filter(|file| file.exists()) {
            // Only speeds up what the loop below does anyway.
            let _ = fs::write(switch, "1");
        }
        let empty = wait_until("the processes of a killed cgroup to leave it", LEAVE, || {
            self.processes().and_then(kill_all).map(|left| (left == 0).then_some(())).transpose()
        });
        empty?
    }

    /// What its processes, and those below, have used until now.
    pub(crate) fn usage(&self) -> Usage {
        usage::read(&self.dirs)
    }

    /// How many of its processes the kernel has killed for want of memory, itself and below.
    pub(crate) fn oom_kills(&self) -> u64 {
        let files =
            self.dirs.iter().flat_map(|dir| [dir.join("memory.oom_control"), dir.join("memory.events")]);
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        let count = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        texts.map(count).max().unwrap_or(0)
    }

    /// Removes it with what is below. Its processes must have left; it may be gone already.
    pub(crate) fn remove(&self) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| remove(dir))
    }
}

impl Limits {
    /// Files and values for the hierarchy that is mounted there.
    fn settings(&self, mount: &Path) -> Vec<(&'static str, String)> {
        let mut settings = vec![];
        if mount.join("cpu.shares").exists() {
            settings.push(("cpu.shares", self.cpu_shares.to_string()));
            settings.extend(self.cpu_quota.map(|_| ("cpu.cfs_period_us", CPU_PERIOD.to_string())));
            settings.extend(self.cpu_quota.map(|quota| ("cpu.cfs_quota_us", quota.to_string())));
        }
        if mount.join("memory.limit_in_bytes").exists() {
            settings.extend(self.memory.map(|bytes| ("memory.limit_in_bytes", bytes.to_string())));
        }
        let unified = unified_controllers(mount);
        if unified.contains("cpu") {
            settings.push(("cpu.weight", weight(self.cpu_shares).to_string()));
            settings.extend(self.cpu_quota.map(|quota| ("cpu.max", format!("{quota} {CPU_PERIOD}"))));
        }
        if unified.contains("memory") {
            settings.extend(self.memory.map(|bytes| ("memory.max", bytes.to_string())));
        }
        settings
    }
}

/// Shares of version 1 as a weight of version 2: from 2 to 262144 are from 1 to 10000 (the kubelet's formula).
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

/// Which version of cgroups has a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// The controllers that this machine has, as their hierarchies are mounted here.
pub(crate) fn controllers() -> Result<BTreeMap<String, Version>> {
    let mut found = BTreeMap::new();
    for mount in mounts()? {
        match mount.version {
            Version::Two => {
                let names = unified_controllers(&mount.at);
                found.extend(names.into_iter().map(|name| (name, Version::Two)));
            }
            // Among other options.
            Version::One => {
                found.extend(mount.options.split(',').map(|name| (name.to_owned(), Version::One)));
            }
        }
    }
    Ok(found)
}

/// The controllers of a hierarchy of version 2; none of another.
fn unified_controllers(mount: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Lets each cgroup on the way to `below` hand on the controllers of CPU and memory, in version 2.
fn delegate(mount: &Path, below: &Path) -> Result<()> {
    let wanted: Vec<String> = unified_controllers(mount)
        .into_iter()
        .filter(|name| matches!(name.as_str(), "cpu" | "memory"))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut above = mount.to_owned();
    for part in below {
        let file = above.join("cgroup.subtree_control");
        fs::write(&file, wanted.join(" "))
            .with_context(|| format!("write {} to {}", wanted.join(" "), file.display()))?;
        above.push(part);
    }
    Ok(())
}

/// A hierarchy that is mounted.
struct Mount {
    version: Version,
    at: PathBuf,
    options: String,
}

/// The hierarchies that are mounted, in the order of `/proc/self/mounts`.
fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match kind {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some(Mount { version, at: at.into(), options: options.to_owned() })
    };
    Ok(text.lines().filter_map(mount).collect())
}

/// Where cgroup hierarchies are mounted.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let all: BTreeSet<PathBuf> = mounts()?.into_iter().map(|mount| mount.at).collect();
    Ok(all.into_iter().collect())
}

fn kill_all(processes: BTreeSet<i32>) -> Result<usize> {
    for pid in &processes {
        match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => bail!("kill process {pid}: {errno}"),
        }
    }
    Ok(processes.len())
}

fn collect(dir: &Path, found: &mut BTreeSet<i32>) -> Result<()> {
    let text = match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => text,
        // ENODEV: removed between open and read.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV) => {
            return Ok(());
        }
        // A threaded cgroup of version 2; its processes are listed by the one above.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        Err(e) => return Err(e).with_context(|| format!("read the processes of {}", dir.display())),
    };
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid != 0));
    children(dir).iter().try_for_each(|child| collect(child, found))
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn remove(dir: &Path) -> Result<()> {
    // Where nothing may be written, even what is not there cannot be removed.
    if !dir.exists() {
        return Ok(());
    }
    for child in children(dir) {
        remove(&child)?;
    }
    // A process that has just ended may keep its cgroup busy for a moment.
    let removed =
        wait_until(&format!("{} to become free", dir.display()), LEAVE, || match fs::remove_dir(dir) {
            Ok(()) => Some(Ok(())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(Ok(())),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => None,
            Err(e) => Some(Err(e)),
        });
    removed?.with_context(|| format!("remove cgroup {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_weights_in_version_2() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn this_machine_has_controllers_each_in_one_version() {
        let found = controllers().unwrap();
        assert!(found.contains_key("memory") && found.contains_key("cpu"), "{found:?}");
    }
}
