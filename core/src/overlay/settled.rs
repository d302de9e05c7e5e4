//! The short way from one cluster to the next. Where the last look at the kernel left nothing to do, the kernel
//! is known without another: few nodes that come, change or go are then the same diff over those nodes only.
//! Whether it was right is for the next look to find out.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::{Cluster, Member};
use super::desired::{ABSENT_PODS_METRIC, Beside, Desired};
use super::diff::{Plan, plan};
use super::filter::FilterSeen;
use super::settings::{Settings, Uplink};
use super::snapshot::{Link, Snapshot, VxlanSeen};
use crate::link::SegmentSizes;
use crate::names::NodeName;
use crate::step::{Nexthop, Route, Step, Via};

/// More nodes at once than this take the long way, which costs them no more each.
const MOST: usize = 256;

/// Numbers of the nexthop objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Ours, by whether they lead into the tunnel, and by gateway.
    ours: HashMap<(bool, IpAddr), u32>,
    /// All that somebody has.
    taken: HashSet<u32>,
}

impl Numbers {
    /// Of the hops of `desired`, which got `numbers`. `taken` are those that the kernel showed before.
    #[must_use]
    pub fn of(desired: &Desired, numbers: &[u32], mut taken: HashSet<u32>) -> Self {
        taken.extend(numbers);
        let tunnel = desired.tunnel.as_ref().map(|tunnel| &tunnel.device.name);
        let key = desired.hops.iter().map(|hop| (Some(&hop.link) == tunnel, hop.gateway));
        Self { ours: key.zip(numbers.iter().copied()).collect(), taken }
    }
}

/// What the last look made of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    settings: Settings,
    uplink: Uplink,
    cluster: Arc<Cluster>,
    numbers: Numbers,
}

/// What a change of the cluster asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The steps, in the order of the diff.
    pub steps: Vec<Step>,
    /// Nodes that are new or not as they were.
    pub put: Vec<Member>,
    /// Nodes that are there no longer.
    pub gone: Vec<NodeName>,
}

impl Settled {
    /// The kernel is as `cluster` wants it under `settings` and over `uplink`.
    #[must_use]
    pub const fn new(settings: Settings, uplink: Uplink, cluster: Arc<Cluster>, numbers: Numbers) -> Self {
        Self { settings, uplink, cluster, numbers }
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The uplink.
    #[must_use]
    pub const fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// What leads from here to `cluster`, and what is then. `None` where that takes a look at the kernel: the
    /// node itself, its settings, the networks or the need of a tunnel are others, or too many nodes are.
    #[must_use]
    pub fn towards(mut self, settings: &Settings, cluster: &Arc<Cluster>) -> Option<(Change, Self)> {
        if self.settings != *settings || self.cluster.networks != cluster.networks {
            return None;
        }
        let (old, new) = changed(&self.cluster, cluster)?;
        let me = self.cluster.member(&settings.node)?;
        if old.iter().chain(&new).any(|node| node.name == me.name) {
            return None;
        }
        let tunnels = |cluster: &Cluster| Desired::tunnels(settings, &self.uplink, cluster);
        let tunnelled = tunnels(&self.cluster);
        if tunnels(cluster) != tunnelled {
            return None;
        }
        let beside = if tunnelled { Beside::Tunnelled } else { Beside::Nobody };
        let part = |nodes: &[&Member]| {
            let nodes = std::iter::once(me).chain(nodes.iter().copied()).cloned().collect();
            let part = Cluster { networks: cluster.networks.clone(), nodes };
            Desired::part(settings, &self.uplink, &part, beside).ok()
        };
        let (before, after) = (part(&old)?, part(&new)?);
        if after.raise.is_some() {
            return None;
        }
        let names: HashSet<&NodeName> = new.iter().map(|node| &node.name).collect();
        let gone = old.iter().map(|node| &node.name).filter(|name| !names.contains(name));
        let gone = gone.cloned().collect();
        let put = new.into_iter().cloned().collect();
        let seen = seen(&before, &mut self.numbers)?;
        let Plan { steps, .. } = plan(&after, &seen);
        self.numbers.taken = seen.nexthop_ids;
        self.numbers.follow(&steps, &self.uplink);
        self.cluster = Arc::clone(cluster);
        Some((Change { steps, put, gone }, self))
    }
}

impl Numbers {
    fn follow(&mut self, steps: &[Step], uplink: &Uplink) {
        let key = |nexthop: &Nexthop| (nexthop.link != uplink.name, nexthop.gateway);
        for step in steps {
            match step {
                Step::PutNexthop(nexthop) => {
                    self.taken.insert(nexthop.id);
                    self.ours.insert(key(nexthop), nexthop.id);
                }
                Step::DropNexthop(nexthop) => {
                    self.taken.remove(&nexthop.id);
                    self.ours.remove(&key(nexthop));
                }
                _ => {}
            }
        }
    }
}

/// Which nodes are not the same in both, as they were and as they are. `None` where they are too many.
fn changed<'a>(old: &'a Cluster, new: &'a Cluster) -> Option<(Vec<&'a Member>, Vec<&'a Member>)> {
    let (old, new) = (old.nodes.as_slice(), new.nodes.as_slice());
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same..], &new[same..]);
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - same], &new[..new.len() - same]);
    if old.len().abs_diff(new.len()) > MOST {
        return None;
    }
    let by_name = |nodes: &'a [Member]| -> HashMap<&'a NodeName, &'a Member> {
        nodes.iter().map(|node| (&node.name, node)).collect()
    };
    let (was, is) = (by_name(old), by_name(new));
    let differs = |others: &HashMap<&NodeName, &Member>, node: &Member| others.get(&node.name) != Some(&node);
    let old: Vec<&Member> = old.iter().filter(|node| differs(&is, node)).collect();
    let new: Vec<&Member> = new.iter().filter(|node| differs(&was, node)).collect();
    (old.len().max(new.len()) <= MOST).then_some((old, new))
}

