//! Host ports: ports of the node that lead to a pod. What is asked for, what becomes of it in our
//! nftables table, who holds a port, and what is to be put right.
//!
//! One port in one family is one [`Element`] of a map. Its comment names its holder, so that it is found
//! without any record.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::attach::Difference;
use crate::link::is_host_if;
use crate::names::IfName;
use crate::node::Attachment;
use crate::step::{Step, TABLE};

/// Longest comment in bytes that `nft -f` reads back (`NFTNL_UDATA_COMMENT_MAXLEN`, libnftnl), without
/// the zero at its end.
const LONGEST_COMMENT: usize = 127;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of this number, if it is one of ours.
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// On which addresses of the node a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostAddress {
    /// All, of each family that the pod has: an empty `hostIP`.
    #[default]
    Any,
    /// All IPv4 ones: `0.0.0.0`.
    AnyV4,
    /// All IPv6 ones: `::`.
    AnyV6,
    /// This one.
    One(IpAddr),
}

impl HostAddress {
    /// Whether the port is on addresses of this family.
    const fn covers(self, v4: bool) -> bool {
        match self {
            Self::Any => true,
            Self::AnyV4 => v4,
            Self::AnyV6 => !v4,
            Self::One(ip) => ip.is_ipv4() == v4,
        }
    }

    const fn one(self) -> Option<IpAddr> {
        match self {
            Self::One(ip) => Some(ip),
            Self::Any | Self::AnyV4 | Self::AnyV6 => None,
        }
    }
}

impl FromStr for HostAddress {
    type Err = std::net::AddrParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() {
            return Ok(Self::Any);
        }
        Ok(match s.parse::<IpAddr>()?.to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Self::AnyV4,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Self::AnyV6,
            ip => Self::One(ip),
        })
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AnyV4 => f.write_str("0.0.0.0"),
            Self::AnyV6 => f.write_str("::"),
            Self::One(ip) => ip.fmt(f),
        }
    }
}

impl TryFrom<String> for HostAddress {
    type Error = std::net::AddrParseError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<HostAddress> for String {
    fn from(address: HostAddress) -> Self {
        address.to_string()
    }
}

/// One port mapping, as asked for and as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// On which addresses of the node.
    #[serde(rename = "hostIP", default)]
    pub host_address: HostAddress,
    /// The node's port, never 0.
    pub host_port: u16,
    /// The pod's port, never 0.
    pub container_port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            HostAddress::Any => write!(f, "{} port {}", self.protocol, self.host_port),
            at => write!(f, "{} port {} of {at}", self.protocol, self.host_port),
        }
    }
}

impl HostPort {
    /// Whether one pod cannot have both: the same packet would have to go to two of its ports.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let same_place = [true, false].iter().any(|v4| {
            let (a, b) = (self.host_address, other.host_address);
            a.covers(*v4) && b.covers(*v4) && overlap(a.one(), b.one())
        });
        let same_port = self.protocol == other.protocol && self.host_port == other.host_port;
        same_port && same_place && self.container_port != other.container_port
    }

    /// Whether a pod with `addresses` can have it: it needs an address of the family.
    #[must_use]
    pub fn fits(&self, addresses: &[IpAddr]) -> bool {
        addresses.iter().any(|ip| self.host_address.covers(ip.is_ipv4()))
    }
}

/// Whether a packet can match both; `None` is every address of the family.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    a.is_none() || b.is_none() || a == b
}

/// One element of a map or set of our table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// A port of the node that leads to a pod.
    Port {
        /// The protocol.
        protocol: Protocol,
        /// The one address of the node; `None`: all of the pod's family.
        at: Option<IpAddr>,
        /// The node's port.
        port: u16,
        /// Where it leads.
        pod: IpAddr,
        /// The port there.
        pod_port: u16,
    },
    /// A pod that may reach itself through its host ports: it must not see its own address as the source.
    Hairpin(IpAddr),
}

