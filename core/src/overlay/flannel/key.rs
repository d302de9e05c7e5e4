//! The name of a key below `subnets/`: the subnets of one node, `10.5.52.0-24` or
//! `10.5.52.0-24&fd00:5:34::-64`. A network without IPv4 has `0.0.0.0-0` in the first place.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The subnets of one node: at most one per family, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubnetKey {
    v4: Option<Ipv4Network>,
    v6: Option<Ipv6Network>,
}

/// Not the name of a node's subnets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {key:?} {reason}")]
pub struct KeyError {
    key: String,
    reason: &'static str,
}

impl SubnetKey {
    /// From a node's subnets; `None` where there is none, or more than one of a family.
    #[must_use]
    pub fn of(subnets: &[IpNetwork]) -> Option<Self> {
        let mut key = Self { v4: None, v6: None };
        for subnet in subnets {
            let taken = match subnet {
                IpNetwork::V4(net) => key.v4.replace(*net).is_some(),
                IpNetwork::V6(net) => key.v6.replace(*net).is_some(),
            };
            if taken {
                return None;
            }
        }
        (key.v4.is_some() || key.v6.is_some()).then_some(key)
    }

    /// The subnets, IPv4 first.
    pub fn subnets(self) -> impl Iterator<Item = IpNetwork> {
        self.v4.map(IpNetwork::V4).into_iter().chain(self.v6.map(IpNetwork::V6))
    }

    /// Whether some address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let v4 = |a: Ipv4Network, b: Ipv4Network| a.contains(b.ip()) || b.contains(a.ip());
        let v6 = |a: Ipv6Network, b: Ipv6Network| a.contains(b.ip()) || b.contains(a.ip());
        self.v4.zip(other.v4).is_some_and(|(a, b)| v4(a, b))
            || self.v6.zip(other.v6).is_some_and(|(a, b)| v6(a, b))
    }
}

impl fmt::Display for SubnetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, prefix) = self.v4.map_or((Ipv4Addr::UNSPECIFIED, 0), |net| (net.ip(), net.prefix()));
        write!(f, "{ip}-{prefix}")?;
        self.v6.map_or(Ok(()), |net| write!(f, "&{}-{}", net.ip(), net.prefix()))
    }
}

impl FromStr for SubnetKey {
    type Err = KeyError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let error = |reason| KeyError { key: s.to_owned(), reason };
        let shape = || error("does not name subnets (like 10.5.52.0-24 or 10.5.52.0-24&fd00:5:34::-64)");
        let (first, second) = s.split_once('&').map_or((s, None), |(first, second)| (first, Some(second)));
        let (ip, prefix) = part::<Ipv4Addr>(first).ok_or_else(shape)?;
        let v4 = match (ip, prefix) {
            (Ipv4Addr::UNSPECIFIED, 0) => None,
            _ => Some(Ipv4Network::new(ip, prefix).map_err(|_| shape())?),
        };
        let v6 = match second {
            None => None,
            Some(text) => {
                let (ip, prefix) = part::<Ipv6Addr>(text).ok_or_else(shape)?;
                Some(Ipv6Network::new(ip, prefix).map_err(|_| shape())?)
            }
        };
        if v4.is_some_and(|net| net.ip() != net.network()) || v6.is_some_and(|net| net.ip() != net.network())
        {
            return Err(error("has host bits"));
        }
        let key = Self { v4, v6 };
        if key.subnets().next().is_some() { Ok(key) } else { Err(shape()) }
    }
}

fn part<T: FromStr>(text: &str) -> Option<(T, u8)> {
    let (ip, prefix) = text.split_once('-')?;
    let plain = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    Some((ip.parse().ok()?, prefix.parse().ok().filter(|_| plain)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(s: &str) -> SubnetKey {
        s.parse().unwrap()
    }

    /// From flannel's own tests (`pkg/subnet/etcd`) and documentation.
    #[test]
    fn flannels_keys_are_read_and_written() {
        for s in ["10.3.4.0-24", "10.5.52.0-24&2001:cafe:42:1::-64", "0.0.0.0-0&2001:cafe:42:1::-64"] {
            assert_eq!(key(s).to_string(), s);
        }
        let both = key("10.5.52.0-24&2001:cafe:42:1::-64");
        let subnets: Vec<String> = both.subnets().map(|net| net.to_string()).collect();
        assert_eq!(subnets, ["10.5.52.0/24", "2001:cafe:42:1::/64"]);
    }

    #[test]
    fn what_names_no_subnets_is_an_error() {
        for s in [
            "",
            "config",
            "10.5.52.0",
            "10.5.52.0-",
            "10.5.52.0-33",
            "10.5.52.7-24",
            "10.5.52.0-+24",
            "10.5.52.0-24&",
            "10.5.52.0-24&fd00::",
            "10.5.52.0-24&fd00::1-64",
            "0.0.0.0-0",
            "x10.5.52.0-24",
            "10.5.52.0-24&fd00::-64&fd01::-64",
            "10.5.52.0-24 ",
            "fd00::-64",
        ] {
            assert!(s.parse::<SubnetKey>().is_err(), "{s:?}");
        }
    }

    #[test]
    fn either_family_overlaps() {
        let both = key("10.5.52.0-24&fd00:1::-64");
        assert!(both.overlaps(key("10.5.48.0-20")));
        assert!(both.overlaps(key("10.5.53.0-24&fd00::-16")));
        assert!(!both.overlaps(key("10.5.53.0-24&fd00:2::-64")));
    }

    proptest! {
        #[test]
        fn writing_is_reading_backwards(
            ip in any::<u32>(), prefix in 1u8..=31, six in any::<Option<u128>>(), six_prefix in 1u8..=127,
        ) {
            let v4 = Ipv4Network::new(Ipv4Addr::from(ip), prefix).unwrap();
            let v4 = Ipv4Network::new(v4.network(), prefix).unwrap();
            let v6 = six.map(|ip| {
                let net = Ipv6Network::new(Ipv6Addr::from(ip), six_prefix).unwrap();
                Ipv6Network::new(net.network(), six_prefix).unwrap()
            });
            let key = SubnetKey { v4: Some(v4), v6 };
            prop_assert_eq!(key.to_string().parse::<SubnetKey>(), Ok(key));
        }

        #[test]
        fn no_text_breaks_the_reader(s in "\\PC{0,40}") {
            let _ = s.parse::<SubnetKey>();
        }
    }
}
