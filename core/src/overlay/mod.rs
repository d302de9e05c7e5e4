//! How one node reaches the pods of the others: the cluster as a store tells it, the state this node's
//! kernel should be in, the state it is in, and the one diff between the two.

pub mod cluster;
pub mod flannel;
pub mod settings;
pub mod filter;
pub mod guard;
pub mod peer;
pub mod desired;
pub mod snapshot;
pub mod diff;
pub mod settled;
#[cfg(any(test, feature = "model"))]
pub mod model;

use crate::link::{VXLAN_PREFIX_V4, VXLAN_PREFIX_V6};
use crate::names::IfName;

/// Whether a link of this name is a tunnel device of ours, of whatever VNI.
#[must_use]
pub fn is_tunnel_if(name: &str) -> bool {
    [VXLAN_PREFIX_V4, VXLAN_PREFIX_V6].iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|vni| !vni.is_empty() && vni.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Keys below `/proc/sys` that the overlay depends on, written with slashes because link names have dots.
pub mod sysctl {
    use super::IfName;

    /// Whether the node forwards IPv4 packets.
    pub const IPV4_FORWARD: &str = "net/ipv4/ip_forward";
    /// Whether the node forwards IPv6 packets.
    pub const IPV6_FORWARD: &str = "net/ipv6/conf/all/forwarding";

    /// Source validation of IPv4 packets that arrive on `link`.
    #[must_use]
    pub fn rp_filter(link: &IfName) -> String {
        format!("net/ipv4/conf/{link}/rp_filter")
    }

    /// Whether IPv4 packets that arrive on `link` are forwarded.
    #[must_use]
    pub fn ipv4_forwarding(link: &IfName) -> String {
        format!("net/ipv4/conf/{link}/forwarding")
    }

    /// Whether IPv6 packets that arrive on `link` are forwarded.
    #[must_use]
    pub fn ipv6_forwarding(link: &IfName) -> String {
        format!("net/ipv6/conf/{link}/forwarding")
    }

    /// Whether `link` listens to router advertisements: 0 never, 1 unless the node forwards, 2 always.
    #[must_use]
    pub fn accept_ra(link: &IfName) -> String {
        format!("net/ipv6/conf/{link}/accept_ra")
    }
}

#[cfg(test)]
mod tests {
    use super::is_tunnel_if;

    #[test]
    fn only_prefix_and_vni_is_ours() {
        for ours in ["flat.1", "flat.16777215", "flat6.7"] {
            assert!(is_tunnel_if(ours), "{ours}");
        }
        for other in ["flat.", "flat.x", "flat", "flannel.1", "flat.1a", "aflat.1", "flat6."] {
            assert!(!is_tunnel_if(other), "{other}");
        }
    }
}