impl Element {
    /// Whether both cannot be there for different pods.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Port { protocol, at, port, pod, .. },
                Self::Port { protocol: protocol2, at: at2, port: port2, pod: pod2, .. },
            ) => (protocol, port, pod.is_ipv4()) == (protocol2, port2, pod2.is_ipv4()) && overlap(*at, *at2),
            _ => false,
        }
    }

    /// Whether both have the same place in the same map.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port { at, .. }, Self::Port { at: at2, .. }) => at == at2 && self.conflicts(other),
            (Self::Hairpin(a), Self::Hairpin(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { protocol, at, port, pod, pod_port } => {
                write!(f, "{protocol} port {port}")?;
                match at {
                    Some(ip) => write!(f, " of {ip}")?,
                    None => f.write_str(if pod.is_ipv4() { " (IPv4)" } else { " (IPv6)" })?,
                }
                write!(f, " to {}", std::net::SocketAddr::new(*pod, *pod_port))
            }
            Self::Hairpin(ip) => write!(f, "hairpin of {ip}"),
        }
    }
}

/// An element as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The element.
    pub element: Element,
    /// Its comment: who holds it. Empty where somebody else made it.
    pub comment: String,
}

impl Held {
    /// The host end of the pod that holds it, where the comment says.
    #[must_use]
    pub fn holder(&self) -> Option<IfName> {
        let first = self.comment.split(' ').next()?;
        is_host_if(first).then(|| first.parse().ok()).flatten()
    }

    /// The holder, for people.
    #[must_use]
    pub fn holder_text(&self) -> String {
        match (self.holder(), self.comment.split_once(' ')) {
            (Some(host_if), Some((_, rest))) => format!("{rest} ({host_if})"),
            _ if self.comment.is_empty() => "somebody who left no name".to_owned(),
            _ => self.comment.clone(),
        }
    }
}

/// Everything one pod has in our maps and sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodPorts {
    /// The host end of its pair.
    pub holder: IfName,
    /// The comment of each element.
    pub comment: String,
    /// Its elements, in order.
    pub elements: Vec<Element>,
}

impl PodPorts {
    /// What `attachment` asks for; `None` where it has no host port.
    #[must_use]
    pub fn of(attachment: &Attachment) -> Option<Self> {
        let mut elements = BTreeSet::new();
        for v4 in [true, false] {
            let Some(pod) = attachment.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4) else {
                continue;
            };
            for mapping in attachment.host_ports.iter().filter(|m| m.host_address.covers(v4)) {
                elements.insert(Element::Port {
                    protocol: mapping.protocol,
                    at: mapping.host_address.one(),
                    port: mapping.host_port,
                    pod,
                    pod_port: mapping.container_port,
                });
                elements.insert(Element::Hairpin(pod));
            }
        }
        let elements: Vec<Element> = elements.into_iter().collect();
        let (holder, comment) = (attachment.host_ifname.clone(), comment(attachment));
        (!elements.is_empty()).then_some(Self { holder, comment, elements })
    }

    /// Whether any of `elements` is an IPv4 port that packets to the node's loopback addresses reach.
    #[must_use]
    pub fn on_loopback(&self) -> bool {
        self.elements.iter().any(|element| match element {
            Element::Port { at: Some(IpAddr::V4(ip)), .. } => ip.is_loopback(),
            Element::Port { at: None, pod, .. } => pod.is_ipv4(),
            _ => false,
        })
    }

    /// Elements of others that keep this pod from having its own.
    pub fn conflicts<'a>(&'a self, seen: &'a [Held]) -> impl Iterator<Item = &'a Held> {
        let others = seen.iter().filter(|held| held.holder().as_ref() != Some(&self.holder));
        others.filter(|held| self.elements.iter().any(|own| own.conflicts(&held.element)))
    }

    /// Connections that the kernel must forget for traffic to find the pod: those of protocols whose
    /// clients keep one going without ever opening it anew.
    #[must_use]
    pub fn stale_flows(&self) -> Vec<Flows> {
        let ports = self.elements.iter().filter_map(|element| match element {
            Element::Port { protocol, at, port, pod, .. } if *protocol != Protocol::Tcp => {
                Some(Flows::ToPort { protocol: *protocol, v4: pod.is_ipv4(), at: *at, port: *port })
            }
            _ => None,
        });
        ports.collect()
    }
}

/// The host end first: it is the key. Then what people know the pod by.
fn comment(attachment: &Attachment) -> String {
    let Attachment { host_ifname, container, ifname, pod, .. } = attachment;
    let whole = match pod {
        Some(pod) => format!("{host_ifname} {container} {ifname} {pod}"),
        None => format!("{host_ifname} {container} {ifname}"),
    };
    let ends = whole.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= LONGEST_COMMENT).last().unwrap_or(0);
    whole[..end].to_owned()
}

