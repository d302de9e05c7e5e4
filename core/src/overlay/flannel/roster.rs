//! The cluster that the entries add up to. One entry that makes no sense is left out and named; it costs
//! nobody else their place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::Entry;
use super::claim::Me;
use super::key::SubnetKey;
use super::network::{Network, number};
use super::offer::{Offer, Travels};
use crate::link::Mac;
use crate::names::NodeName;
use crate::overlay::cluster::{self, Cluster, Member};
use crate::overlay::settings::{Backend, Settings};

/// More new entries than this are taken in with all others.
const JOINING: usize = 64;

/// A cluster, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// This node and every entry that makes sense.
    pub cluster: Arc<Cluster>,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {key} is left out: {why}")]
pub struct Rejected {
    /// Its key.
    pub key: SubnetKey,
    /// The node that it names.
    pub node: Option<NodeName>,
    /// What is wrong with it.
    pub why: String,
}

impl Roster {
    /// The cluster as `me`, which has the subnets of `key`, sees it: the entries that are there, and of those
    /// that vanished a moment ago the ones whose place nobody took. `None` while this node has no address.
    pub fn of<'a, I, J>(
        (network, settings): (&Network, &Settings),
        (me, key): (&Me, SubnetKey),
        (entries, leaving): (I, J),
    ) -> Option<Self>
    where
        I: Iterator<Item = &'a Entry> + Clone,
        J: Iterator<Item = &'a Entry>,
    {
        let own = Member {
            name: settings.node.clone(),
            address: me.offer.address()?,
            subnets: key.subnets().collect(),
            vtep: Mac::of_vtep(&settings.node),
        };
        let latest = latest(entries.clone());
        let mut work = Work { network, settings, nodes: Vec::new(), seats: Seats::default(), latest };
        work.seat(own);
        // Whoever came first keeps a subnet.
        let mut others: Vec<&Entry> =
            entries.filter(|entry| entry.key != key || !me.is_mine(entry)).collect();
        others.sort_unstable_by_key(|entry| (entry.created, entry.key));
        let mut rejected = Vec::new();
        for entry in others {
            match work.member(entry, me) {
                Ok(member) => work.seat(member),
                Err(why) => {
                    let node = entry.offer.as_ref().ok().and_then(|offer| offer.node.clone());
                    rejected.push(Rejected { key: entry.key, node, why });
                }
            }
        }
        for entry in leaving {
            // One that is back elsewhere, or whose place is taken, is no news.
            if let Ok(member) = work.member(entry, me) {
                work.seat(member);
            }
        }
        let mut nodes = work.nodes;
        nodes.sort_unstable_by(|a, b| a.subnets.cmp(&b.subnets));
        let cluster = Arc::new(Cluster { networks: network.networks.clone(), nodes });
        Some(Self { cluster, rejected })
    }

    /// What [`Self::of`] makes of the same and `new`, where no entry was leaving. `entries` are all that are
    /// there now. `None` where that has to be asked: where one that is new may cost an older one its place, or
    /// has none itself, or where they are many.
    pub fn join<'a>(
        &self,
        (network, settings): (&Network, &Settings),
        me: &Me,
        new: &[&Entry],
        mut entries: impl Iterator<Item = &'a Entry>,
    ) -> Option<Self> {
        let since = new.iter().map(|entry| entry.created).min().filter(|_| new.len() <= JOINING)?;
        let address = |entry: &Entry| entry.offer.as_ref().ok().and_then(Offer::address);
        let addresses: HashSet<Option<IpAddr>> = new.iter().map(|entry| address(entry)).collect();
        let is_new = |entry: &Entry| new.iter().any(|new| new.key == entry.key);
        let matters = |entry: &Entry| entry.created >= since || addresses.contains(&address(entry));
        if addresses.len() < new.len() || entries.any(|entry| matters(entry) && !is_new(entry)) {
            return None;
        }
        let (nodes, seats, latest) = (Vec::new(), Seats::default(), HashMap::new());
        let mut work = Work { network, settings, nodes, seats, latest };
        let mut new = new.to_vec();
        new.sort_unstable_by_key(|entry| (entry.created, entry.key));
        for entry in new {
            let member = work.member(entry, me).ok()?;
            if self.cluster.nodes.iter().any(|other| other.vtep == member.vtep || member.clashes_with(other))
            {
                return None;
            }
            work.seat(member);
        }
        let mut nodes = Vec::with_capacity(self.cluster.nodes.len() + work.nodes.len());
        nodes.extend_from_slice(&self.cluster.nodes);
        for member in work.nodes {
            let at = nodes.partition_point(|node: &Member| node.subnets < member.subnets);
            nodes.insert(at, member);
        }
        let cluster = Arc::new(Cluster { networks: network.networks.clone(), nodes });
        Some(Self { cluster, rejected: self.rejected.clone() })
    }
}

/// For each address the newest entry: a node that took new subnets may have left old ones behind.
fn latest<'a>(entries: impl Iterator<Item = &'a Entry>) -> HashMap<IpAddr, (i64, SubnetKey)> {
    let mut latest = HashMap::new();
    for entry in entries {
        let Some(address) = entry.offer.as_ref().ok().and_then(Offer::address) else { continue };
        let this = (entry.created, entry.key);
        latest.entry(address).and_modify(|known| *known = this.max(*known)).or_insert(this);
    }
    latest
}

