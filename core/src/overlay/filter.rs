//! Whom the tunnel hears: VXLAN has no authentication, so packets count only if they come from the address
//! of a node that the store lists. Anybody who can reach the port could otherwise send into pods.

use std::fmt;
use std::net::IpAddr;

use crate::link::{HOST_IF_PREFIX, Underlay, Vni};

/// The rule that drops VXLAN packets of strangers. It speaks of one port and one network identifier, so
/// that other VXLAN devices of the host hear what they always did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelFilter {
    /// Family of the outer packets.
    pub underlay: Underlay,
    /// Network identifier in the VXLAN header.
    pub vni: Vni,
    /// UDP destination port.
    pub port: u16,
}

impl TunnelFilter {
    /// What marks each of its rules, in order.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        let what = format!("vxlan {} on udp port {}", self.vni.get(), self.port);
        let set = set_name(self.underlay);
        vec![format!("{what} from {HOST_IF_PREFIX}*: drop"), format!("{what} from others than @{set}: drop")]
    }
}

/// Name of the set of peers' addresses.
#[must_use]
pub const fn set_name(underlay: Underlay) -> &'static str {
    match underlay {
        Underlay::V4 => "vxlan-peers4",
        Underlay::V6 => "vxlan-peers6",
    }
}

/// Addresses of one family that the tunnel hears, or no longer hears.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Senders {
    /// The family.
    pub underlay: Underlay,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addresses.as_slice() {
            [only] => write!(f, "{only}")?,
            several => write!(f, "{} addresses", several.len())?,
        }
        write!(f, " in set {}", set_name(self.underlay))
    }
}

/// What the kernel shows of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterSeen {
    /// Marks of the rules, in order; empty where there is no chain.
    pub marks: Vec<String>,
    /// Everything in the sets of both families.
    pub senders: Vec<IpAddr>,
}
