//! Two nodes on one cable: namespaces joined by a veth pair that plays the network cards.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{NetNs, probe};

use super::wire::{End, Wire};

/// The nodes' link to each other.
pub(crate) const UPLINK: &str = "eth0";
/// MTU of the uplinks.
pub(crate) const MTU: u32 = 1500;
/// Long enough for a busy machine; nothing waits this long where all is well.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A node: its number, from 1, is in all its addresses.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) ns: NetNs,
}

impl Node {
    /// Its address on the uplink.
    pub(crate) const fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number)
    }
}

/// A pod on a node.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) ns: NetNs,
    pub(crate) address: Ipv4Addr,
}

impl Pod {
    fn end(&self) -> End {
        End { ns: self.ns.clone(), address: self.address, link: "eth0" }
    }
}

/// Two pods on the first node and one on the second; the nodes stay as long as it does.
#[derive(Debug)]
pub(crate) struct Pods {
    pub(crate) nodes: [Node; 2],
    pub(crate) near: [Pod; 2],
    pub(crate) far: Pod,
}

impl Pods {
    /// Makes the three; `make` is given the node and a number unique on it.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn make(nodes: [Node; 2], make: impl Fn(&Node, u8) -> Result<Pod>) -> Result<Self> {
        let near = [make(&nodes[0], 1)?, make(&nodes[0], 2)?];
        let far = make(&nodes[1], 1)?;
        Ok(Self { nodes, near, far })
    }

    /// Between the pods of one node.
    pub(crate) fn same_node(&self) -> Wire {
        Wire { from: self.near[0].end(), to: self.near[1].end() }
    }

    /// From one node to the other.
    pub(crate) fn cross_node(&self) -> Wire {
        Wire { from: self.near[0].end(), to: self.far.end() }
    }

    /// Every pod's link takes segments of this size, and pods reach each other.
    ///
    /// # Errors
    /// One does not.
    pub(crate) fn check(&self, segment: u32) -> Result<()> {
        for pod in [&self.near[0], &self.near[1], &self.far] {
            let sizes = pod.ns.segment_sizes("eth0")?;
            ensure!(
                sizes == [segment; 4],
                "segment sizes of {}'s eth0 are {sizes:?}, not {segment}",
                pod.address
            );
        }
        for other in [&self.near[1], &self.far] {
            probe::ping(&self.near[0].ns, other.address.into(), SOON)
                .with_context(|| format!("{} to {}", self.near[0].address, other.address))?;
        }
        Ok(())
    }
}

/// Makes two nodes, joined.
///
/// # Errors
/// The kernel refuses, or `ip` is missing.
pub(crate) fn pair() -> Result<[Node; 2]> {
    let nodes = [Node { number: 1, ns: NetNs::new()? }, Node { number: 2, ns: NetNs::new()? }];
    let far = nodes[1].ns.path();
    ip(
        &nodes[0].ns,
        &format!(
            "link add {UPLINK} mtu {MTU} type veth peer name {UPLINK} mtu {MTU} netns {}",
            far.display()
        ),
    )?;
    for node in &nodes {
        ip(&node.ns, &format!("addr add {}/24 dev {UPLINK}", node.address()))?;
        ip(&node.ns, &format!("link set {UPLINK} up"))?;
    }
    Ok(nodes)
}

/// Runs `ip` with these words inside `ns`.
///
/// # Errors
/// It fails; the error has its words.
pub(crate) fn ip(ns: &NetNs, line: &str) -> Result<()> {
    tool(ns, "ip", line.split_whitespace())
}

/// Runs a program of the system inside `ns`.
///
/// # Errors
/// It fails; the error has what it said.
pub(crate) fn tool<'a>(ns: &NetNs, name: &str, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let words: Vec<&str> = words.into_iter().collect();
    #[expect(clippy::disallowed_methods, reason = "the peers are set up with the system's programs")]
    let output = ns.run(|| std::process::Command::new(name).args(&words).output())?;
    let output = output.with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {}: {}", words.join(" "), said.trim());
    Ok(())
}
