//! What a pod's containers share, and what they do not: namespaces by their inode numbers.

use std::{fs, os::unix::fs::MetadataExt};

use anyhow::{Context, Result, bail};

use super::container::{Answer, Identity, Request};
use super::{
    cluster::Cluster,
    report::{Row, Section},
};

/// Shared within a pod.
const SHARED: [&str; 3] = ["net", "ipc", "uts"];
/// A container's own.
const OWN: [&str; 2] = ["pid", "mnt"];

/// A container, and where it says it is.
struct Seen {
    pod: &'static str,
    container: String,
    identity: Identity,
}

pub(super) fn check(cluster: &Cluster) -> Result<Section> {
    let mut seen = Vec::new();
    for pod in &cluster.pods {
        for (at, container) in pod.containers.iter().enumerate() {
            let Ok(Answer::Identity(identity)) = pod.ask_container(at, Request::Identify)? else {
                bail!("a container of {} cannot say where it is", pod.name);
            };
            let name = container.lock().map(|c| c.name.clone()).unwrap_or_default();
            seen.push(Seen { pod: pod.name, container: name, identity });
        }
    }
    let rows = seen.iter().map(|one| row(one, &seen)).collect::<Result<_>>()?;
    let claim = "Containers of a pod share its net, ipc and uts namespaces; each has its own pid and mnt";
    Ok(Section::new(claim, rows))
}

fn row(one: &Seen, all: &[Seen]) -> Result<Row> {
    let mut wrong = Vec::new();
    let identity = &one.identity;
    for kind in SHARED.into_iter().chain(OWN) {
        let inode = identity.namespaces.get(kind);
        let path = format!("/proc/self/ns/{kind}");
        let ours = fs::metadata(&path).with_context(|| format!("stat {path}"))?.ino();
        if inode.is_none_or(|inode| *inode == ours) {
            wrong.push(format!("{kind} is not its own but the node's"));
        }
        for other in all.iter().filter(|other| !std::ptr::eq(*other, one)) {
            let must_share = SHARED.contains(&kind) && other.pod == one.pod;
            let shares = other.identity.namespaces.get(kind) == inode;
            if shares != must_share {
                let verb = if shares { "shares" } else { "does not share" };
                wrong.push(format!("{verb} {kind} with {}/{}", other.pod, other.container));
            }
        }
    }
    if identity.hostname != one.pod {
        wrong.push(format!("its host name is {}", identity.hostname));
    }
    if (identity.pid, identity.processes) != (1, 1) {
        wrong.push(format!("it is process {} of {}", identity.pid, identity.processes));
    }
    let name = format!("{}/{}", one.pod, one.container);
    let failure = (!wrong.is_empty()).then(|| format!("{name}: {}", wrong.join("; ")));
    let inode = |kind| identity.namespaces.get(kind).map(ToString::to_string).unwrap_or_default();
    Ok(Row {
        cells: vec![
            ("container", name),
            ("hostname", identity.hostname.clone()),
            ("own pid", identity.pid.to_string()),
            ("sees", format!("{} process", identity.processes)),
            ("net", inode("net")),
            ("ipc", inode("ipc")),
            ("uts", inode("uts")),
            ("pid", inode("pid")),
            ("mnt", inode("mnt")),
        ],
        failure,
    })
}
