//! The nodes that the API server holds, as of one version, and those it held until a moment ago.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use flatnet_core::names::NodeName;
use flatnet_core::overlay::cluster::{Cluster, Member};
use flatnet_core::overlay::flannel::{Entry, Network, Offer, SubnetKey};
use flatnet_core::overlay::settings::Settings;
use ipnetwork::IpNetwork;

use super::object::{NodeObject, Own};

/// A node that vanished is worked with for so long: whoever deletes a node by mistake, or to register it
/// anew, has it back by then, and its pods are to lose nothing meanwhile.
const GRACE: Duration = Duration::from_secs(60);
/// So many subnets that a node had before are still led to it.
const FORMER: usize = 4;

/// Another node, or why it is of no use.
type Known = Result<Peer, String>;

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) entry: Entry,
    /// Its agent said so, not only its kubelet.
    pub(super) published: bool,
}

/// What the API server holds.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Of all that is known here.
    pub(super) version: String,
    /// This node; `None` where there is none of its name.
    pub(super) own: Option<Own>,
    nodes: BTreeMap<Box<str>, Known>,
    /// Nodes that went, and until when they are worked with.
    gone: BTreeMap<Box<str>, (Peer, Instant)>,
    /// Subnets that a node of the same name had before it was made anew: its pods may still have them.
    former: BTreeMap<Box<str>, Vec<IpNetwork>>,
}

impl Mirror {
    /// Takes a node as it is now; says whether anything about it changed that matters.
    pub(super) fn put(&mut self, node: NodeObject, network: &Network, settings: &Settings) -> bool {
        if node.name() == settings.node.as_str() {
            let own = Some(node.own(network));
            let changed = own != self.own;
            self.own = own;
            return changed;
        }
        let fresh = node.peer(network, settings);
        let name = node.name();
        match self.nodes.get(name) {
            Some(known) if *known == fresh => return false,
            Some(Ok(known)) => {
                let known = known.clone();
                self.replace(name, known, &fresh, Instant::now());
            }
            _ => {
                if let Some((known, _)) = self.gone.remove(name) {
                    self.replace(name, known, &fresh, Instant::now());
                }
            }
        }
        self.nodes.insert(name.into(), fresh);
        true
    }

    /// A node of the same name has taken the place of `known`.
    fn replace(&mut self, name: &str, known: Peer, fresh: &Known, now: Instant) {
        match fresh {
            Ok(fresh) if fresh.entry.key == known.entry.key => {}
            Ok(_) => self.remember_former(name, known.entry.key.subnets()),
            // It has no subnet yet; its pods have theirs.
            Err(_) => drop(self.gone.insert(name.into(), (known, now + GRACE))),
        }
    }

    fn remember_former(&mut self, name: &str, subnets: impl Iterator<Item = IpNetwork>) {
        let former = self.former.entry(name.into()).or_default();
        for subnet in subnets {
            former.retain(|known| *known != subnet);
            former.push(subnet);
        }
        let extra = former.len().saturating_sub(FORMER);
        former.drain(..extra);
    }

    /// A node was deleted; says whether that matters.
    pub(super) fn delete(&mut self, name: &str, settings: &Settings, now: Instant) -> bool {
        if name == settings.node.as_str() {
            return self.own.take().is_some();
        }
        let known = self.nodes.remove(name);
        if let Some(Ok(peer)) = known {
            self.gone.insert(name.into(), (peer, now + GRACE));
            return true;
        }
        known.is_some()
    }

    /// Takes the place of `older`: what only that has vanished meanwhile.
    pub(super) fn succeed(&mut self, older: Self, now: Instant) {
        self.former = older.former;
        self.gone = older.gone;
        for (name, known) in older.nodes {
            if let Ok(peer) = known {
                self.inherit(&name, peer, now);
            }
        }
        self.gone.retain(|name, _| !matches!(self.nodes.get(name), Some(Ok(_))));
    }

