//! The tables of a node's kernel: as the keys in etcd ask for, worked out here from flannel's format alone,
//! and as iproute2 and nft show them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::EtcdNodes;
use crate::agent::AgentNode;
use crate::oracle;

/// The tunnel's device in VXLAN 1.
const DEVICE: &str = "flat.1";

/// One key below `subnets/`, as etcd holds it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The subnet that the key names.
    pub subnet: IpNetwork,
    /// etcd's revision of its creation.
    pub created: i64,
    /// Where the node is, and its `VtepMAC`; absent where the value makes no sense.
    pub at: Option<(IpAddr, String)>,
}

/// What a kernel holds of the network, a line each, sorted: a line that is there twice counts twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Routes of protocol 70, each with the gateway of its nexthop.
    pub routes: Vec<String>,
    /// Nexthops of protocol 70.
    pub nexthops: Vec<String>,
    /// Permanent neighbours on the tunnel.
    pub neighbours: Vec<String>,
    /// The tunnel's forwarding entries.
    pub fdb: Vec<String>,
    /// Whom the tunnel hears.
    pub senders: Vec<String>,
}

impl Tables {
    /// What `node`, whose subnet is `own` and whose segment is `segment`, should hold: nodes of its segment
    /// are gateways themselves, all others are behind the tunnel. `pods` are its own pods' addresses.
    #[must_use]
    pub fn wanted(entries: &[Entry], (own, segment): (IpNetwork, IpNetwork), pods: &[IpAddr]) -> Self {
        let mut wanted = Self::empty();
        wanted.routes.push(format!("unreachable {own}"));
        wanted.routes.extend(pods.iter().map(|pod| format!("{pod} dev fn")));
        for (subnet, at, mac) in usable(entries, own) {
            wanted.senders.push(at.to_string());
            let hop = if segment.contains(at) {
                format!("via {at} dev eth0")
            } else {
                wanted.neighbours.push(format!("{} lladdr {mac}", subnet.ip()));
                wanted.fdb.push(format!("{mac} dst {at}"));
                format!("via {} dev {DEVICE}", subnet.ip())
            };
            wanted.routes.push(format!("{subnet} {hop}"));
            wanted.nexthops.push(hop);
        }
        wanted.sorted()
    }

    /// What it holds.
    #[must_use]
    pub fn seen(node: &AgentNode) -> Self {
        let mut seen = Self::empty();
        let text = |object: &Value, key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let hops: BTreeMap<u64, String> = oracle::ip(node.ns(), "nexthop show protocol 70")
            .iter()
            .map(|hop| {
                let line = format!("via {} dev {}", text(hop, "gateway"), text(hop, "dev"));
                (hop["id"].as_u64().expect("a number"), line)
            })
            .collect();
        seen.nexthops = hops.values().cloned().collect();
        for family in ["-4", "-6"] {
            for route in oracle::ip(node.ns(), &format!("{family} route show proto 70")) {
                let dst = text(&route, "dst");
                seen.routes.push(match route["nhid"].as_u64() {
                    Some(id) => format!("{dst} {}", hops.get(&id).map_or("no nexthop of ours", |hop| hop)),
                    None if route["type"] == "unreachable" => format!("unreachable {dst}"),
                    // A pod's own link has a name that its container gives it.
                    None => format!("{dst} dev {}", text(&route, "dev").get(..2).unwrap_or_default()),
                });
            }
            let line = format!("{family} neigh show dev {DEVICE} nud permanent");
            for neighbour in oracle::ip(node.ns(), &line) {
                seen.neighbours.push(format!(
                    "{} lladdr {}",
                    text(&neighbour, "dst"),
                    text(&neighbour, "lladdr")
                ));
            }
        }
        let fdb = oracle::command(node.ns(), &format!("bridge -j fdb show dev {DEVICE}"));
        let fdb: Vec<Value> = serde_json::from_str(&fdb).expect("bridge -j prints JSON");
        seen.fdb =
            fdb.iter().map(|entry| format!("{} dst {}", text(entry, "mac"), text(entry, "dst"))).collect();
        seen.senders = senders(node);
        seen.sorted()
    }

