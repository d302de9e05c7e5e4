//! Whom the tunnel hears. New peers are let in before anything leads to them, those that left are shut out
//! last, and the rules that drop come only when everybody is in the set.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Diff;
use crate::link::Underlay;
use crate::overlay::desired::Tunnel;
use crate::overlay::filter::{Senders, TunnelFilter};
use crate::step::Step;

impl Diff<'_> {
    pub(super) fn filter(&mut self, tunnel: Option<&Tunnel>) {
        let seen = &self.have.filter;
        let wanted = tunnel.and_then(|tunnel| Some((tunnel.filter?, &tunnel.senders)));
        let Some((filter, senders)) = wanted else {
            if !seen.marks.is_empty() || !seen.senders.is_empty() {
                self.away.push(Step::DropTunnelFilter);
            }
            return;
        };
        let have: HashSet<&IpAddr> = seen.senders.iter().collect();
        let missing: Vec<IpAddr> = senders.iter().filter(|ip| !have.contains(ip)).copied().collect();
        let fresh = seen.marks != filter.marks();
        if fresh || !missing.is_empty() {
            self.steps.push(Step::PutSenders(Senders { underlay: filter.underlay, addresses: missing }));
        }
        if fresh {
            self.steps.push(Step::PutTunnelFilter(filter));
        }
    }

    /// Called when everything that leads to peers that left is on its way out.
    pub(super) fn stale_senders(&mut self, tunnel: Option<&Tunnel>) {
        let Some((TunnelFilter { underlay, .. }, senders)) =
            tunnel.and_then(|tunnel| Some((tunnel.filter?, &tunnel.senders)))
        else {
            return;
        };
        let wanted: HashSet<&IpAddr> = senders.iter().collect();
        for family in [Underlay::V4, Underlay::V6] {
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == (family == Underlay::V4);
            let seen = self.have.filter.senders.iter().filter(of_family);
            let addresses: Vec<IpAddr> =
                seen.filter(|ip| family != underlay || !wanted.contains(ip)).copied().collect();
            if !addresses.is_empty() {
                self.away.push(Step::DropSenders(Senders { underlay: family, addresses }));
            }
        }
    }
}
