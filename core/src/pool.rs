//! The address pool as a pure decision: which slot of a subnet to hand out next.
//!
//! A subnet is a row of slots. A slot is free, used by an owner, or cooling down after its owner left.
//! Searching goes on from where the last search ended, so finding one does not depend on the pool's size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// Most slots of one subnet that are ever used, however large it is: a node's pods are thousands, and a
/// slot costs 16 bytes.
pub const MAX_SLOTS: u64 = 1 << 16;

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// Tag of the owner ([`crate::link::AttachmentIds::owner`]); zero: nobody.
    pub owner: u64,
    /// When its owner took it, or the last one left it, in seconds since boot; zero: never used.
    pub since: u64,
}

/// The usable addresses of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: IpNetwork,
    first: u64,
    last: u64,
}

impl Subnet {
    /// Leaves out the network address (the node's VTEP has it; for IPv6 it is the anycast address of
    /// RFC 4291, 2.6.1) and for IPv4 the broadcast address. A /31, /32, /127 or /128 is used whole.
    #[must_use]
    pub fn of(network: IpNetwork) -> Self {
        let host_bits = if network.is_ipv4() { 32 - network.prefix() } else { 128 - network.prefix() };
        let size = 1u64.checked_shl(u32::from(host_bits)).unwrap_or(u64::MAX);
        let (first, last) = match (size, network.is_ipv4()) {
            (1 | 2, _) => (0, size - 1),
            (_, true) => (1, size - 2),
            (_, false) => (1, size - 1),
        };
        Self { network, first, last: last.min(MAX_SLOTS) }
    }

    /// The subnet itself.
    #[must_use]
    pub const fn network(&self) -> IpNetwork {
        self.network
    }

    /// Number of the first usable slot.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Number of the last usable slot.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// How many addresses can be handed out.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The slot after `slot`, from the last to the first.
    #[must_use]
    pub const fn next(&self, slot: u64) -> u64 {
        if slot >= self.first && slot < self.last { slot + 1 } else { self.first }
    }

    /// The address in `slot`.
    #[must_use]
    pub fn address(&self, slot: u64) -> IpAddr {
        match self.network.network() {
            IpAddr::V4(ip) => {
                let low = u32::try_from(slot).unwrap_or(u32::MAX);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip).saturating_add(low)))
            }
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).saturating_add(u128::from(slot)))),
        }
    }

    /// The slot of an address; `None` where it is not one that can be handed out.
    #[must_use]
    pub fn slot(&self, ip: IpAddr) -> Option<u64> {
        if !self.network.contains(ip) {
            return None;
        }
        let slot = match (ip, self.network.network()) {
            (IpAddr::V4(ip), IpAddr::V4(base)) => u64::from(u32::from(ip) - u32::from(base)),
            (IpAddr::V6(ip), IpAddr::V6(base)) => u64::try_from(u128::from(ip) - u128::from(base)).ok()?,
            _ => return None,
        };
        (self.first..=self.last).contains(&slot).then_some(slot)
    }
}

/// A search for a slot: shown slots one by one, it takes the first that may be handed out at once, and
/// remembers the one that has cooled the longest for when there is none.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    now: u64,
    cooldown: u64,
    coolest: Option<(u64, u64)>,
}

impl Search {
    /// `now` in seconds since boot, `cooldown` in seconds.
    #[must_use]
    pub const fn new(now: u64, cooldown: u64) -> Self {
        Self { now, cooldown, coolest: None }
    }

    /// Whether `slot` may be taken at once.
    pub fn see(&mut self, number: u64, slot: Slot) -> bool {
        if slot.owner != 0 {
            return false;
        }
        // A stamp from the future (an edited or foreign file) counts as just freed.
        let rested = self.now.saturating_sub(slot.since);
        if slot.since == 0 || rested >= self.cooldown {
            return true;
        }
        if self.coolest.is_none_or(|(since, _)| slot.since < since) {
            self.coolest = Some((slot.since, number));
        }
        false
    }

