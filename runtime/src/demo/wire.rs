//! What is on the fabric: the packet of a pod as it leaves its node, outer and inner addresses.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::{
    FAR,
    report::{Row, Section},
    stage::Stage,
};
use crate::{
    carriage::Carriage,
    commands::check::{
        Subject,
        pair::{carried, on_the_uplink},
    },
};

/// Encapsulated only where it must be.
pub(super) fn check(stage: &Stage, carriage: Carriage) -> Result<Section> {
    let clients = stage.subjects(super::CLIENTS)?;
    let of = |node: &str| {
        let found = clients.iter().find(|client| client.node.name == node);
        found.with_context(|| format!("no client is on {node}"))
    };
    let mut rows = vec![];
    for node in ["n2", FAR] {
        let (from, to) = (of("n1")?, of(node)?);
        rows.extend(to.addresses.iter().map(|address| row(from, to, *address, carriage)));
    }
    let claim = "On the fabric, as captured: encapsulated only where it must be";
    Ok(Section::new(claim, "from, to and how it is to be", rows))
}

fn row(from: &Subject, to: &Subject, address: IpAddr, carriage: Carriage) -> Row {
    let (must, why) = carriage.encapsulates(to.node.name == FAR, address);
    let how = if must { "VXLAN" } else { "plain route" };
    let subject = format!("{} → {}: {how} ({why})", from.node.name, to.node.name);
    Row::of(subject, seen(from, to, address, must))
}

fn seen(from: &Subject, to: &Subject, address: IpAddr, must: bool) -> Result<String> {
    let packet = on_the_uplink(from, address)?;
    let shown = carried(&packet);
    if packet.vxlan.is_some() != must {
        bail!("{shown}");
    }
    let nodes = [&from.node, &to.node].map(|node| &node.addresses);
    if must && !(nodes[0].contains(&packet.outer.src) && nodes[1].contains(&packet.outer.dst)) {
        bail!("{shown}: the outer addresses are not the nodes'");
    }
    Ok(shown)
}
