//! How two pods meet: each sees the other's own address and port, and both may use one port.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use netns_fixtures::{
    Capture, FixtureError, Headers, NetNs, Packet, UPLINK,
    probe::{Seen, TcpServer, UdpServer, ping, tcp_probe, udp_probe},
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
            let shown = untranslated(from, to, *address);
            proofs.push(Proof::of(&subject, "seen as itself, no NAT", shown));
        }
        proofs.push(Proof::of(&subject, "a port for each pod", port_of_each(from, to)));
        if from.node.name != to.node.name && from.node.netns.is_some() {
            proofs.push(Proof::of(&subject, "the path between nodes", path(from, to)));
        }
    }
    Ok(proofs)
}

/// By TCP, UDP and ping: what the receiver sees is what the sender has.
fn untranslated(from: &Subject, to: &Subject, address: IpAddr) -> Result<String> {
    let at = SocketAddr::new(address, 0);
    let server = TcpServer::start(&to.net, at)?;
    let tcp = as_it_is(from, "TCP", tcp_probe(&from.net, None, server.address(), SOON))?;
    let server = UdpServer::start(&to.net, at)?;
    let udp = as_it_is(from, "UDP", udp_probe(&from.net, None, server.address(), SOON))?;
    let pong = ping(&from.net, address, SOON).map_err(|error| anyhow!("ping {address}: {error}"))?;
    Ok(format!("TCP from {tcp}, UDP from {udp}, ping from {} in {:.1?}", pong.local, pong.rtt))
}

fn as_it_is(from: &Subject, kind: &str, seen: Result<Seen, FixtureError>) -> Result<SocketAddr> {
    let seen = seen?;
    if !seen.is_untranslated() {
        bail!("{kind} sent from {} is seen as {}", seen.local, seen.seen_by_peer);
    }
    if !from.addresses.contains(&seen.local.ip()) {
        bail!("{kind} is sent from {}, which is not an address of pod {}", seen.local.ip(), from.name);
    }
    Ok(seen.local)
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

/// What goes over the sender's node's uplink.
fn path(from: &Subject, to: &Subject) -> Result<String> {
    let Some(netns) = &from.node.netns else { bail!("node {} is the machine itself", from.node.name) };
    let Some(target) = to.addresses.first() else { bail!("pod {} has no address", to.name) };
    let capture = Capture::start(&NetNs::open(netns)?, Some(UPLINK))?;
    let pong = ping(&from.net, *target, SOON)?;
    let is_it = |packet: &Packet| {
        let inner = packet.innermost();
        (inner.src, inner.dst) == (pong.local, *target)
    };
    let packet = capture.wait_for("the packet on the uplink", SOON, is_it)?;
    let ends = |headers: &Headers| format!("{} -> {}", headers.src, headers.dst);
    let nodes = format!("{} to {}", from.node.name, to.node.name);
    Ok(match &packet.vxlan {
        Some(vxlan) => {
            format!("{nodes} by VXLAN {}: {} in {}", vxlan.vni, ends(&vxlan.inner), ends(&packet.outer))
        }
        None => format!("{nodes} by plain route: {}", ends(&packet.outer)),
    })
}
