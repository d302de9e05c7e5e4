//! What a pod's containers share, and what each has for itself: namespaces by their inode numbers.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use anyhow::{Context, Result};

use super::{Proof, Subject};

/// A running container.
struct Running {
    name: String,
    pid: i32,
}

/// What is to be seen of the containers of a pod.
pub(crate) fn proofs(subject: &Subject) -> Result<Vec<Proof>> {
    let running = running(subject)?;
    let spec = subject.found.pod.spec.clone().unwrap_or_default();
    let one_pid = spec.share_process_namespace == Some(true);
    let (shared, own): (&[&str], &[&str]) = if one_pid {
        (&["net", "ipc", "uts", "pid"], &["mnt"])
    } else {
        (&["net", "ipc", "uts"], &["mnt", "pid"])
    };
    let names = running.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    let same = shared.iter().map(|kind| shared_by_all(kind, &running)).collect::<Result<Vec<_>>>();
    let apart = own.iter().map(|kind| own_of_each(kind, &running)).collect::<Result<Vec<_>>>();
    let with = |shown: Vec<String>| format!("{}: {}", names, shown.join(" "));
    Ok(vec![
        Proof::of(&subject.name, "containers share their namespaces", same.map(with)),
        Proof::of(&subject.name, "each container has its own", apart.map(|shown| shown.join("  "))),
    ])
}

fn running(subject: &Subject) -> Result<Vec<Running>> {
    let spec = subject.found.pod.spec.clone().unwrap_or_default();
    let mut running = vec![];
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let Some(attempt) = subject.found.running(&container.name)? else { continue };
        if let Some(started) = attempt.started()? {
            running.push(Running { name: container.name.clone(), pid: started.init.pid });
        }
    }
    Ok(running)
}

/// The one namespace of this kind that all are in.
fn shared_by_all(kind: &str, running: &[Running]) -> Result<String> {
    let all: BTreeSet<u64> = running.iter().map(|one| inode(one, kind)).collect::<Result<_>>()?;
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (None, _) => anyhow::bail!("no container is running"),
        (Some(only), None) => Ok(format!("{kind} {only}")),
        (Some(one), Some(other)) => anyhow::bail!("{kind} is {one} and {other}"),
    }
}

/// A namespace of this kind for each, none the machine's.
fn own_of_each(kind: &str, running: &[Running]) -> Result<String> {
    let path = format!("/proc/self/ns/{kind}");
    let machine = fs::metadata(&path).with_context(|| format!("stat {path}"))?.ino();
    let mut seen = BTreeSet::from([machine]);
    let mut shown = vec![];
    for one in running {
        let inode = inode(one, kind)?;
        if !seen.insert(inode) {
            anyhow::bail!("container {} shares {kind} {inode}", one.name);
        }
        shown.push(inode.to_string());
    }
    Ok(format!("{kind} {}", shown.join(" ")))
}

fn inode(one: &Running, kind: &str) -> Result<u64> {
    let path = format!("/proc/{}/ns/{kind}", one.pid);
    Ok(fs::metadata(&path).with_context(|| format!("container {}: stat {path}", one.name))?.ino())
}