/// Which elements are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holding {
    /// Whatever the comment says is this pod's.
    Of(IfName),
    /// These, as far as they are still there: (element, comment).
    These(Vec<(Element, String)>),
}

impl Holding {
    /// Whether `held` is meant.
    #[must_use]
    pub fn includes(&self, held: &Held) -> bool {
        match self {
            Self::Of(holder) => held.holder().as_ref() == Some(holder),
            Self::These(all) => all.iter().any(|(e, comment)| *e == held.element && *comment == held.comment),
        }
    }
}

/// Tracked connections (conntrack) that have outlived what they belonged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flows {
    /// From, to, or translated to this pod.
    OfPod(IpAddr),
    /// To a port of the node.
    ToPort {
        /// The protocol.
        protocol: Protocol,
        /// The family.
        v4: bool,
        /// The one address of the node; `None`: all.
        at: Option<IpAddr>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfPod(ip) => write!(f, "of {ip}"),
            Self::ToPort { protocol, at: Some(ip), port, .. } => {
                write!(f, "to {protocol} port {port} of {ip}")
            }
            Self::ToPort { protocol, v4, port, .. } => {
                write!(f, "to {protocol} port {port} ({})", if *v4 { "IPv4" } else { "IPv6" })
            }
        }
    }
}

/// Makes the maps what the records say. `lives` tells of a holder without a readable record whether its
/// elements must stay all the same.
#[must_use]
pub fn heal(records: &[Attachment], seen: &[Held], lives: impl Fn(&IfName) -> bool) -> Vec<Step> {
    let wanted: Vec<PodPorts> = records.iter().filter_map(PodPorts::of).collect();
    let stays = |held: &&Held| {
        let Some(holder) = held.holder() else { return false };
        match records.iter().any(|record| record.host_ifname == holder) {
            true => wanted.iter().any(|w| w.holder == holder && w.elements.contains(&held.element)),
            false => lives(&holder),
        }
    };
    let (mut kept, gone): (Vec<&Held>, Vec<&Held>) = seen.iter().partition(stays);
    let mut steps = Vec::new();
    if !gone.is_empty() {
        let these = gone.iter().map(|held| (held.element, held.comment.clone())).collect();
        steps.push(Step::DropHostPorts(Holding::These(these)));
    }
    let new: Vec<Held> = wanted.iter().flat_map(held_by).collect();
    let mut standing = None;
    for ports in wanted {
        let whole = ports.elements.iter().all(|e| kept.iter().any(|held| held.element == *e));
        let taken: Vec<Held> = kept.iter().copied().cloned().collect();
        if whole {
            standing.get_or_insert(ports);
            continue;
        }
        // Who asks for what another holds is about to be refused.
        if ports.conflicts(&taken).next().is_some() {
            continue;
        }
        kept.extend(new.iter().filter(|held| held.holder().as_ref() == Some(&ports.holder)));
        steps.push(Step::PutHostPorts(ports));
    }
    if !steps.iter().any(|step| matches!(step, Step::PutHostPorts(_))) {
        // The chains are looked at with the elements: one that has all is enough.
        steps.extend(standing.map(Step::PutHostPorts));
    }
    steps
}

fn held_by(ports: &PodPorts) -> Vec<Held> {
    let held = |element: &Element| Held { element: *element, comment: ports.comment.clone() };
    ports.elements.iter().map(held).collect()
}

/// Compares the maps with the record.
///
/// # Errors
/// The first difference.
pub fn check(attachment: &Attachment, seen: &[Held]) -> Result<(), Difference> {
    let wanted = PodPorts::of(attachment);
    let elements = wanted.iter().flat_map(|ports| &ports.elements);
    for element in elements {
        let here = seen.iter().find(|held| held.element.same_key(element));
        let found = match here {
            Some(held) if held.element != *element => format!("{} of {}", held.element, held.holder_text()),
            Some(held) if held.holder().as_ref() != Some(&attachment.host_ifname) => {
                format!("the same of {}", held.holder_text())
            }
            Some(_) => continue,
            None => "none".to_owned(),
        };
        let object = format!("host port of {} in table inet {TABLE}", attachment.host_ifname);
        return Err(Difference { object, expected: element.to_string(), found });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
