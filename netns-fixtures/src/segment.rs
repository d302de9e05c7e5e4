//! One L2 segment as a value: its name, prefixes and MTU, and who gets which address in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// Where the router sits in an IPv6 segment; nodes count from 1.
const ROUTER_HOST_V6: u128 = 0xffff;

/// One L2 segment: a name, its prefixes, its MTU (1500 unless told).
#[derive(Debug, Clone)]
pub struct Segment {
    pub(crate) name: String,
    v4: Option<Ipv4Network>,
    v6: Option<Ipv6Network>,
    pub(crate) mtu: u32,
}

impl Segment {
    /// A segment without addresses yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), v4: None, v6: None, mtu: 1500 }
    }

    /// Gives it an IPv4 prefix such as `192.0.2.0/24`.
    ///
    /// # Panics
    /// When `prefix` is not one.
    #[must_use]
    pub fn v4(mut self, prefix: &str) -> Self {
        self.v4 = Some(prefix.parse().expect("an IPv4 prefix"));
        self
    }

    /// Gives it an IPv6 prefix such as `2001:db8:1::/64`.
    ///
    /// # Panics
    /// When `prefix` is not one.
    #[must_use]
    pub fn v6(mut self, prefix: &str) -> Self {
        self.v6 = Some(prefix.parse().expect("an IPv6 prefix"));
        self
    }

    /// Sets its MTU.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// The `host`th address of each prefix.
    pub(crate) fn addresses(&self, host: u32) -> Vec<IpNetwork> {
        let v4 = self.v4.map(|net| {
            let ip = Ipv4Addr::from_bits(net.network().to_bits() + host);
            IpNetwork::new(ip.into(), net.prefix())
        });
        let v6 = self.v6.map(|net| v6_host(net, host.into()));
        v4.into_iter().chain(v6).flatten().collect()
    }

    /// The router's addresses: the last IPv4 host, a fixed IPv6 one.
    pub(crate) fn router(&self) -> Vec<IpNetwork> {
        let v4 = self.v4.map(|net| {
            let ip = Ipv4Addr::from_bits(net.broadcast().to_bits() - 1);
            IpNetwork::new(ip.into(), net.prefix())
        });
        let v6 = self.v6.map(|net| v6_host(net, ROUTER_HOST_V6));
        v4.into_iter().chain(v6).flatten().collect()
    }
}

fn v6_host(net: Ipv6Network, host: u128) -> Result<IpNetwork, ipnetwork::IpNetworkError> {
    let ip = Ipv6Addr::from_bits(net.network().to_bits() + host);
    IpNetwork::new(ip.into(), net.prefix())
}
