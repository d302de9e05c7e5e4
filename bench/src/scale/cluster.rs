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

/// How a cluster file is written.
#[derive(Debug)]
pub(crate) struct Form {
    head: &'static str,
    /// What is around a node's name, address and subnet.
    node: [&'static str; 4],
    /// What follows the last node.
    pub(crate) end: &'static str,
    /// What separates a node from the one before.
    between: &'static str,
}

/// As the documentation shows it.
pub(crate) const YAML: Form = Form {
    head: "network: { ipv4: 10.0.0.0/8 }\nnodes:\n",
    node: ["  - { name: ", ", address: ", ", subnets: [", "/24] }\n"],
    end: "",
    between: "",
};

/// The same as JSON.
pub(crate) const JSON: Form = Form {
    head: "{ \"network\": { \"ipv4\": \"10.0.0.0/8\" }, \"nodes\": [\n",
    node: ["{ \"name\": \"", "\", \"address\": \"", "\", \"subnets\": [\"", "/24\"] }"],
    end: "\n] }\n",
    between: ",\n",
};

impl Form {
    /// The beginning: the network, and the node under test at `address`.
    pub(crate) fn head(&self, address: Ipv4Addr) -> String {
        format!("{}{}", self.head, self.entry(ME, address, Simulated(MINE)))
    }

    /// Another node.
    pub(crate) fn node(&self, node: Simulated) -> String {
        format!("{}{}", self.between, self.entry(&format!("n{}", node.0), node.address(), node))
    }

    fn entry(&self, name: &str, address: Ipv4Addr, of: Simulated) -> String {
        let [before_name, before_address, before_subnet, end] = self.node;
        format!("{before_name}{name}{before_address}{address}{before_subnet}{}{end}", of.subnet())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_share_anything() {
        let all = || Simulated::present(MOST).chain(Simulated::joining()).chain([Simulated(MINE)]);
        let distinct = all().map(Simulated::subnet).collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), all().count());
        assert_eq!(Simulated(513).mac(), "02:fe:00:00:02:01");
    }

    #[test]
    fn files_are_what_the_documentation_says() {
        let line = YAML.node(Simulated(513));
        assert_eq!(line, "  - { name: n513, address: 100.64.2.1, subnets: [10.2.1.0/24] }\n");
        let text = JSON.head(Ipv4Addr::LOCALHOST) + &JSON.node(Simulated(513)) + JSON.end;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["nodes"][1]["subnets"][0], "10.2.1.0/24");
    }
}
