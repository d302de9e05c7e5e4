//! Fail static: a store that suddenly lists far fewer peers is not believed at once. Peers that vanish in
//! great number stay in use until the store, in good health, has left them out for a while; whoever joins
//! or changes meanwhile is taken at once.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::cluster::{Cluster, Member};
use crate::link::Mac;
use crate::names::NodeName;

/// So many peers may vanish at once whatever share of the cluster they are: a small cluster changes by
/// hand, and its operator means it.
const ALWAYS_BELIEVED: usize = 3;

/// When vanishing peers need confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// More than this share of the peers, in percent; 100 means never.
    pub max_share: u8,
    /// How long the store has to leave them out. Smaller losses within such a time add up.
    pub confirm: Duration,
}

impl Default for Rule {
    /// More than half, for half a minute: longer than a store's restart or a file's clumsy rewrite.
    fn default() -> Self {
        Self { max_share: 50, confirm: Duration::from_secs(30) }
    }
}

/// Whether what a store lists is what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It was read and believed.
    Good,
    /// It cannot be read now; the list is the last good one, and confirms nothing.
    Bad,
}

/// What to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Everything listed, and whoever is kept.
    pub cluster: Arc<Cluster>,
    /// Who is kept, where anybody is.
    pub held: Option<Held>,
}

/// Peers that are kept though the store does not list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Peers that the store lists.
    pub listed: usize,
    /// Peers that are kept.
    pub kept: usize,
    /// When the first of them may go, on the caller's clock.
    pub until: Duration,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store lists {} of {} peers; keeping {}", self.listed, self.listed + self.kept, self.kept)
    }
}

/// Remembers the peers in use. Times are on any clock that never goes back.
#[derive(Debug, Clone)]
pub struct Guard {
    rule: Rule,
    me: NodeName,
    in_use: Option<Arc<Cluster>>,
    /// What the store listed last.
    last: Option<Arc<Cluster>>,
    /// Peers that are kept, each with the time at which it was first missing.
    held: BTreeMap<NodeName, Duration>,
    /// Peers that went without asking, until that is [`Rule::confirm`] ago.
    dropped: BTreeMap<NodeName, Duration>,
}

impl Guard {
    /// `in_use` is the cluster that an earlier run of this node worked with.
    #[must_use]
    pub fn new(rule: Rule, me: NodeName, in_use: Option<Arc<Cluster>>) -> Self {
        Self { rule, me, in_use, last: None, held: BTreeMap::new(), dropped: BTreeMap::new() }
    }

    /// Decides what to work with when a store lists `listed` at the time `now`.
    pub fn admit(&mut self, listed: &Arc<Cluster>, health: Health, now: Duration) -> Verdict {
        let Some(in_use) = self.in_use.clone() else {
            self.in_use = Some(Arc::clone(listed));
            return Verdict { cluster: Arc::clone(listed), held: None };
        };
        let unchanged = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, listed));
        if unchanged && self.held.is_empty() {
            return Verdict { cluster: in_use, held: None };
        }
        self.last = Some(Arc::clone(listed));
        let names: HashSet<&NodeName> = listed.nodes.iter().map(|node| &node.name).collect();
        self.sort_the_missing(&in_use, &names, now);
        if health == Health::Good {
            self.held.retain(|_, since| now.saturating_sub(*since) < self.rule.confirm);
        }
        let kept = if self.held.is_empty() { Vec::new() } else { self.kept(&in_use, listed) };
        if kept.len() < self.held.len() {
            let kept: HashSet<&NodeName> = kept.iter().map(|node| &node.name).collect();
            self.held.retain(|name, _| kept.contains(name));
        }
        let first = self.held.values().min();
        let held = first.map(|since| Held {
            listed: names.iter().filter(|name| ***name != self.me).count(),
            kept: kept.len(),
            until: *since + self.rule.confirm,
        });
        let cluster = if kept.is_empty() { Arc::clone(listed) } else { with(listed, kept) };
        // The same again is the same value, so that nobody takes it for a change.
        let cluster = if *cluster == *in_use { in_use } else { cluster };
        self.in_use = Some(Arc::clone(&cluster));
        Verdict { cluster, held }
    }

    /// Of those that are held, whoever is in nobody's way.
    fn kept(&self, in_use: &Cluster, listed: &Cluster) -> Vec<Member> {
        let taken = Taken::by(listed);
        let nodes = in_use.nodes.iter();
        let kept = nodes.filter(|node| self.held.contains_key(&node.name) && taken.leaves_room_for(node));
        kept.cloned().collect()
    }

    /// Whoever is newly missing is held or dropped.
    fn sort_the_missing(&mut self, in_use: &Cluster, listed: &HashSet<&NodeName>, now: Duration) {
        self.held.retain(|name, _| !listed.contains(name));
        let recent = |at: &Duration| now.saturating_sub(*at) < self.rule.confirm;
        self.dropped.retain(|name, at| !listed.contains(name) && recent(at));
        let peers = || in_use.nodes.iter().map(|node| &node.name).filter(|name| **name != self.me);
        let missing: Vec<NodeName> = peers()
            .filter(|name| !listed.contains(name) && !self.held.contains_key(*name))
            .cloned()
            .collect();
        let before = peers().count() + self.dropped.len();
        let away = self.held.len() + missing.len() + self.dropped.len();
        let too_many = away > ALWAYS_BELIEVED && away * 100 > before * usize::from(self.rule.max_share);
        let into = if too_many { &mut self.held } else { &mut self.dropped };
        into.extend(missing.into_iter().map(|name| (name, now)));
    }
}

fn with(listed: &Cluster, kept: Vec<Member>) -> Arc<Cluster> {
    let mut cluster = listed.clone();
    cluster.nodes.extend(kept);
    Arc::new(cluster)
}

/// What the listed nodes claim: a kept peer must not have any of it, or the cluster would not hold together.
struct Taken<'a> {
    networks: &'a [IpNetwork],
    addresses: HashSet<IpAddr>,
    vteps: HashSet<Mac>,
    /// Subnets by their first address; they do not overlap.
    subnets: BTreeMap<IpAddr, IpNetwork>,
}

impl<'a> Taken<'a> {
    fn by(listed: &'a Cluster) -> Self {
        let nodes = || listed.nodes.iter();
        Self {
            networks: &listed.networks,
            addresses: nodes().map(|node| node.address).collect(),
            vteps: nodes().map(|node| node.vtep).collect(),
            subnets: nodes().flat_map(|node| &node.subnets).map(|subnet| (subnet.ip(), *subnet)).collect(),
        }
    }

    fn leaves_room_for(&self, node: &Member) -> bool {
        let claimed = self.addresses.contains(&node.address) || self.vteps.contains(&node.vtep);
        let inside = |subnet: &IpNetwork| {
            self.networks.iter().any(|network| {
                network.is_ipv4() == subnet.is_ipv4()
                    && network.contains(subnet.ip())
                    && network.prefix() <= subnet.prefix()
            })
        };
        !claimed && node.subnets.iter().all(|subnet| inside(subnet) && !self.overlaps(*subnet))
    }

    fn overlaps(&self, subnet: IpNetwork) -> bool {
        let before = self.subnets.range(..=subnet.ip()).next_back();
        let after = self.subnets.range(subnet.ip()..).next();
        before.is_some_and(|(_, other)| other.contains(subnet.ip()))
            || after.is_some_and(|(first, _)| subnet.contains(*first))
    }
}

#[cfg(test)]
mod tests;