    /// After all slots were seen: the one that rested longest, if any is not in use.
    #[must_use]
    pub fn last_resort(&self) -> Option<u64> {
        self.coolest.map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(s: &str) -> Subnet {
        Subnet::of(s.parse().unwrap())
    }

    #[test]
    fn network_and_broadcast_are_left_out() {
        let s = subnet("10.22.0.0/24");
        assert_eq!((s.address(s.first()).to_string(), s.capacity()), ("10.22.0.1".to_owned(), 254));
        assert_eq!(s.slot("10.22.0.0".parse().unwrap()), None);
        assert_eq!(s.slot("10.22.0.255".parse().unwrap()), None);
        assert_eq!(s.slot("10.23.0.1".parse().unwrap()), None);
        assert_eq!(subnet("10.22.0.8/31").capacity(), 2);
        assert_eq!(subnet("10.22.0.8/32").capacity(), 1);
        assert_eq!(subnet("fd00::/64").capacity(), MAX_SLOTS);
        assert_eq!(subnet("0.0.0.0/0").capacity(), MAX_SLOTS);
        assert_eq!(subnet("::/0").capacity(), MAX_SLOTS);
    }

    /// Hands out and frees over a value, as the store does over a file.
    fn take(s: &Subnet, slots: &mut [Slot], cursor: &mut u64, now: u64) -> Option<u64> {
        let mut search = Search::new(now, 30);
        let mut at = s.next(*cursor);
        for _ in 0..s.capacity() {
            if search.see(at, slots[usize::try_from(at).unwrap()]) {
                break;
            }
            at = s.next(at);
        }
        let free = slots[usize::try_from(at).unwrap()].owner == 0;
        let at = if free && Search::new(now, 30).see(at, slots[usize::try_from(at).unwrap()]) {
            at
        } else {
            search.last_resort()?
        };
        slots[usize::try_from(at).unwrap()] = Slot { owner: 9, since: 0 };
        *cursor = at;
        Some(at)
    }

    proptest! {
        #[test]
        fn slot_and_address_are_inverse(base in any::<u32>(), prefix in 8u8..=32, pick in any::<u64>()) {
            let network = IpNetwork::new(Ipv4Addr::from(base).into(), prefix).unwrap();
            let s = Subnet::of(IpNetwork::new(network.network(), prefix).unwrap());
            let slot = s.first() + pick % s.capacity();
            prop_assert_eq!(s.slot(s.address(slot)), Some(slot));
            prop_assert!(s.network().contains(s.address(slot)));
        }

        /// Never one address twice, never a resting one while another is free, and never "full" while
        /// one is not in use.
        #[test]
        fn a_pool_is_handed_out_exactly(ops in proptest::collection::vec((any::<bool>(), 0usize..14), 1..200)) {
            let s = subnet("10.0.0.0/28");
            let (mut slots, mut cursor) = (vec![Slot::default(); 16], 0);
            let mut held: Vec<u64> = Vec::new();
            for (now, (get, pick)) in ops.into_iter().enumerate() {
                let now = now as u64 + 1;
                if get {
                    let rested = (s.first()..=s.last()).any(|i| {
                        let slot = slots[usize::try_from(i).unwrap()];
                        slot.owner == 0 && (slot.since == 0 || now - slot.since >= 30)
                    });
                    let before = slots.clone();
                    match take(&s, &mut slots, &mut cursor, now) {
                        Some(got) => {
                            prop_assert!(!held.contains(&got));
                            let was = before[usize::try_from(got).unwrap()];
                            prop_assert!(!rested || was.since == 0 || now - was.since >= 30);
                            held.push(got);
                        }
                        None => prop_assert_eq!(held.len(), 14),
                    }
                } else if !held.is_empty() {
                    let freed = held.swap_remove(pick % held.len());
                    slots[usize::try_from(freed).unwrap()] = Slot { owner: 0, since: now };
                }
            }
        }
    }
}