    const fn empty() -> Self {
        Self {
            routes: Vec::new(),
            nexthops: Vec::new(),
            neighbours: Vec::new(),
            fdb: Vec::new(),
            senders: Vec::new(),
        }
    }

    fn sorted(mut self) -> Self {
        for table in
            [&mut self.routes, &mut self.nexthops, &mut self.neighbours, &mut self.fdb, &mut self.senders]
        {
            table.sort_unstable();
        }
        self
    }

    /// What one holds and the other does not, a line each.
    #[must_use]
    pub fn differences(&self, seen: &Self) -> String {
        let tables = [
            ("route", &self.routes, &seen.routes),
            ("nexthop", &self.nexthops, &seen.nexthops),
            ("neighbour", &self.neighbours, &seen.neighbours),
            ("forwarding entry", &self.fdb, &seen.fdb),
            ("sender", &self.senders, &seen.senders),
        ];
        let mut all = String::new();
        for (what, wanted, seen) in tables {
            for line in wanted.iter().chain(seen).collect::<BTreeSet<_>>() {
                let count = |lines: &[String]| lines.iter().filter(|other| *other == line).count();
                let (wanted, seen) = (count(wanted), count(seen));
                if wanted != seen {
                    all += &format!("{what} {line}: {seen} times instead of {wanted}\n");
                }
            }
        }
        all
    }
}

/// Everybody's subnet, address and MAC but our own: values that make sense, of two with one address the
/// younger (the node moved to another subnet), of two with one MAC the older (the younger's packets would go
/// to the wrong node).
fn usable(entries: &[Entry], own: IpNetwork) -> Vec<(IpNetwork, IpAddr, &str)> {
    let mut known: Vec<_> = entries
        .iter()
        .filter(|entry| entry.subnet != own)
        .filter_map(|entry| {
            entry.at.as_ref().map(|(at, mac)| (entry.created, entry.subnet, *at, mac.as_str()))
        })
        .collect();
    known.sort_unstable();
    let mut macs = BTreeSet::new();
    let youngest = |at: IpAddr| known.iter().rev().find(|other| other.2 == at).map(|other| other.1);
    let mut usable = Vec::new();
    for (_, subnet, at, mac) in &known {
        if youngest(*at) == Some(*subnet) && macs.insert(*mac) {
            usable.push((*subnet, *at, *mac));
        }
    }
    usable
}

fn senders(node: &AgentNode) -> Vec<String> {
    let sets = oracle::command(node.ns(), "nft -j list sets inet");
    let sets: Value = serde_json::from_str(&sets).expect("nft -j prints JSON");
    let sets = sets["nftables"].as_array().expect("a list").iter();
    let ours = sets
        .filter(|object| object["set"]["name"].as_str().is_some_and(|name| name.starts_with("vxlan-peers")));
    let elements = ours.filter_map(|object| object["set"]["elem"].as_array());
    elements.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl EtcdNodes {
    /// Everything below `subnets/`, keys that name no subnet left out.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let text = self.etcd[0].ctl(&["get", "--prefix", "-w", "fields", "/coreos.com/network/subnets/"]);
        let fields = text.lines().filter_map(|line| line.split_once(" : "));
        let (mut entries, mut key, mut created) = (Vec::new(), String::new(), 0);
        for (name, value) in fields {
            match name {
                "\"Key\"" => key = serde_json::from_str(value).expect("a quoted key"),
                "\"CreateRevision\"" => created = value.parse().expect("a revision"),
                "\"Value\"" => {
                    let value: String = serde_json::from_str(value).expect("a quoted value");
                    let subnet = key.rsplit('/').next().and_then(|key| key.replace('-', "/").parse().ok());
                    entries.extend(subnet.map(|subnet| Entry { subnet, created, at: at(&value) }));
                }
                _ => {}
            }
        }
        entries
    }
}

fn at(value: &str) -> Option<(IpAddr, String)> {
    let value: Value = serde_json::from_str(value).ok()?;
    let mac = value["BackendData"]["VtepMAC"].as_str()?.to_owned();
    Some((value["PublicIP"].as_str()?.parse().ok()?, mac))
}