    /// What an earlier run worked with.
    pub(super) fn recall(&mut self, members: &[Member], settings: &Settings, now: Instant) {
        for member in members.iter().filter(|member| member.name != settings.node) {
            let first = |v4: bool| member.subnets.iter().find(|subnet| subnet.is_ipv4() == v4).copied();
            let subnets: Vec<IpNetwork> = [first(true), first(false)].into_iter().flatten().collect();
            let more = member.subnets.iter().filter(|subnet| !subnets.contains(subnet)).copied();
            self.remember_former(member.name.as_str(), more);
            if let Some(entry) = Entry::of(&Member { subnets, ..member.clone() }, settings) {
                self.inherit(member.name.as_str(), Peer { entry, published: true }, now);
            }
        }
        self.former.retain(|_, subnets| !subnets.is_empty());
    }

    fn inherit(&mut self, name: &str, known: Peer, now: Instant) {
        match self.nodes.get(name) {
            None => drop(self.gone.insert(name.into(), (known, now + GRACE))),
            Some(fresh) => {
                let fresh = fresh.clone();
                self.replace(name, known, &fresh, now);
            }
        }
    }

    /// The other nodes that can be worked with by a node at `own`, and what is wrong with the rest. An address
    /// is that of the node whose agent published it, and this node's is nobody else's.
    pub(super) fn others(&self, own: Option<IpAddr>) -> (Vec<&Entry>, Vec<String>) {
        let peers = || self.nodes.iter().filter_map(|(name, known)| Some((name, known.as_ref().ok()?)));
        let address = |peer: &Peer| peer.entry.offer.as_ref().ok().and_then(Offer::address);
        let published: HashMap<IpAddr, &str> = if peers().all(|(_, peer)| peer.published) {
            HashMap::new()
        } else {
            let published = peers().filter(|(_, peer)| peer.published);
            published.filter_map(|(name, peer)| Some((address(peer)?, name.as_ref()))).collect()
        };
        let (mut usable, mut left_out) = (Vec::with_capacity(self.nodes.len()), Vec::new());
        for (name, known) in &self.nodes {
            let why = match known {
                Err(why) => why.clone(),
                Ok(peer) if own.is_some() && address(peer) == own => "it has this node's address".to_owned(),
                Ok(peer) => match address(peer).and_then(|ip| published.get(&ip)) {
                    Some(holder) if !peer.published => format!("node {holder} has published its address"),
                    _ => {
                        usable.push(&peer.entry);
                        continue;
                    }
                },
            };
            left_out.push(format!("node {name} is left out: {why}"));
        }
        (usable, left_out)
    }

    /// Nodes that vanished a moment ago.
    pub(super) fn leaving(&self, now: Instant) -> impl Iterator<Item = &Entry> + Clone {
        self.gone.values().filter(move |(_, until)| *until > now).map(|(peer, _)| &peer.entry)
    }

    /// Forgets what has been gone for long enough, and says when there will be more of it.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Instant> {
        self.gone.retain(|_, (_, until)| *until > now);
        self.former.retain(|name, _| self.nodes.contains_key(name) || self.gone.contains_key(name));
        self.gone.values().map(|(_, until)| *until).min()
    }

    /// Leads subnets that nodes had before to them, as far as nobody else has them by now.
    pub(super) fn add_former(&self, cluster: &mut Cluster, own: SubnetKey) {
        if self.former.is_empty() {
            return;
        }
        let shares = |a: IpNetwork, b: IpNetwork| a.contains(b.ip()) || b.contains(a.ip());
        let place: HashMap<NodeName, usize> =
            cluster.nodes.iter().enumerate().map(|(i, node)| (node.name.clone(), i)).collect();
        for (name, subnets) in &self.former {
            let Some(at) = name.parse().ok().and_then(|name: NodeName| place.get(&name)) else { continue };
            for subnet in subnets {
                let taken = cluster.nodes.iter().flat_map(|node| node.subnets.iter().copied());
                if !taken.chain(own.subnets()).any(|other| shares(other, *subnet)) {
                    cluster.nodes[*at].subnets.push(*subnet);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
