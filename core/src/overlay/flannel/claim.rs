//! Which subnets a node has, or takes.

use ipnetwork::IpNetwork;

use super::Entry;
use super::key::SubnetKey;
use super::network::{Cut, Network, number};
use super::offer::Offer;

/// A subnet is drawn from so many free ones, as flannel does: enough that nodes which start together seldom
/// want the same.
const DRAW: usize = 100;

/// The node that asks.
#[derive(Debug, Clone)]
pub struct Me {
    /// What it publishes.
    pub offer: Offer,
    /// The subnets it had last.
    pub previous: Option<SubnetKey>,
    /// Whether pods use them.
    pub pods: Pods,
}

/// Whether pods have addresses of this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    /// None has.
    None,
    /// Some may have.
    Some,
}

/// How a node stands with its subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has them.
    Held(SubnetKey),
    /// It has them, and publishes something else than it should.
    Outdated(SubnetKey),
    /// Nobody has them: to be claimed.
    Free(SubnetKey),
    /// It has them, cannot keep them, and no pod needs them: to be given back.
    Unusable(SubnetKey),
    /// Pods use subnets that are not the node's to use. They keep them, and no pod joins them.
    Lost {
        /// The subnets.
        key: SubnetKey,
        /// What became of them.
        why: String,
    },
    /// No subnet is free.
    Full,
}

impl Me {
    /// Decides. The same entries and the same `random` give the same answer.
    pub fn stand<'a, I>(&self, network: &Network, entries: I, random: u64) -> Standing
    where
        I: Iterator<Item = &'a Entry> + Clone,
    {
        if let Some(own) = self.own(entries.clone()) {
            return self.keep(network, own, entries);
        }
        let Some(previous) = self.previous else { return free(network, entries, random) };
        let why = if network.suits(previous) {
            match entries.clone().find(|entry| entry.key.overlaps(previous)) {
                None => return Standing::Free(previous),
                Some(holder) => held_by(holder),
            }
        } else {
            "the network has no such subnet any more".to_owned()
        };
        match self.pods {
            Pods::Some => Standing::Lost { key: previous, why },
            Pods::None => free(network, entries, random),
        }
    }

    /// Whether an entry is this node's: of its address, or of its name and with the subnets that it
    /// remembers, so that a node whose address changed knows its own.
    #[must_use]
    pub fn is_mine(&self, entry: &Entry) -> bool {
        let Ok(offer) = &entry.offer else { return false };
        let same_address = offer.address().is_some() && offer.address() == self.offer.address();
        let same_name = offer.node.is_some() && offer.node == self.offer.node;
        same_address || same_name && self.previous == Some(entry.key)
    }

    fn own<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
        let mine = entries.filter(|entry| self.is_mine(entry));
        // Should there be several, what the pods have counts, then the oldest.
        mine.min_by_key(|entry| (self.previous != Some(entry.key), entry.created))
    }

    fn keep<'a>(
        &self,
        network: &Network,
        own: &Entry,
        mut entries: impl Iterator<Item = &'a Entry>,
    ) -> Standing {
        let key = own.key;
        let first =
            |entry: &&Entry| entry.created < own.created && entry.key.overlaps(key) && !self.is_mine(entry);
        let why = if !network.suits(key) {
            Some("the network has no such subnet any more".to_owned())
        } else {
            entries.find(first).map(held_by)
        };
        match (why, self.pods) {
            (None, _) if own.offer.as_ref() == Ok(&self.offer) => Standing::Held(key),
            (None, _) => Standing::Outdated(key),
            (Some(why), Pods::Some) => Standing::Lost { key, why },
            (Some(_), Pods::None) => Standing::Unusable(key),
        }
    }
}

fn held_by(holder: &Entry) -> String {
    let who = match &holder.offer {
        Ok(Offer { node: Some(node), .. }) => format!("node {node}"),
        Ok(offer) => offer.address().map_or_else(|| "another node".to_owned(), |ip| ip.to_string()),
        Err(_) => "an entry that cannot be read".to_owned(),
    };
    format!("{who} has {}", holder.key)
}

fn free<'a>(network: &Network, entries: impl Iterator<Item = &'a Entry>, random: u64) -> Standing {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for subnet in entries.flat_map(|entry| entry.key.subnets()) {
        let (width, taken) = if subnet.is_ipv4() { (32, &mut v4) } else { (128, &mut v6) };
        let base = number(subnet.ip());
        let rest = if subnet.prefix() == 0 { u128::MAX } else { (1 << (width - subnet.prefix())) - 1 };
        taken.push((base, base.saturating_add(rest)));
    }
    let mut chosen = Vec::new();
    for cut in network.cuts() {
        let taken = if cut.network.is_ipv4() { &mut v4 } else { &mut v6 };
        taken.sort_unstable();
        match draw(cut, taken, random) {
            Some(subnet) => chosen.push(subnet),
            None => return Standing::Full,
        }
    }
    SubnetKey::of(&chosen).map_or(Standing::Full, Standing::Free)
}

/// One of the first free subnets. `taken` holds first and last addresses, in order.
fn draw(cut: &Cut, taken: &[(u128, u128)], random: u64) -> Option<IpNetwork> {
    let (size, mut base) = (cut.size(), cut.first);
    let mut found = Vec::with_capacity(DRAW);
    let mut taken = taken.iter().copied().peekable();
    // Up to where everything that begins earlier is taken.
    let mut until = 0u128;
    while base <= cut.last && found.len() < DRAW {
        let end = base + (size - 1);
        while let Some((_, last)) = taken.next_if(|(first, _)| *first <= end) {
            until = until.max(last.saturating_add(1));
        }
        if until > base {
            let Some(next) = until.checked_next_multiple_of(size) else { break };
            base = next;
        } else {
            found.push(base);
            let Some(next) = base.checked_add(size) else { break };
            base = next;
        }
    }
    let count = u64::try_from(found.len()).ok()?;
    let at = usize::try_from(random.checked_rem(count)?).ok()?;
    cut.subnet(*found.get(at)?)
}

#[cfg(test)]
mod tests;
