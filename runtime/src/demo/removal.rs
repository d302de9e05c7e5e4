//! Everything deleted, and what is left then: nothing.

use std::fs;

use anyhow::{Context, Result};
use netns_fixtures::NetNs;
use nix::net::if_::if_nameindex;

use super::{
    report::{Row, Section},
    stage::Stage,
};
use crate::cgroup::Cgroup;

/// How the plugin's host ends of pods begin.
const HOST_END: &str = "fn";

/// Deletes pods, then nodes.
pub(super) fn check(stage: &Stage) -> Result<Section> {
    let nodes = ["n1", "n2", "n3"];
    let before = nodes.iter().map(|node| links(stage, node)).collect::<Result<Vec<_>>>()?;
    stage.flatpod(&["delete", "deployment/server", "daemonset/client", "--now"])?;
    stage.flatpod(&["delete", "pods", "--all", "--now"])?;
    let mut rows = vec![];
    for (node, before) in nodes.iter().zip(before) {
        let after = links(stage, node)?;
        let seen = format!("{} before, {} after", before.join(" "), after.join(" "));
        let left = after.iter().any(|link| link.starts_with(HOST_END));
        rows.push(Row::new(format!("links of {node}"), seen, !left && before.len() > after.len()));
    }
    stage.flatpod(&["down"])?;
    rows.push(none("other processes", &processes()?));
    rows.push(none("mounts", &mounts(stage)?));
    let cgroups = Cgroup::at(&stage.root.cgroup())?.count();
    rows.push(Row::new("cgroups", cgroups.to_string(), cgroups == 0));
    Ok(Section::new("Deleted: nothing is left", "what", rows))
}

/// So many, and which.
fn none(what: &str, found: &[String]) -> Row {
    let seen = std::iter::once(found.len().to_string()).chain(found.iter().cloned());
    Row::new(what, seen.collect::<Vec<_>>().join(" "), found.is_empty())
}

fn links(stage: &Stage, node: &str) -> Result<Vec<String>> {
    let list = || {
        let list = if_nameindex()?;
        Ok(list.iter().map(|link| link.name().to_string_lossy().into_owned()).collect())
    };
    let ns = NetNs::open(stage.root.node(node).path().join("net"))?;
    let listed: nix::Result<Vec<String>> = ns.run(list)?;
    listed.with_context(|| format!("list the links of {node}"))
}

/// The names of all processes of this PID namespace but our own; those that have ended wait for us to ask how.
fn processes() -> Result<Vec<String>> {
    let mut found = vec![];
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if number.is_some_and(|number| number != std::process::id()) && !line.is_empty() {
            found.push(String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned());
        }
    }
    Ok(found)
}

fn mounts(stage: &Stage) -> Result<Vec<String>> {
    let own = stage.root.path().to_str().context("a root directory with a plain name")?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts").context("list mounts")?;
    let at = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(at.filter(|at| at.starts_with(&own)).map(str::to_owned).collect())
}
