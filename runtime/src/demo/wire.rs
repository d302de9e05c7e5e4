//! What is on the fabric: the packet of a pod, captured at the switch, outer and inner addresses.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, bail};
use netns_fixtures::{Headers, Node, Packet, Transport};

use super::container::{Answer, Request};
use super::{
    cluster::{Cluster, Pod},
    plan::{self, Carriage, PORT},
    report::{Row, Section},
};

const WITHIN_MS: u64 = 1500;
/// For a packet that was answered to come out of the capture.
const SOON: Duration = Duration::from_secs(3);
/// Senders and receivers: n1 to n2, n1 to n3.
const ROUTES: [(&str, &str); 2] = [("web", "orders"), ("web", "ledger")];

pub(super) fn check(cluster: &Cluster, carriage: Carriage) -> Result<Section> {
    let mut rows = Vec::new();
    for (from, to) in ROUTES {
        for family in [0, 1] {
            rows.push(row(cluster, carriage, [cluster.pod(from)?, cluster.pod(to)?], family)?);
        }
    }
    Ok(Section::new("On the fabric, as captured at the switch: encapsulated only where it must be", rows))
}

fn row(cluster: &Cluster, carriage: Carriage, pods: [&Pod; 2], family: usize) -> Result<Row> {
    let [from, to] = pods;
    let (node, peer) = (&cluster.node(from.node)?.place, &cluster.node(to.node)?.place);
    let (src, dst) = (from.addresses[family], to.addresses[family]);
    let capture = cluster.fabric.capture(node)?;
    let service = SocketAddr::new(dst, PORT);
    let local = match from.ask(Request::Tcp { to: service, within_ms: WITHIN_MS })? {
        Ok(Answer::Seen { local, .. }) => local,
        other => bail!("{} to {service}: {other:?}", from.name),
    };
    let is_it = |packet: &Packet| {
        let h = packet.innermost();
        matches!(h.transport, Transport::Tcp { sport, syn: true, .. } if sport == local.port())
            && (h.src, h.dst) == (src, dst)
    };
    let packet = capture.wait_for("the packet on the fabric", SOON, is_it)?;
    let segments = plan::segments(carriage.backend, [from.node, to.node]);
    let (expected, why) = carriage.encapsulates(segments, dst);
    let failure = wrong(&packet, expected, [node, peer])
        .map(|wrong| format!("{} to {} ({service}) on the fabric: {wrong}", from.name, to.name));
    let kind = packet.vxlan.as_ref().map(|v| format!("VXLAN, VNI {}", v.vni));
    let inner = packet.vxlan.as_ref().map(|v| ends(&v.inner)).unwrap_or_default();
    Ok(Row {
        cells: vec![
            ("from", format!("{} ({})", from.name, from.node)),
            ("to", format!("{} ({})", to.name, to.node)),
            ("carried by", kind.unwrap_or_else(|| "plain route".to_owned())),
            ("because", why.to_owned()),
            ("outer", ends(&packet.outer)),
            ("inner", inner),
        ],
        failure,
    })
}

fn wrong(packet: &Packet, encapsulated: bool, nodes: [&Node; 2]) -> Option<String> {
    let has = |node: &Node, ip: IpAddr| node.addresses.iter().any(|a| a.ip() == ip);
    match (&packet.vxlan, encapsulated) {
        (None, true) => Some("it is not encapsulated".to_owned()),
        (Some(_), false) => Some("it is encapsulated".to_owned()),
        (None, false) => None,
        (Some(_), true) => {
            let right = has(nodes[0], packet.outer.src) && has(nodes[1], packet.outer.dst);
            (!right).then(|| format!("the outer addresses are {}", ends(&packet.outer)))
        }
    }
}

fn ends(headers: &Headers) -> String {
    let (name, ports) = match headers.transport {
        Transport::Tcp { sport, dport, .. } => ("TCP", Some((sport, dport))),
        Transport::Udp { sport, dport } => ("UDP", Some((sport, dport))),
        Transport::Icmp { .. } => ("ICMP", None),
        Transport::Other { .. } => ("IP", None),
    };
    match ports {
        Some((sport, dport)) => {
            let (src, dst) = (SocketAddr::new(headers.src, sport), SocketAddr::new(headers.dst, dport));
            format!("{name} {src} → {dst}")
        }
        None => format!("{name} {} → {}", headers.src, headers.dst),
    }
}
