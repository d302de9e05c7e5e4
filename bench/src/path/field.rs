//! Who takes part: flatnet with each backend, the bridges it is compared with, and the floors under all.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use netns_fixtures::{KillOnDrop, NetNs, probe};

use super::bridge::{self, Backend, Setup};
use super::flatnet::{self, Options};
use super::nodes::{self, Pods, SOON};
use super::wire::{End, Wire};

/// Bytes that every link of a path takes at a time where segments are large: three times the usual.
const LARGE: u32 = 196_608;

/// The floor that ratios are given to.
pub(crate) const VETH: &str = "one veth pair";
/// What flannel makes by default: ratios are given to it too.
pub(crate) const VXLAN: &str = "bridge + VXLAN";
const HOST_GW: &str = "bridge + host-gw";
const BARE_HOST_GW: &str = "bridge + host-gw, bare";
const BARE_VXLAN: &str = "bridge + VXLAN, bare";

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Floor,
    SameNode,
    CrossNode,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Floor, Self::SameNode, Self::CrossNode];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::SameNode => "same node",
            Self::CrossNode => "cross node",
        }
    }
}

/// One path that is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) way: Way,
    pub(crate) name: &'static str,
    /// Whom it is compared with, of those on the same way.
    pub(crate) peer: Option<&'static str>,
    pub(crate) wire: Wire,
}

/// Everything that must live while it is measured.
#[derive(Debug, Default)]
pub(crate) struct Field {
    pub(crate) contenders: Vec<Contender>,
    pods: Vec<Pods>,
    agents: Vec<KillOnDrop>,
}

impl Field {
    fn add(&mut self, (name, peer): (&'static str, Option<&'static str>), pods: Pods) {
        let ways = [(Way::SameNode, pods.same_node()), (Way::CrossNode, pods.cross_node())];
        self.contenders.extend(ways.map(|(way, wire)| Contender { way, name, peer, wire }));
        self.pods.push(pods);
    }
}

/// Sets everybody up; state goes below `state`. The bare ones neither masquerade nor track connections.
///
/// # Errors
/// A program is missing or fails.
pub(crate) fn all(programs: &Path, state: &Path) -> Result<Field> {
    let mut field = Field::default();
    let floors = [("loopback", loopback()?), (VETH, veth()?)];
    let floors = floors.map(|(name, wire)| Contender { way: Way::Floor, name, peer: None, wire });
    field.contenders.extend(floors);
    let (direct, vxlan) = (Options::new("direct"), Options::new("vxlan"));
    for (name, peer, options) in [
        ("flatnet direct", HOST_GW, direct),
        ("flatnet direct, large segments", HOST_GW, Options { segment: LARGE, ..direct }),
        ("flatnet direct, bare", BARE_HOST_GW, Options { masquerade: false, ..direct }),
        ("flatnet vxlan", VXLAN, vxlan),
        ("flatnet vxlan, bare", BARE_VXLAN, Options { masquerade: false, ..vxlan }),
    ] {
        let place = flatnet::Place { programs, dir: state.join(name.replace([' ', ','], "-")) };
        let (pods, agents) = flatnet::start(&place, options).context(name)?;
        field.add((name, Some(peer)), pods);
        field.agents.extend(agents);
    }
    let (host_gw, vxlan) = (Setup::new(Backend::HostGw), Setup::new(Backend::Vxlan));
    for (name, setup) in [
        (HOST_GW, host_gw),
        ("bridge + host-gw, large by hand", Setup { segment: LARGE, ..host_gw }),
        (BARE_HOST_GW, Setup { rules: false, ..host_gw }),
        (VXLAN, vxlan),
        (BARE_VXLAN, Setup { rules: false, ..vxlan }),
    ] {
        field.add((name, None), bridge::start(setup).context(name)?);
    }
    field.contenders.sort_by_key(|contender| contender.way);
    Ok(field)
}

/// Both ends in one namespace.
fn loopback() -> Result<Wire> {
    let end = End { ns: NetNs::new()?, address: Ipv4Addr::LOCALHOST, link: "lo" };
    Ok(Wire { from: end.clone(), to: end })
}

/// Two namespaces on one cable, with neither routing nor rules between them.
fn veth() -> Result<Wire> {
    let [from, to] = nodes::pair()?.map(|node| {
        let address = node.address();
        End { ns: node.ns, address, link: nodes::UPLINK }
    });
    probe::ping(&from.ns, to.address.into(), SOON).context(VETH)?;
    Ok(Wire { from, to })
}
