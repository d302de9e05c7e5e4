//! The peer: what flannel's VXLAN backend leaves in a kernel, a neighbour, a forwarding entry and a route per
//! node without nexthop objects, put there by iproute2.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::cluster::Simulated;
use super::process::Cpu;
use super::routes;

const DEVICE: &str = "flannel.1";

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    pub(crate) nodes: u16,
    /// Seconds.
    pub(crate) wall: f64,
    pub(crate) cpu: Cpu,
}

/// Programs `nodes` nodes; to be called inside a namespace with an uplink `uplink`.
///
/// # Errors
/// iproute2 is not there, or refuses.
pub(crate) fn program(nodes: u16, uplink: &str, dir: &Path) -> Result<Plain> {
    let device = format!("link add {DEVICE} type vxlan id 1 dev {uplink} dstport 8472 nolearning");
    batch("ip", &format!("{device}\nlink set {DEVICE} up\n"), dir)?;
    let (mut neighbours, mut fdb, mut all) = (String::new(), String::new(), String::new());
    for node in Simulated::present(nodes) {
        let (gateway, mac, address) = (node.subnet(), node.mac(), node.address());
        writeln!(neighbours, "neigh replace {gateway} lladdr {mac} dev {DEVICE} nud permanent")?;
        writeln!(fdb, "fdb append {mac} dev {DEVICE} dst {address} self permanent")?;
        writeln!(all, "route replace {gateway}/24 via {gateway} dev {DEVICE} onlink")?;
    }
    let (start, before) = (Instant::now(), Cpu::of_children()?);
    batch("ip", &neighbours, dir)?;
    batch("bridge", &fdb, dir)?;
    batch("ip", &all, dir)?;
    let wall = start.elapsed().as_secs_f64();
    let cpu = Cpu::of_children()?.since(before);
    let there = routes::count(DEVICE)?;
    ensure!(there == usize::from(nodes), "{there} of {nodes} routes are there");
    Ok(Plain { nodes, wall, cpu })
}

fn batch(program: &str, lines: &str, dir: &Path) -> Result<()> {
    let file = dir.join("batch");
    std::fs::write(&file, lines)?;
    #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
    let mut command = Command::new(program);
    let output = command.arg("-batch").arg(&file).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