struct Work<'a> {
    network: &'a Network,
    settings: &'a Settings,
    /// Who is a member already.
    nodes: Vec<Member>,
    seats: Seats,
    latest: HashMap<IpAddr, (i64, SubnetKey)>,
}

impl Work<'_> {
    fn member(&self, entry: &Entry, me: &Me) -> Result<Member, String> {
        let offer = entry.offer.as_ref().map_err(ToString::to_string)?;
        if me.is_mine(entry) {
            return Err("this node has left it behind; it goes when its lease ends".to_owned());
        }
        let networks = &self.network.networks;
        let address = offer.address().ok_or("it has no address")?;
        cluster::check_address(address, networks).map_err(|why| format!("address {address} {why}"))?;
        if let Some((_, newer)) = self.latest.get(&address).filter(|newest| newest.1 != entry.key) {
            return Err(format!("the node at {address} has {newer} by now"));
        }
        let mut subnets = Vec::with_capacity(2);
        for subnet in entry.key.subnets() {
            cluster::check_subnet(subnet, networks).map_err(|why| format!("subnet {subnet} {why}"))?;
            if let Some((held, holder)) = self.seats.holder(subnet) {
                let holder = &self.nodes[holder].name;
                return Err(format!("subnet {subnet} overlaps {held} of {holder}, which was there first"));
            }
            subnets.push(subnet);
        }
        let name = self.name(entry)?;
        let vtep = self.vtep(offer, &name)?;
        Ok(Member { name, address, subnets, vtep })
    }

    /// Takes a member in.
    fn seat(&mut self, member: Member) {
        self.seats.take(self.nodes.len(), &member);
        self.nodes.push(member);
    }

    /// The node's own name where it published one that is free, else that of its key.
    fn name(&self, entry: &Entry) -> Result<NodeName, String> {
        let own = entry.offer.as_ref().ok().and_then(|offer| offer.node.clone());
        if let Some(name) = own.filter(|name| !self.seats.names.contains(name)) {
            return Ok(name);
        }
        // Colons and `&` have no place in a name. A key is one of a kind, and so is this.
        let text = entry.key.to_string();
        let text = text.split('&').next().filter(|v4| *v4 != "0.0.0.0-0").unwrap_or(&text);
        if !text.contains([':', '&']) {
            return text.parse().map_err(|e: crate::names::NameError| e.to_string());
        }
        text.replace([':', '&'], "_").parse().map_err(|e: crate::names::NameError| e.to_string())
    }

    fn vtep(&self, offer: &Offer, name: &NodeName) -> Result<Mac, String> {
        let tunnels = self.settings.backend != Backend::Direct;
        match &offer.travels {
            Travels::Vxlan { vni, .. } if tunnels && *vni != self.settings.vni => Err(format!(
                "it is in VXLAN {vni}, this node in {}",
                self.settings.vni.get(),
                vni = vni.get()
            )),
            Travels::Vxlan { .. } => {
                let mac = offer.vtep().ok_or("it names no VtepMAC for its address")?;
                match self.seats.macs.get(&mac).filter(|_| tunnels) {
                    Some(holder) => {
                        let holder = &self.nodes[*holder].name;
                        Err(format!("it has the VtepMAC {mac} of {holder}; nodes need names of their own"))
                    }
                    None => Ok(mac),
                }
            }
            // It takes packets as they are; `vxlan` has none of those.
            Travels::HostGw if self.settings.backend != Backend::Vxlan => Ok(Mac::of_vtep(name)),
            Travels::HostGw => {
                Err("its backend is host-gw, this network's is vxlan; restart its agent".to_owned())
            }
            Travels::Other(other) => {
                Err(format!("its backend is {other:?}; Flatnet has \"vxlan\" and \"host-gw\""))
            }
        }
    }
}

/// What is taken already, each by the member of this place.
#[derive(Default)]
struct Seats {
    names: HashSet<NodeName>,
    macs: HashMap<Mac, usize>,
    /// Subnets by first address; none overlaps another.
    subnets: BTreeMap<(bool, u128), (IpNetwork, usize)>,
}

impl Seats {
    fn take(&mut self, place: usize, member: &Member) {
        self.names.insert(member.name.clone());
        self.macs.insert(member.vtep, place);
        for subnet in &member.subnets {
            self.subnets.insert((subnet.is_ipv6(), number(subnet.ip())), (*subnet, place));
        }
    }

    /// Who has addresses of `subnet`: the last that begins before it, or the first that begins in it.
    fn holder(&self, subnet: IpNetwork) -> Option<(IpNetwork, usize)> {
        let at = (subnet.is_ipv6(), number(subnet.ip()));
        let before = self.subnets.range(..=at).next_back();
        let after = self.subnets.range(at..).next();
        let shares = |held: IpNetwork| held.contains(subnet.ip()) || subnet.contains(held.ip());
        let mut both = [before, after].into_iter().flatten().map(|(_, held)| *held);
        both.find(|(held, _)| held.is_ipv6() == subnet.is_ipv6() && shares(*held))
    }
}

#[cfg(test)]
mod tests;
