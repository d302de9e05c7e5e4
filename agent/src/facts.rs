//! Which link leads to the other nodes: decided from what the kernel shows.

use std::net::IpAddr;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
use std::net::{Ipv4Addr, Ipv6Addr};

use flatnet_core::link::{SEGMENT_SIZE, UnderlayMtu};
use flatnet_core::overlay::is_tunnel_if;
use flatnet_core::overlay::settings::Uplink;
use flatnet_core::overlay::snapshot::{Link, Snapshot};

use crate::config::Interface;

/// An uplink, and what about it deserves a person's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) uplink: Uplink,
    pub(crate) remark: Option<String>,
}

/// Why there is no uplink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error("interface {0} does not exist")]
    NoSuchLink(String),
    #[error("no interface has the address {0}")]
    NoSuchAddress(IpAddr),
    #[error(
        "no interface has this node's address {0}, and there is no default route to guess from; \
         correct the address in the cluster file, or set `interface`"
    )]
    NothingToGo(IpAddr),
    #[cfg(any(feature = "etcd", feature = "kubernetes"))]
    #[error("there is no default route to guess the uplink from; set `interface`")]
    NoDefaultRoute,
    #[cfg(any(feature = "etcd", feature = "kubernetes"))]
    #[error("uplink {0} has no address that other nodes could reach")]
    NoAddress(String),
    #[error("uplink {0} is down")]
    Down(String),
    #[error("uplink {link} has no address of the family of this node's address {address}")]
    NoLocalAddress { link: String, address: IpAddr },
}

/// Finds the uplink of the node whose address in the store is `address`.
///
/// # Errors
/// There is none that could be used.
pub(crate) fn uplink(
    snapshot: &Snapshot,
    interface: &Interface,
    address: IpAddr,
) -> Result<Found, UplinkError> {
    let holder = |ip: IpAddr| {
        let mut links = snapshot.links.iter().filter(|link| !is_tunnel_if(link.name.as_str()));
        links.find(|link| link.addresses.iter().any(|own| own.ip() == ip))
    };
    let link = match interface {
        Interface::Name(name) => {
            snapshot.link(name).ok_or_else(|| UplinkError::NoSuchLink(name.to_string()))?
        }
        Interface::Address(ip) => holder(*ip).ok_or(UplinkError::NoSuchAddress(*ip))?,
        Interface::Auto => holder(address)
            .or_else(|| snapshot.default_links.iter().find_map(|name| snapshot.link(name)))
            .ok_or(UplinkError::NothingToGo(address))?,
    };
    if !link.up {
        return Err(UplinkError::Down(link.name.to_string()));
    }
    let local = local(link, address)
        .ok_or_else(|| UplinkError::NoLocalAddress { link: link.name.to_string(), address })?;
    // Behind address translation the others know a node by an address that it does not have.
    let remark = (local != address).then(|| {
        format!(
            "this node's address {address} in the cluster file is not on uplink {}; \
             tunnels leave from {local}, which the others hear only if it is translated on the way",
            link.name
        )
    });
    let uplink = Uplink {
        name: link.name.clone(),
        mtu: UnderlayMtu(link.mtu),
        addresses: link.addresses.clone(),
        local,
        segments: link.segments,
        segment_size: snapshot
            .links
            .iter()
            .filter(|other| other.name == link.name || snapshot.default_links.contains(&other.name))
            .map(|egress| egress.segments.takes())
            .min()
            .unwrap_or(SEGMENT_SIZE),
    };
    Ok(Found { uplink, remark })
}

