//! How the nodes of a simulated cluster carry the pods' packets to each other.

use std::net::IpAddr;

use clap::{Args, ValueEnum, error::ErrorKind};
use netns_fixtures::Node;

/// The agent's backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Auto,
    Vxlan,
    Direct,
}

impl Backend {
    /// As the agent's configuration spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
        }
    }
}

/// The family of the nodes' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Underlay {
    Ipv4,
    Ipv6,
}

impl Underlay {
    /// Where a node is reached by the others.
    pub(crate) fn address(self, node: &Node) -> Option<IpAddr> {
        match self {
            Self::Ipv4 => node.v4(),
            Self::Ipv6 => node.v6(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// As the user says it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CarriageArgs {
    /// How nodes carry pod packets to each other: auto is direct on one segment and VXLAN across the router
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
    /// The family of the nodes' own addresses [default: ipv4, but ipv6 for direct, because Linux has no IPv6 route
    /// through an IPv4 gateway]
    #[arg(long, value_enum)]
    underlay: Option<Underlay>,
}

/// A backend over a fabric that can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carriage {
    pub(crate) backend: Backend,
    pub(crate) underlay: Underlay,
}

impl CarriageArgs {
    /// Checks that the two go together.
    pub(crate) fn carriage(self) -> Result<Carriage, clap::Error> {
        let underlay = match (self.backend, self.underlay) {
            (Backend::Direct, None) => Underlay::Ipv6,
            (Backend::Direct, Some(Underlay::Ipv4)) => {
                return Err(clap::Error::raw(
                    ErrorKind::ArgumentConflict,
                    "--backend direct --underlay ipv4: Linux has no IPv6 route through an IPv4 gateway, so the pods' \
                     IPv6 addresses could not be reached; use --underlay ipv6, or another backend\n",
                ));
            }
            (_, chosen) => chosen.unwrap_or(Underlay::Ipv4),
        };
        Ok(Carriage { backend: self.backend, underlay })
    }
}

impl Carriage {
    /// The options that lead here.
    pub(crate) fn options(self) -> [&'static str; 4] {
        ["--backend", self.backend.name(), "--underlay", self.underlay.name()]
    }

    /// Whether a packet of a pod is to be encapsulated, and why (not), between nodes with a router `between` them.
    pub(crate) fn encapsulates(self, between: bool, pod: IpAddr) -> (bool, &'static str) {
        match self.backend {
            Backend::Vxlan => (true, "backend vxlan"),
            Backend::Direct => (false, "backend direct"),
            Backend::Auto if between => (true, "across the router"),
            Backend::Auto if pod.is_ipv6() && self.underlay == Underlay::Ipv4 => {
                (true, "IPv6 over an IPv4 fabric")
            }
            Backend::Auto => (false, "same segment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carriage(backend: Backend, underlay: Option<Underlay>) -> Result<Carriage, clap::Error> {
        CarriageArgs { backend, underlay }.carriage()
    }

    #[test]
    fn direct_takes_ipv6_and_refuses_ipv4_with_a_remedy() {
        assert_eq!(carriage(Backend::Auto, None).unwrap().underlay, Underlay::Ipv4);
        assert_eq!(carriage(Backend::Direct, None).unwrap().underlay, Underlay::Ipv6);
        let told = carriage(Backend::Direct, Some(Underlay::Ipv4)).unwrap_err().to_string();
        assert!(told.contains("use --underlay ipv6"), "{told}");
    }

    #[test]
    fn auto_encapsulates_only_where_it_must() {
        let (v4, v6) = ("10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap());
        let auto = carriage(Backend::Auto, None).unwrap();
        let encapsulated = |between, pod| auto.encapsulates(between, pod).0;
        assert_eq!(
            [encapsulated(false, v4), encapsulated(true, v4), encapsulated(false, v6)],
            [false, true, true]
        );
        assert!(!carriage(Backend::Auto, Some(Underlay::Ipv6)).unwrap().encapsulates(false, v6).0);
    }
}
