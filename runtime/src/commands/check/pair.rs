//! How two pods meet: each sees the other's own address and port, and both may use one port.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use netns_fixtures::{
    Capture, FixtureError, Headers, NetNs, Packet, UPLINK,
    probe::{IcmpWitness, Seen, TcpServer, UdpServer, ping, tcp_probe, udp_probe},
};

use super::{Proof, Subject};

/// For an answer, and for a packet that was answered to come out of the capture.
const SOON: Duration = Duration::from_secs(3);

pub(super) fn proofs(one: &Subject, other: &Subject) -> Result<Vec<Proof>> {
    if one.is_on_the_nodes_network() || other.is_on_the_nodes_network() {
        bail!("two pods with networks of their own can be checked against each other; one is on its node's");
    }
    let mut proofs = vec![];
    for (from, to) in [(one, other), (other, one)] {
        let subject = format!("{} -> {}", from.name, to.name);
        for address in &to.addresses {
            let shown = untranslated(from, to, *address).map(|itself| itself.to_string());
            proofs.push(Proof::of(&subject, "seen as itself, no NAT", shown));
        }
        proofs.push(Proof::of(&subject, "a port for each pod", port_of_each(from, to)));
        if from.node.name != to.node.name && from.node.netns.is_some() {
            proofs.push(Proof::of(&subject, "the path between nodes", path(from, to)));
        }
    }
    Ok(proofs)
}

/// As whom the receiver saw the sender: as itself.
#[derive(Debug)]
pub(crate) struct Itself {
    tcp: SocketAddr,
    udp: SocketAddr,
    ping: IpAddr,
    rtt: Duration,
}

impl fmt::Display for Itself {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TCP from {}, UDP from {}, ping from {} in {:.1?}", self.tcp, self.udp, self.ping, self.rtt)
    }
}

/// By TCP, UDP and ping: what the receiver sees is what the sender has.
pub(crate) fn untranslated(from: &Subject, to: &Subject, address: IpAddr) -> Result<Itself> {
    let at = SocketAddr::new(address, 0);
    let server = TcpServer::start(&to.net, at)?;
    let tcp = as_it_is(from, "TCP", tcp_probe(&from.net, None, server.address(), SOON))?;
    let server = UdpServer::start(&to.net, at)?;
    let udp = as_it_is(from, "UDP", udp_probe(&from.net, None, server.address(), SOON))?;
    let witness = IcmpWitness::start(&to.net)?;
    let pong = ping(&from.net, address, SOON).map_err(|error| anyhow!("ping {address}: {error}"))?;
    let seen = witness.source_of(pong.token, SOON)?;
    if seen != pong.local {
        bail!("a ping sent from {} is seen as {seen}", pong.local);
    }
    own_address(from, "a ping", seen)?;
    Ok(Itself { tcp, udp, ping: seen, rtt: pong.rtt })
}

fn as_it_is(from: &Subject, kind: &str, seen: Result<Seen, FixtureError>) -> Result<SocketAddr> {
    let seen = seen?;
    if !seen.is_untranslated() {
        bail!("{kind} sent from {} is seen as {}", seen.local, seen.seen_by_peer);
    }
    own_address(from, kind, seen.local.ip())?;
    Ok(seen.local)
}

fn own_address(from: &Subject, kind: &str, address: IpAddr) -> Result<()> {
    if !from.addresses.contains(&address) {
        bail!("{kind} is sent from {address}, which is not an address of pod {}", from.name);
    }
    Ok(())
}

/// One port, taken in both pods at once, and refused a second time in one.
fn port_of_each(one: &Subject, other: &Subject) -> Result<String> {
    let at = |subject: &Subject, port| -> Result<SocketAddr> {
        let address =
            subject.addresses.first().ok_or_else(|| anyhow!("pod {} has no address", subject.name))?;
        Ok(SocketAddr::new(*address, port))
    };
    let first = TcpServer::start(&one.net, at(one, 0)?)?;
    let port = first.address().port();
    let _second = TcpServer::start(&other.net, at(other, port)?)
        .map_err(|error| anyhow!("port {port} of pod {}: {error}", other.name))?;
    if TcpServer::start(&one.net, at(one, port)?).is_ok() {
        bail!("port {port} was taken twice in pod {}", one.name);
    }
    Ok(format!("port {port} in both at once; a second time in {} is refused", one.name))
}

/// What goes over the uplink of the sender's node.
fn path(from: &Subject, to: &Subject) -> Result<String> {
    let Some(target) = to.addresses.first() else { bail!("pod {} has no address", to.name) };
    let packet = on_the_uplink(from, *target)?;
    Ok(format!("{} to {} {}", from.node.name, to.node.name, carried(&packet)))
}

/// A packet to `target` as it was captured on the uplink of the sender's node.
pub(crate) fn on_the_uplink(from: &Subject, target: IpAddr) -> Result<Packet> {
    let Some(netns) = &from.node.netns else { bail!("node {} is the machine itself", from.node.name) };
    let capture = Capture::start(&NetNs::open(netns)?, Some(UPLINK))?;
    let pong = ping(&from.net, target, SOON)?;
    let is_it = |packet: &Packet| {
        let inner = packet.innermost();
        (inner.src, inner.dst) == (pong.local, target)
    };
    Ok(capture.wait_for("the packet on the uplink", SOON, is_it)?)
}

/// How a packet is carried, in words.
pub(crate) fn carried(packet: &Packet) -> String {
    let ends = |headers: &Headers| format!("{} -> {}", headers.src, headers.dst);
    match &packet.vxlan {
        Some(vxlan) => {
            format!("by VXLAN {}: {} in {}", vxlan.vni, ends(&vxlan.inner), ends(&packet.outer))
        }
        None => format!("by plain route: {}", ends(&packet.outer)),
    }
}
