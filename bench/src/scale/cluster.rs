//! Simulated nodes: nobody runs them, and to the kernel of the node under test that makes no difference.

use std::net::Ipv4Addr;

/// The pods' network.
pub(crate) const NETWORK: &str = "10.0.0.0/8";
/// The node under test has this name.
pub(crate) const ME: &str = "me";
/// Nodes that are there from the start have numbers below this one; in etcd the node under test takes one of
/// the first hundred free subnets above them.
pub(crate) const MOST: u16 = 30_000;
/// Nodes that join while the agent runs count from here.
const JOINING: u16 = 40_000;
/// The subnet of the node under test, where it does not take one itself.
const MINE: u16 = 39_000;

/// A node by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Simulated(u16);

impl Simulated {
    /// The nodes that are there from the start.
    pub(crate) fn present(count: u16) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The nodes that join, one after the other.
    pub(crate) fn joining() -> impl Iterator<Item = Self> {
        (JOINING..u16::MAX).map(Self)
    }

    /// The base address of its pods' subnet, a /24.
    pub(crate) fn subnet(self) -> Ipv4Addr {
        let [a, b] = self.0.to_be_bytes();
        Ipv4Addr::new(10, a, b, 0)
    }

    /// Where the other nodes reach it: shared address space (RFC 6598).
    pub(crate) fn address(self) -> Ipv4Addr {
        let [a, b] = self.0.to_be_bytes();
        Ipv4Addr::new(100, 64, a, b)
    }

    /// MAC of its tunnel endpoint, locally administered.
    pub(crate) fn mac(self) -> String {
        let [a, b] = self.0.to_be_bytes();
        format!("02:fe:00:00:{a:02x}:{b:02x}")
    }

    /// Its line in a cluster file, in the form that the documentation shows.
    pub(crate) fn line(self) -> String {
        line(&format!("n{}", self.0), self.address(), self)
    }

    /// Its key below flannel's prefix.
    pub(crate) fn key(self) -> String {
        format!("/coreos.com/network/subnets/{}-24", self.subnet())
    }

    /// Its value as flannel writes it.
    pub(crate) fn value(self) -> String {
        format!(
            "{{\"PublicIP\":\"{}\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\",\
             \"BackendData\":{{\"VNI\":1,\"VtepMAC\":\"{}\"}}}}",
            self.address(),
            self.mac()
        )
    }
}

/// A cluster file's beginning: the network, and the node under test at `address`.
pub(crate) fn file_head(address: Ipv4Addr) -> String {
    format!("network: {{ ipv4: {NETWORK} }}\nnodes:\n{}", line(ME, address, Simulated(MINE)))
}

fn line(name: &str, address: Ipv4Addr, of: Simulated) -> String {
    format!("  - {{ name: {name}, address: {address}, subnets: [{}/24] }}\n", of.subnet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_share_anything() {
        let all = || Simulated::present(MOST).chain(Simulated::joining()).chain([Simulated(MINE)]);
        let distinct = all().map(Simulated::subnet).collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), all().count());
        assert_eq!(
            Simulated(513).line(),
            "  - { name: n513, address: 100.64.2.1, subnets: [10.2.1.0/24] }\n"
        );
        assert_eq!(Simulated(513).mac(), "02:fe:00:00:02:01");
    }
}
