//! `flatnetd status`: what the agent wrote about itself, for a person or a program.

use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use crate::config::Local;
use crate::status::{self, Status};
use crate::{output, run_lock};

/// Prints the status.
///
/// # Errors
/// The agent does not run, never ran, or is not ready.
pub(crate) fn show(local: &Local, as_json: bool) -> anyhow::Result<()> {
    let state_dir = &local.state_dir;
    let running =
        run_lock::is_held(state_dir).with_context(|| format!("look into {}", state_dir.display()))?;
    let path = status::path(state_dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !running => {
            bail!(
                "no agent runs with state directory {}, and none has; start one with `flatnetd run`",
                state_dir.display()
            )
        }
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let status: Status =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    if as_json {
        let mut value = serde_json::to_value(&status)?;
        value["running"] = running.into();
        output::say(&serde_json::to_string_pretty(&value)?);
    } else {
        output::say(text(&status, running, status::seconds(SystemTime::now())).trim_end());
    }
    match (running, status.ready) {
        (true, true) => Ok(()),
        (true, false) => bail!("not ready"),
        (false, _) => bail!("not running; routes stay as they were left"),
    }
}

fn text(status: &Status, running: bool, now: u64) -> String {
    let mut lines = vec![];
    let state = match (running, status.ready) {
        (false, _) => "not running",
        (true, true) => "ready",
        (true, false) => "not ready",
    };
    let up = if running { format!(", up {}", ago(now, status.started)) } else { String::new() };
    lines.push(("node", format!("{} ({state}{up}, pid {})", status.node, status.pid)));
    let store = &status.store;
    lines.push((
        "store",
        match (store.nodes, store.loaded) {
            (Some(nodes), Some(at)) => {
                let silent = store.unreachable_since.map_or(String::new(), |since| {
                    format!("; unreachable for {}, serving what was there before", ago(now, since))
                });
                let read = ago(now, at);
                format!("{} {}: {nodes} nodes, read {read} ago{silent}", store.kind, store.path.display())
            }
            _ => format!("{} {}: nothing good read yet", store.kind, store.path.display()),
        },
    ));
    if let Some(uplink) = &status.uplink {
        lines.push(("uplink", format!("{} {}, MTU {}", uplink.interface, uplink.address, uplink.mtu)));
    }
    if let Some(pods) = &status.pods {
        let subnets: Vec<String> = pods.subnets.iter().map(ToString::to_string).collect();
        lines.push((
            "pods",
            format!("{}, MTU {}, segments {}", subnets.join(" "), pods.mtu, pods.segment_size),
        ));
    }
    lines.push(("backend", backend(status)));
    if let Some(change) = &status.last_change {
        let ago = ago(now, change.at);
        lines.push(("changed", format!("{ago} ago in {} ms: {}", change.took_ms, change.changes)));
    }
    if !status.collected.is_empty() {
        lines.push(("gc", status.collected.to_string()));
    }
    let mut out = String::new();
    for (name, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<8} {value}");
    }
    out.push_str(&peers(status));
    let problems = status.all_problems();
    if problems.is_empty() {
        out.push_str("\nno problems\n");
    } else {
        out.push_str("\nPROBLEMS\n");
        problems.iter().for_each(|problem| out.push_str(&format!("  {}\n", problem.replace('\n', "\n    "))));
    }
    out
}

fn backend(status: &Status) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for peer in &status.peers {
        *counts.entry(peer.path.as_str()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(path, count)| format!("{count} {path}")).collect();
    let peers = if counts.is_empty() { "no peers".to_owned() } else { counts.join(", ") };
    let device = status.backend.device.as_ref().map_or(String::new(), |device| {
        format!(" (device {device}, VNI {}, port {})", status.backend.vni, status.backend.port)
    });
    format!("{}: {peers}{device}", status.backend.r#type)
}

/// Beyond this many, peers without a problem are not listed.
const LISTED: usize = 50;

fn peers(status: &Status) -> String {
    if status.peers.is_empty() {
        return String::new();
    }
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let width = widest(&mut status.peers.iter().map(|peer| peer.name.as_str().len())).max(4);
    let wide = widest(&mut status.peers.iter().map(|peer| peer.address.to_string().len())).max(7);
    let mut out = format!("\n{:<width$}  {:<wide$}  PATH\n", "PEER", "ADDRESS");
    let shown = status.peers.iter().enumerate().filter(|(i, peer)| *i < LISTED || peer.problem.is_some());
    let mut hidden = status.peers.len();
    for (_, peer) in shown {
        hidden -= 1;
        let mark = if peer.problem.is_some() { "  !" } else { "" };
        let address = peer.address.to_string();
        let _ = writeln!(out, "{:<width$}  {address:<wide$}  {}{mark}", peer.name.as_str(), peer.path);
    }
    if hidden > 0 {
        let _ = writeln!(out, "and {hidden} more without problems (--output json shows all)");
    }
    out
}

fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"version":1,"node":"n1","pid":7,"started":1000,"updated":1010,"ready":true,
        "backend":{"type":"auto","vni":1,"port":8472,"device":"flat.1"},
        "uplink":{"interface":"eth0","address":"192.0.2.1","mtu":1500},
        "pods":{"subnets":["10.244.1.0/24"],"mtu":1450,"segmentSize":65536},
        "store":{"kind":"file","path":"/c.yaml","nodes":3,"loaded":1001,"error":"/c.yaml: is empty"},
        "peers":[{"name":"n2","address":"192.0.2.2","path":"direct"},
                 {"name":"n3","address":"198.51.100.3","path":"vxlan","problem":"file exists"}],
        "lastChange":{"at":1002,"tookMs":3,"changes":"routes +2"},
        "collected":{"attachments":2,"addresses":1,"interfaces":0,"repaired":3},"problems":[]}"#;

    #[test]
    fn a_person_sees_all_at_a_glance() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let text = text(&status, true, 1300);
        for part in [
            "node     n1 (ready, up 5 min, pid 7)",
            "store    file /c.yaml: 3 nodes, read 4 min ago",
            "uplink   eth0 192.0.2.1, MTU 1500",
            "pods     10.244.1.0/24, MTU 1450, segments 65536",
            "backend  auto: 1 direct, 1 vxlan (device flat.1, VNI 1, port 8472)",
            "changed  4 min ago in 3 ms: routes +2",
            "gc       collected 2 attachments, 1 addresses; repaired 3 pods",
            "  store: /c.yaml: is empty; the last good cluster stays in use",
            "  peer n3: file exists",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
