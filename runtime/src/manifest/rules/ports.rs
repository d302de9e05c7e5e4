//! Ports of containers and of the node.

use std::{collections::HashSet, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, PodSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{container::one_of, each, names};
use crate::manifest::{path::Path, problem::Report};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const RANGE: &str = "must be between 1 and 65535, inclusive";

/// Checks the ports of one container.
pub(super) fn ports(container: &Container, host_network: bool, path: &Path, report: &mut Report) {
    let mut seen = HashSet::new();
    for (index, port) in each(&container.ports).iter().enumerate() {
        let at = path.field("ports").index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            if let Err(why) = names::port(name) {
                report.invalid(&at.field("name"), name, why);
            }
            if !seen.insert(name) {
                report.duplicate(&at.field("name"), name);
            }
        }
        number(port.container_port, &at.field("containerPort"), report);
        if let Some(host) = port.host_port.filter(|port| *port != 0) {
            number(host, &at.field("hostPort"), report);
            if host_network && host != port.container_port {
                report.invalid(
                    &at.field("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
        one_of(port.protocol.as_ref(), &PROTOCOLS, &at.field("protocol"), report);
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty())
            && ip.parse::<IpAddr>().is_err()
        {
            report.invalid(
                &at.field("hostIP"),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
}

fn number(port: i32, path: &Path, report: &mut Report) {
    if !(1..=65535).contains(&port) {
        report.invalid(path, port, RANGE);
    }
}

/// The port of a probe or a hook: a number, or the name of one of the container's ports.
pub(super) fn reference(port: &IntOrString, container: &Container, path: &Path, report: &mut Report) {
    match port {
        IntOrString::Int(port) => number(*port, path, report),
        IntOrString::String(name) => {
            if let Err(why) = names::port(name) {
                report.invalid(path, name, why);
            } else if !each(&container.ports).iter().any(|port| port.name.as_deref() == Some(name)) {
                report.not_found(path, name);
            }
        }
    }
}

/// Checks that no two ports of the node are asked for at the same time.
///
/// Init containers run alone, so each counts for itself; sidecars run beside the others.
pub(super) fn host_ports(spec: &PodSpec, path: &Path, report: &mut Report) {
    let mut together: Vec<&ContainerPort> = Vec::new();
    for (index, container) in each(&spec.init_containers).iter().enumerate() {
        let at = path.field("initContainers").index(index);
        if container.restart_policy.as_deref() == Some("Always") {
            unique(container, &mut together, &at, report);
        } else {
            unique(container, &mut Vec::new(), &at, report);
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        unique(container, &mut together, &path.field("containers").index(index), report);
    }
}

fn unique<'a>(
    container: &'a Container,
    taken: &mut Vec<&'a ContainerPort>,
    path: &Path,
    report: &mut Report,
) {
    for (index, port) in each(&container.ports).iter().enumerate() {
        if port.host_port.unwrap_or(0) == 0 {
            continue;
        }
        if taken.iter().any(|other| collide(port, other)) {
            let ip = port.host_ip.as_deref().unwrap_or_default();
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let value = format!("{protocol}/{ip}/{}", port.host_port.unwrap_or(0));
            report.duplicate(&path.field("ports").index(index).field("hostPort"), &value);
        }
        taken.push(port);
    }
}

/// A port on all addresses takes it on each of them.
fn collide(a: &ContainerPort, b: &ContainerPort) -> bool {
    let address = |port: &ContainerPort| port.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    let everywhere = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    let (here, there) = (address(a), address(b));
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && (here == there || everywhere(here) || everywhere(there))
}
