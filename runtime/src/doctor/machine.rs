//! What the kernel has and lets us do.

use std::{path::PathBuf, thread};

use anyhow::{Context, Result, anyhow, bail};
use netns_fixtures::gate;
use nix::sched::CloneFlags;

use super::Finding;
use crate::cgroup::{Cgroup, Version, controllers};

/// The first kernel with `openat2`, by which images are unpacked.
const KERNEL: (u32, u32) = (5, 6);
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
];
/// Those that are told: mounts of version 1 name them among other options.
const CONTROLLERS: [&str; 9] =
    ["cpu", "cpuset", "cpuacct", "memory", "devices", "pids", "freezer", "blkio", "io"];
/// What limits of containers are kept by.
const LIMITS: [&str; 2] = ["cpu", "memory"];

/// Kernel, rights, namespaces, cgroups.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![
        Finding::of("kernel", kernel(), "a newer one is needed"),
        Finding::of("root", rights(), "run as root, with these capabilities"),
        Finding::of("namespaces", namespaces(), "a kernel, or a container around this, that permits them"),
    ];
    let cgroups = cgroups();
    let works = cgroups.is_ok();
    findings.push(Finding::of(
        "cgroups",
        cgroups,
        "mount them, or mount them writable (mount -o remount,rw)",
    ));
    if works {
        findings.extend(limits());
    }
    findings
}

fn kernel() -> Result<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL {
        bail!("{release} is older than {}.{}", KERNEL.0, KERNEL.1);
    }
    Ok(release)
}

fn rights() -> Result<String> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the user is {}", nix::unistd::geteuid());
    }
    let missing = gate::missing();
    if !missing.is_empty() {
        bail!("without {}", missing.join(", "));
    }
    Ok("user 0, may make networks and mounts".to_owned())
}

fn namespaces() -> Result<String> {
    for (name, flag) in NAMESPACES {
        // It goes with the thread.
        let made = thread::scope(|scope| scope.spawn(|| make(flag)).join());
        made.unwrap_or_else(|_| Err(anyhow!("the thread panicked"))).context(name)?;
    }
    Ok(NAMESPACES.map(|(name, _)| name).join(" "))
}

#[expect(clippy::disallowed_methods, reason = "whether namespaces can be made is what is looked at")]
fn make(flag: CloneFlags) -> Result<()> {
    nix::sched::unshare(flag).context("make a namespace")
}

fn cgroups() -> Result<String> {
    Cgroup::try_out(&PathBuf::from(format!("/flatpod-doctor-{}", std::process::id())))?;
    let found = controllers()?;
    let of = |wanted: Version| {
        let names: Vec<_> =
            CONTROLLERS.into_iter().filter(|name| found.get(*name) == Some(&wanted)).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
    };
    Ok(format!("version 1: {}; version 2: {}", of(Version::One), of(Version::Two)))
}

fn limits() -> Vec<Finding> {
    let found = controllers().unwrap_or_default();
    let lacking = LIMITS.iter().filter(|name| !found.contains_key(**name));
    let note = |name: &&str| {
        let remedy = format!("pods with limits.{name} are refused; enable it where it is held");
        Finding::note("limits", format!("the cgroups of this machine have no {name} controller here"), remedy)
    };
    lacking.map(note).collect()
}
