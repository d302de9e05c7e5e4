//! Ports belong to pods: two pods serve the same one, two containers of one pod cannot; localhost is
//! the pod's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, bail};

use super::container::{Answer, Refusal, Request};
use super::{
    cluster::{Cluster, Pod},
    plan::{LOCAL_PORT, PORT},
    report::{Row, Section},
};

const WITHIN_MS: u64 = 1500;
/// The pod with two containers that this is shown with, its neighbour on the same node, and a client.
const POD: &str = "web";
const NEIGHBOUR: &str = "cart";
const CLIENT: &str = "orders";

/// What was expected of one attempt.
enum Expected {
    Answer,
    Errno(i32, &'static str),
}

pub(super) fn check(cluster: &Cluster) -> Result<Section> {
    let (pod, neighbour, client) = (cluster.pod(POD)?, cluster.pod(NEIGHBOUR)?, cluster.pod(CLIENT)?);
    let mut rows = Vec::new();
    for server in [pod, neighbour] {
        let to = SocketAddr::new(server.addresses[0], PORT);
        let tcp = client.ask(Request::Tcp { to, within_ms: WITHIN_MS })?;
        let what = format!("{CLIENT} connects to {to} ({} on {})", server.name, server.node);
        rows.push(row(what, &tcp, &Expected::Answer));
    }
    let [first, second] = names(pod)?;
    let in_use = pod.ask_container(1, Request::Serve { address: ([0; 16], PORT).into() })?;
    let what = format!("{POD}/{second} binds port {PORT} too, which {POD}/{first} serves");
    rows.push(row(what, &in_use, &Expected::Errno(libc::EADDRINUSE, "EADDRINUSE")));
    for local in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let to = SocketAddr::new(local, LOCAL_PORT);
        let served = pod.ask_container(1, Request::Serve { address: to })?;
        rows.push(row(format!("{POD}/{second} serves {to}"), &served, &Expected::Answer));
        let tcp = Request::Tcp { to, within_ms: WITHIN_MS };
        let inside = format!("{POD}/{first} connects to {to}");
        rows.push(row(inside, &pod.ask(tcp)?, &Expected::Answer));
        let outside = format!("{NEIGHBOUR} connects to {to}, its own localhost");
        let refused = Expected::Errno(libc::ECONNREFUSED, "ECONNREFUSED");
        rows.push(row(outside, &neighbour.ask(tcp)?, &refused));
    }
    let claim = "Ports and localhost belong to a pod: pods serve one port at once, containers of a pod share";
    Ok(Section::new(claim, rows))
}

fn names(pod: &Pod) -> Result<[String; 2]> {
    let name = |container: &std::sync::Mutex<super::container::Container>| {
        let container = container.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        container.name.clone()
    };
    match pod.containers.as_slice() {
        [first, second, ..] => Ok([name(first), name(second)]),
        _ => bail!("{} has not two containers", pod.name),
    }
}

fn row(attempt: String, got: &Result<Answer, Refusal>, expected: &Expected) -> Row {
    let result = match got {
        Ok(Answer::Seen { by_peer, .. }) => format!("answered, seen as {by_peer}"),
        Ok(Answer::Serving) => "done".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(refusal) => refusal.message.clone(),
    };
    let (wanted, so) = match (expected, got) {
        (Expected::Answer, Ok(_)) => ("succeeds", true),
        (Expected::Answer, Err(_)) => ("succeeds", false),
        (Expected::Errno(number, name), Err(refusal)) => (*name, refusal.errno == Some(*number)),
        (Expected::Errno(_, name), Ok(_)) => (*name, false),
    };
    let failure = (!so).then(|| format!("{attempt}: expected {wanted}, got: {result}"));
    Row { cells: vec![("attempt", attempt), ("must be", wanted.to_owned()), ("was", result)], failure }
}