/// The kernel as a look would find it that is as `desired` wants it. Takes the numbers that somebody has along.
fn seen(desired: &Desired, numbers: &mut Numbers) -> Option<Snapshot> {
    let tunnel = desired.tunnel.as_ref();
    let device = tunnel.map(|tunnel| &tunnel.device);
    let link = device.map(|device| Link {
        name: device.name.clone(),
        up: true,
        mtu: device.mtu,
        mac: Some(device.mac),
        segments: SegmentSizes::default(),
        addresses: tunnel.map_or_else(Vec::new, |tunnel| tunnel.addresses.clone()),
        vxlan: Some(VxlanSeen::of(device)),
    });
    let nexthops = desired.hops.iter().map(|hop| {
        let tunnelled = device.is_some_and(|device| device.name == hop.link);
        let id = *numbers.ours.get(&(tunnelled, hop.gateway))?;
        Some(Nexthop { id, gateway: hop.gateway, link: hop.link.clone() })
    });
    let nexthops = nexthops.collect::<Option<Vec<Nexthop>>>()?;
    let to_pods = desired.routes.iter().filter_map(|route| {
        let via = Via::Nexthop(nexthops.get(route.hop)?.id);
        Some(Route { dst: route.dst, via, source: None, metric: None })
    });
    let to_none = desired.own.iter().map(|dst| {
        let metric = Some(ABSENT_PODS_METRIC);
        Route { dst: *dst, via: Via::Unreachable, source: None, metric }
    });
    let routes = to_pods.chain(to_none).collect();
    let own_device = |device: &crate::step::Vxlan| device.name.clone();
    let name = device.map(own_device);
    let filter = tunnel.and_then(|tunnel| {
        let senders = tunnel.senders.clone();
        Some(FilterSeen { marks: tunnel.filter?.marks(), senders })
    });
    let of_tunnel = || tunnel.into_iter().zip(&name);
    Some(Snapshot {
        routes,
        nexthops,
        nexthop_ids: std::mem::take(&mut numbers.taken),
        neighbours: of_tunnel()
            .flat_map(|(tunnel, name)| tunnel.neighbours.iter().map(|entry| (name.clone(), *entry)))
            .collect(),
        fdb: of_tunnel()
            .flat_map(|(tunnel, name)| tunnel.fdb.iter().map(|entry| (name.clone(), *entry)))
            .collect(),
        sysctls: desired.sysctls.iter().chain(tunnel.iter().flat_map(|t| &t.sysctls)).cloned().collect(),
        filter: filter.unwrap_or_default(),
        links: link.into_iter().collect(),
        ..Snapshot::default()
    })
}

#[cfg(test)]
mod tests;