/// This node's addresses, for a store that does not say them: IPv4 and IPv6, at least one.
///
/// # Errors
/// There is no uplink, or it has none.
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
pub(crate) fn own_addresses(
    snapshot: &Snapshot,
    interface: &Interface,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), UplinkError> {
    let has = |link: &Link, ip: IpAddr| link.addresses.iter().any(|own| own.ip() == ip);
    let link = match interface {
        Interface::Name(name) => {
            snapshot.link(name).ok_or_else(|| UplinkError::NoSuchLink(name.to_string()))?
        }
        Interface::Address(ip) => snapshot
            .links
            .iter()
            .find(|link| !is_tunnel_if(link.name.as_str()) && has(link, *ip))
            .ok_or(UplinkError::NoSuchAddress(*ip))?,
        Interface::Auto => snapshot
            .default_links
            .iter()
            .find_map(|name| snapshot.link(name))
            .ok_or(UplinkError::NoDefaultRoute)?,
    };
    let (mut v4, mut v6) = (None, None);
    if let Interface::Address(ip) = interface {
        match ip {
            IpAddr::V4(ip) => v4 = Some(*ip),
            IpAddr::V6(ip) => v6 = Some(*ip),
        }
    }
    for own in &link.addresses {
        match own.ip() {
            IpAddr::V4(ip) if !ip.is_link_local() && !ip.is_loopback() => v4 = v4.or(Some(ip)),
            IpAddr::V6(ip) if !ip.is_unicast_link_local() && !ip.is_loopback() => v6 = v6.or(Some(ip)),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
    if v4.is_none() && v6.is_none() {
        return Err(UplinkError::NoAddress(link.name.to_string()));
    }
    Ok((v4, v6))
}

fn local(link: &Link, address: IpAddr) -> Option<IpAddr> {
    let own = || link.addresses.iter().map(ipnetwork::IpNetwork::ip);
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => address.is_ipv4(),
        IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
    };
    own().find(|ip| *ip == address).or_else(|| own().find(usable))
}

#[cfg(test)]
mod tests {
    use flatnet_core::link::SegmentSizes;

    use super::*;

    fn link(name: &str, up: bool, addresses: &[&str]) -> Link {
        Link {
            name: name.parse().unwrap(),
            up,
            mtu: 1500,
            mac: None,
            segments: SegmentSizes::default(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            vxlan: None,
        }
    }

    fn node() -> Snapshot {
        let links = vec![
            link("lo", true, &["127.0.0.1/8"]),
            link("eth0", true, &["10.0.0.5/24", "fe80::1/64"]),
            link("eth1", true, &["192.0.2.1/24", "2001:db8::1/64"]),
            link("eth2", false, &["198.51.100.1/24"]),
        ];
        Snapshot { links, default_links: vec!["eth0".parse().unwrap()], ..Snapshot::default() }
    }

    fn find(interface: &Interface, address: &str) -> Result<(String, String, bool), UplinkError> {
        let found = uplink(&node(), interface, address.parse().unwrap())?;
        Ok((found.uplink.name.to_string(), found.uplink.local.to_string(), found.remark.is_some()))
    }

    #[test]
    fn auto_takes_the_link_with_the_nodes_address_else_the_default_route() {
        let auto = Interface::Auto;
        assert_eq!(find(&auto, "192.0.2.1").unwrap(), ("eth1".into(), "192.0.2.1".into(), false));
        assert_eq!(find(&auto, "2001:db8::1").unwrap(), ("eth1".into(), "2001:db8::1".into(), false));
        assert_eq!(find(&auto, "203.0.113.9").unwrap(), ("eth0".into(), "10.0.0.5".into(), true));
        assert!(matches!(find(&auto, "2001:db8::9"), Err(UplinkError::NoLocalAddress { .. })));
        assert!(matches!(find(&auto, "198.51.100.1"), Err(UplinkError::Down(_))));
    }

    #[cfg(any(feature = "etcd", feature = "kubernetes"))]
    #[test]
    fn a_nodes_own_addresses_are_those_of_its_uplink() {
        let own = |interface: &Interface| own_addresses(&node(), interface);
        let (v4, v6) = (|ip: &str| Some(ip.parse().unwrap()), |ip: &str| Some(ip.parse().unwrap()));
        assert_eq!(own(&Interface::Auto), Ok((v4("10.0.0.5"), None)));
        let eth1 = Interface::Name("eth1".parse().unwrap());
        assert_eq!(own(&eth1), Ok((v4("192.0.2.1"), v6("2001:db8::1"))));
        let by_address = Interface::Address("2001:db8::1".parse().unwrap());
        assert_eq!(own(&by_address), Ok((v4("192.0.2.1"), v6("2001:db8::1"))));
        let lo = Interface::Name("lo".parse().unwrap());
        assert_eq!(own(&lo), Err(UplinkError::NoAddress("lo".to_owned())));
        let nowhere = own_addresses(&Snapshot::default(), &Interface::Auto);
        assert_eq!(nowhere, Err(UplinkError::NoDefaultRoute));
    }

    #[test]
    fn a_named_link_or_address_is_believed() {
        let eth1 = Interface::Name("eth1".parse().unwrap());
        assert_eq!(find(&eth1, "10.0.0.5").unwrap(), ("eth1".into(), "192.0.2.1".into(), true));
        let by_address = Interface::Address("10.0.0.5".parse().unwrap());
        assert_eq!(find(&by_address, "10.0.0.5").unwrap(), ("eth0".into(), "10.0.0.5".into(), false));
        let missing = Interface::Name("eth9".parse().unwrap());
        assert!(matches!(find(&missing, "10.0.0.5"), Err(UplinkError::NoSuchLink(_))));
    }
}
