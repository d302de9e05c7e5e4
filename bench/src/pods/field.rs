//! Who takes part: flatnet, the floors under it, and the plugins it is compared with, chained as users
//! chain them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flatnet_node_state::{Request, StateDir};
use serde_json::{Value, json};

use super::contender::{Contender, Kind};

/// The host port of every contender that has one; each is alone while it is measured.
const HOST_PORT: u16 = 8080;

/// flatnet plain: everything is a multiple of it.
pub(crate) const OURS: &str = "flatnet";
/// The kernel's own time: what flatnet is to stay close to.
pub(crate) const FLOOR: &str = "kernel alone (static C)";
/// The smallest process.
pub(crate) const PROCESS: &str = "/bin/true";

fn port_mappings() -> Value {
    json!({ "portMappings": [{ "hostPort": HOST_PORT, "containerPort": 80, "protocol": "tcp" }] })
}

/// Every contender. State goes below `state`.
///
/// # Errors
/// A pool could not be prepared.
pub(crate) fn all(state: &Path, floor: &Path, netavark: &Path) -> Result<Vec<Contender>> {
    let crowded = state.join("flatnet-crowded");
    crowd(&crowded)?;
    let mut all = vec![
        Contender { name: PROCESS.to_owned(), kind: Kind::Process },
        Contender { name: FLOOR.to_owned(), kind: Kind::Kernel(floor.to_owned()) },
        flatnet(OURS, state.join("flatnet4"), &["10.22.0.0/16"], json!({})),
        flatnet("flatnet dual stack", state.join("flatnet46"), &["10.23.0.0/16", "fd00:23::/64"], json!({})),
        flatnet("flatnet, 60,000 addresses used", crowded, &["10.31.0.0/16"], json!({})),
        flatnet("flatnet masquerade", state.join("masq"), &["10.29.0.0/16"], json!({ "masquerade": true })),
        flatnet(
            "flatnet masquerade + host port",
            state.join("port"),
            &["10.30.0.0/16"],
            json!({ "masquerade": true, "runtimeConfig": port_mappings() }),
        ),
    ];
    all.extend(reference(state));
    all.push(netavark_bridge(netavark));
    for (i, contender) in all.iter_mut().enumerate() {
        if let Kind::Chain(chain) = &mut contender.kind {
            for conf in chain {
                conf["cniVersion"] = json!("1.0.0");
                conf["name"] = json!(format!("bench{i}"));
            }
        }
    }
    Ok(all)
}

fn flatnet(name: &str, state: PathBuf, subnets: &[&str], more: Value) -> Contender {
    let mut conf = json!({ "type": "flatnet", "stateDir": state, "subnets": subnets, "mtu": 1500 });
    if let (Some(conf), Value::Object(more)) = (conf.as_object_mut(), more) {
        conf.extend(more);
    }
    Contender { name: name.to_owned(), kind: Kind::Chain(vec![conf]) }
}

/// Debian's containernetworking-plugins.
fn reference(state: &Path) -> Vec<Contender> {
    let ipam = |dir: &str, ranges: Value| json!({ "type": "host-local", "dataDir": state.join(dir), "ranges": ranges });
    let v4 = |net: u8| json!([{ "subnet": format!("10.{net}.0.0/16") }]);
    let v6 = |net: u8| json!([{ "subnet": format!("fd00:{net}::/64") }]);
    let bridge = |link: &str, ipam: Value| json!({ "type": "bridge", "bridge": link, "isGateway": true, "ipam": ipam });
    let ptp = |ipam: Value| json!({ "type": "ptp", "ipam": ipam });
    let mut masquerading = bridge("brm", ipam("bridgem", json!([v4(28)])));
    masquerading["ipMasq"] = json!(true);
    let portmap = json!({ "type": "portmap", "snat": true, "runtimeConfig": port_mappings() });
    [
        ("bridge+host-local", vec![bridge("br4", ipam("bridge4", json!([v4(24)])))]),
        ("bridge+host-local dual stack", vec![bridge("br46", ipam("bridge46", json!([v4(25), v6(25)])))]),
        ("bridge+host-local masquerade + portmap", vec![masquerading, portmap]),
        ("ptp+host-local", vec![ptp(ipam("ptp4", json!([v4(26)])))]),
        ("ptp+host-local dual stack", vec![ptp(ipam("ptp46", json!([v4(27), v6(27)])))]),
    ]
    .into_iter()
    .map(|(name, chain)| Contender { name: name.to_owned(), kind: Kind::Chain(chain) })
    .collect()
}

fn netavark_bridge(program: &Path) -> Contender {
    let network = json!({
        "name": "bench", "id": "be".repeat(32), "driver": "bridge", "network_interface": "nvbench",
        "subnets": [{ "subnet": "10.32.0.0/16", "gateway": "10.32.0.1" }],
        "ipv6_enabled": false, "internal": false, "dns_enabled": false,
        "ipam_options": { "driver": "host-local" },
    });
    let ports = json!([{
        "host_port": HOST_PORT, "container_port": 80, "protocol": "tcp", "host_ip": "", "range": 1
    }]);
    let options = json!({
        "networks": { "bench": { "static_ips": ["10.32.0.9"], "interface_name": "eth0" } },
        "network_info": { "bench": network },
        "port_mappings": ports,
    });
    Contender {
        name: "netavark bridge + host port".to_owned(),
        kind: Kind::Netavark(program.to_owned(), options),
    }
}

/// A /16 with 60,000 addresses taken by others.
fn crowd(state: &Path) -> Result<()> {
    const USED: u64 = 60_000;
    let addresses = StateDir::new(state).addresses();
    let network = "10.31.0.0/16".parse().context("a network")?;
    for owner in 1..=USED {
        let request = Request { owner, wanted: None, cooldown: 0, in_use: &|_| false };
        addresses.take(network, request).context("fill a pool")?;
    }
    Ok(())
}
