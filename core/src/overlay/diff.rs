//! The one diff: from what the kernel shows to what it should show, as ordered steps.
//!
//! Everything new comes before anything old goes: a route is replaced while its old nexthop still stands,
//! because the kernel drops the routes of a nexthop with it, and those of a link with that.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::desired::{ABSENT_PODS_METRIC, Desired};
use super::snapshot::{Link, Snapshot};
use super::{is_tunnel_if, sysctl};
use crate::link::Mac;
use crate::names::IfName;
use crate::step::{Fdb, LinkChange, LinkRef, Neighbour, Nexthop, Ns, Put, Route, Step, Via};

mod filter;
mod tunnel;

/// First number of our nexthop objects ('F' in the top byte, far from anyone who counts from one).
const FIRST_NEXTHOP: u32 = 0x4600_0000;

/// The steps that make the kernel what it should be; none where it is so already. Takes time linear in the
/// number of objects.
#[must_use]
pub fn diff(want: &Desired, have: &Snapshot) -> Vec<Step> {
    plan(want, have).steps
}

/// What is to be done, and what is known once it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Numbers of the nexthop objects of [`Desired::hops`], in that order.
    pub nexthops: Vec<u32>,
}

/// The same as [`diff`], with the numbers that the nexthop objects have or get.
#[must_use]
pub fn plan(want: &Desired, have: &Snapshot) -> Plan {
    let mut work = Diff::new(want, have);
    let tunnel = want.tunnel.as_ref();
    work.filter(tunnel);
    if let Some(tunnel) = tunnel {
        work.tunnel(tunnel);
    }
    if let Some((uplink, size)) = &want.raise {
        let change = LinkChange { segment_size: Some(*size), ..LinkChange::default() };
        work.steps.push(Step::SetLink(LinkRef::node(uplink.clone()), change));
    }
    work.settings();
    let empty = (Vec::new(), Vec::new());
    let (neighbours, fdb) = tunnel.map_or((&empty.0, &empty.1), |t| (&t.neighbours, &t.fdb));
    work.fdb(fdb);
    work.neighbours(neighbours);
    let hops = work.nexthops();
    work.routes(&hops);
    work.stale_links();
    work.stale_senders(tunnel);
    work.steps.append(&mut work.away);
    Plan { steps: work.steps, nexthops: hops }
}

struct Diff<'a> {
    want: &'a Desired,
    have: &'a Snapshot,
    /// Links that go before anything is made, with all that hangs on them.
    gone: HashSet<&'a IfName>,
    /// Links that go last, with all that hangs on them.
    doomed: HashSet<&'a IfName>,
    /// Links whose neighbours the kernel forgets meanwhile.
    forgetful: HashSet<&'a IfName>,
    steps: Vec<Step>,
    /// What goes once everything new is there, in this order.
    away: Vec<Step>,
}

impl<'a> Diff<'a> {
    fn new(want: &'a Desired, have: &'a Snapshot) -> Self {
        let wanted = want.tunnel.as_ref().map(|tunnel| &tunnel.device.name);
        let doomed = have
            .links
            .iter()
            .map(|link| &link.name)
            .filter(|name| is_tunnel_if(name.as_str()) && Some(*name) != wanted)
            .collect();
        Self {
            want,
            have,
            gone: HashSet::new(),
            doomed,
            forgetful: HashSet::new(),
            steps: Vec::new(),
            away: Vec::new(),
        }
    }

    fn delete_link(&mut self, link: &'a Link) {
        self.gone.insert(&link.name);
        self.steps.push(Step::DeleteLink(LinkRef::node(link.name.clone())));
    }

    /// A node that forwards IPv6 no longer listens to router advertisements on links with `accept_ra=1`:
    /// its own default route would expire. Links that listen are told to go on first.
    fn settings(&mut self) {
        for (key, value) in &self.want.sysctls {
            if self.have.sysctls.get(key) == Some(value) {
                continue;
            }
            if key == sysctl::IPV6_FORWARD {
                for link in self.have.links.iter().filter(|link| !is_tunnel_if(link.name.as_str())) {
                    let key = sysctl::accept_ra(&link.name);
                    if self.have.sysctls.get(&key).is_some_and(|value| value == "1") {
                        self.steps.push(Step::SetSysctl(Ns::Node, key, "2".to_owned()));
                    }
                }
            }
            self.steps.push(Step::SetSysctl(Ns::Node, key.clone(), value.clone()));
        }
    }

    fn fdb(&mut self, want: &[Fdb]) {
        let mut seen: HashMap<(&IfName, Mac), Vec<IpAddr>> = HashMap::with_capacity(self.have.fdb.len());
        for (link, entry) in self.have.fdb.iter().filter(|(link, _)| !self.gone.contains(link)) {
            seen.entry((link, entry.mac)).or_default().push(entry.node);
        }
        if let Some(device) = self.want.tunnel.as_ref().map(|tunnel| &tunnel.device.name) {
            let link = || LinkRef::node(device.clone());
            for entry in want {
                match seen.remove(&(device, entry.mac)).as_deref() {
                    Some([only]) if *only == entry.node => {}
                    None | Some([_]) => self.steps.push(Step::PutFdb(link(), *entry)),
                    // Replacing replaces one of several destinations: start afresh.
                    Some(several) => {
                        let drop = |node: &IpAddr| Step::DropFdb(link(), Fdb { mac: entry.mac, node: *node });
                        self.steps.extend(several.iter().map(drop));
                        self.steps.push(Step::PutFdb(link(), *entry));
                    }
                }
            }
        }
        for (link, entry) in &self.have.fdb {
            if seen.contains_key(&(link, entry.mac)) && !self.doomed.contains(link) {
                self.away.push(Step::DropFdb(LinkRef::node(link.clone()), *entry));
            }
        }
    }

    fn neighbours(&mut self, want: &[Neighbour]) {
        let lost = |link| self.gone.contains(link) || self.forgetful.contains(link);
        let mut seen: HashMap<(&IfName, IpAddr), Mac> = self
            .have
            .neighbours
            .iter()
            .filter(|(link, _)| !lost(link))
            .map(|(link, neighbour)| ((link, neighbour.ip), neighbour.mac))
            .collect();
        if let Some(device) = self.want.tunnel.as_ref().map(|tunnel| &tunnel.device.name) {
            for neighbour in want {
                if seen.remove(&(device, neighbour.ip)) != Some(neighbour.mac) {
                    self.steps.push(Step::PutNeighbour(LinkRef::node(device.clone()), *neighbour));
                }
            }
        }
        for (link, neighbour) in &self.have.neighbours {
            if seen.contains_key(&(link, neighbour.ip)) && !self.doomed.contains(link) {
                self.away.push(Step::DropNeighbour(LinkRef::node(link.clone()), *neighbour));
            }
        }
    }

    /// The number of each wanted gateway's nexthop object: the one it has, or a free one.
    fn nexthops(&mut self) -> Vec<u32> {
        let mut seen: HashMap<(IpAddr, &IfName), u32> = HashMap::with_capacity(self.have.nexthops.len());
        for nexthop in self.have.nexthops.iter().filter(|nexthop| !self.gone.contains(&nexthop.link)) {
            let id = seen.entry((nexthop.gateway, &nexthop.link)).or_insert(nexthop.id);
            *id = nexthop.id.min(*id);
        }
        let mut free = (FIRST_NEXTHOP..).filter(|id| !self.have.nexthop_ids.contains(id));
        let mut used = HashSet::with_capacity(self.want.hops.len());
        let mut ids = Vec::with_capacity(self.want.hops.len());
        for hop in &self.want.hops {
            let id = match seen.get(&(hop.gateway, &hop.link)) {
                Some(id) => *id,
                None => {
                    let id = free.next().unwrap_or(u32::MAX);
                    let nexthop = Nexthop { id, gateway: hop.gateway, link: hop.link.clone() };
                    self.steps.push(Step::PutNexthop(nexthop));
                    id
                }
            };
            used.insert(id);
            ids.push(id);
        }
        for nexthop in &self.have.nexthops {
            let goes = self.gone.contains(&nexthop.link) || self.doomed.contains(&nexthop.link);
            if !goes && !used.contains(&nexthop.id) {
                self.away.push(Step::DropNexthop(nexthop.clone()));
            }
        }
        ids
    }

    fn routes(&mut self, hops: &[u32]) {
        let dead: HashSet<u32> = self
            .have
            .nexthops
            .iter()
            .filter(|nexthop| self.gone.contains(&nexthop.link))
            .map(|nexthop| nexthop.id)
            .collect();
        let lost = |via: &Via| match via {
            Via::Nexthop(id) => dead.contains(id),
            Via::Link(link) | Via::Gateway { link, .. } => self.gone.contains(link),
            Via::Unreachable => false,
        };
        let mut seen: HashMap<(IpNetwork, Option<u32>), &Route> = self
            .have
            .routes
            .iter()
            .filter(|route| !lost(&route.via))
            .map(|route| ((route.dst, route.metric), route))
            .collect();
        let to_pods = self.want.routes.iter().filter_map(|route| {
            let via = Via::Nexthop(*hops.get(route.hop)?);
            Some(Route { dst: route.dst, via, source: None, metric: None })
        });
        let to_none = self.want.own.iter().map(|dst| Route {
            dst: *dst,
            via: Via::Unreachable,
            source: None,
            metric: Some(ABSENT_PODS_METRIC),
        });
        for route in to_pods.chain(to_none) {
            match seen.remove(&(route.dst, route.metric)) {
                Some(same) if *same == route => {}
                Some(_) => self.steps.push(Step::PutRoute(Ns::Node, route, Put::Replace)),
                None => self.steps.push(Step::PutRoute(Ns::Node, route, Put::New)),
            }
        }
        let mut stale: Vec<&Route> = seen.into_values().collect();
        stale.sort();
        // Before the nexthops they may lead through.
        let drops = stale.into_iter().map(|route| Step::DropRoute(Ns::Node, route.clone()));
        self.away.splice(0..0, drops);
    }

    fn stale_links(&mut self) {
        let links = self.have.links.iter().map(|link| &link.name);
        for link in links.filter(|link| self.doomed.contains(link) && !self.gone.contains(link)) {
            self.away.push(Step::DeleteLink(LinkRef::node(link.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
