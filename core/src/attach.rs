//! One pod's attachment: what to make, what to take away, and what CHECK expects to find.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::beside::{own_routes, plan_beside, rules};
use crate::cni::result::Promise;
use crate::hostport::{Holding, PodPorts};
use crate::link::{AttachmentIds, Mac, SegmentSizes};
use crate::node::Attachment;
use crate::shaping;
use crate::step::{
    AddrScope, Ipv4Conf, LinkChange, LinkLocal, LinkRef, Masquerade, Neighbour, Ns, Put, Route, Rule, Step,
    VethPair, Via,
};

/// The gateway every pod uses, the same on every node: the node's end of its own pair (RFC 3927 range).
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6: `fe80::1`.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The gateway of a pod's address.
#[must_use]
pub const fn gateway_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
    }
}

/// What the configuration asks for beyond the attachment itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Further destinations routed through the gateway.
    pub routes: Vec<IpNetwork>,
    /// Settings inside the pod, keys with slashes.
    pub sysctls: BTreeMap<String, String>,
    /// Settings the node needs first, in order.
    pub node_sysctls: Vec<(String, String)>,
    /// The masquerading chain the node needs first.
    pub masquerade: Option<Masquerade>,
    /// Segment size of the pod's link in bytes; `None` leaves the kernel's own.
    pub segment_size: Option<u32>,
}

impl Extras {
    /// What the record of `attachment` holds of it: all that concerns the pod itself.
    #[must_use]
    pub fn of(attachment: &Attachment) -> Self {
        Self {
            routes: attachment.routes.iter().chain(&attachment.ipam_routes).copied().collect(),
            sysctls: attachment.sysctls.clone(),
            ..Self::default()
        }
    }
}

/// Destinations routed through the pod's gateways: the default route of each family, then the extra ones
/// of a family the pod has.
#[must_use]
pub fn pod_destinations(attachment: &Attachment, extra: &[IpNetwork]) -> Vec<(IpNetwork, IpAddr)> {
    let mut all: Vec<(IpNetwork, IpAddr)> = Vec::new();
    for first in families(attachment) {
        all.push((default_route(first), gateway_of(first)));
        let of_family = extra.iter().filter(|dst| dst.is_ipv4() == first.is_ipv4());
        all.extend(of_family.map(|dst| (*dst, gateway_of(first))));
    }
    all
}

/// The first address of each family.
pub(crate) fn families(attachment: &Attachment) -> impl Iterator<Item = IpAddr> + '_ {
    let first = |v4: bool| attachment.addresses.iter().copied().find(move |ip| ip.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten()
}

fn default_route(ip: IpAddr) -> IpNetwork {
    let (any, prefix) = match ip {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    };
    IpNetwork::new(any, prefix).expect("zero is a prefix length")
}

pub(crate) fn node_link(attachment: &Attachment) -> LinkRef {
    LinkRef::node(attachment.host_ifname.clone())
}

pub(crate) fn pod_link(attachment: &Attachment) -> LinkRef {
    LinkRef::pod(attachment.ifname.clone())
}

/// Settings of the node's end: forward, answer ARP for whatever the pod asks, and let the pod send from
/// its own address only.
const HOST_CONF: [(Ipv4Conf, u32); 3] =
    [(Ipv4Conf::Forwarding, 1), (Ipv4Conf::ProxyArp, 1), (Ipv4Conf::RpFilter, 1)];

/// Answers to connections that the node made to a host port on its loopback address come back to that
/// address; only for them is it taken from the link. The guard chain lets nothing else through.
fn host_conf(ports: Option<&PodPorts>) -> Vec<(Ipv4Conf, u32)> {
    let localnet = ports.filter(|ports| ports.on_loopback()).map(|_| (Ipv4Conf::RouteLocalnet, 1));
    HOST_CONF.into_iter().chain(localnet).collect()
}

/// Everything ADD asks of the kernel, the node's side first. Nothing in it depends on what is there:
/// whatever must not be there makes a step fail.
#[must_use]
pub fn plan_add(attachment: &Attachment, extras: &Extras) -> Vec<Step> {
    let mut plan: Vec<Step> =
        extras.node_sysctls.iter().map(|(k, v)| Step::SetSysctl(Ns::Node, k.clone(), v.clone())).collect();
    plan.push(Step::PutGuard);
    plan.extend(extras.masquerade.clone().map(Step::PutMasquerade));
    plan.extend(PodPorts::of(attachment).map(Step::PutHostPorts));
    plan.extend(plan_node(attachment, extras));
    plan.extend(shaping::plan(attachment));
    plan.extend(plan_pod(attachment, extras));
    // The node's end went up before the pod's, without carrier: answers to the pod's first packets wait
    // behind this.
    plan.push(Step::Settle(node_link(attachment)));
    plan
}

fn up(link: LinkRef) -> Step {
    Step::SetLink(link, LinkChange { up: Some(true), ..LinkChange::default() })
}

/// The way to whatever link-local address the pod gives itself, as the kernel would have made it.
fn link_local_route(attachment: &Attachment) -> Route {
    // IP6_RT_PRIO_ADDRCONF, include/uapi/linux/ipv6_route.h
    const METRIC: u32 = 256;
    let dst = IpNetwork::new(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 64);
    Route {
        dst: dst.expect("64 is a prefix length"),
        via: Via::Link(attachment.host_ifname.clone()),
        source: None,
        metric: Some(METRIC),
    }
}

/// A forwarding node joins an anycast group for every IPv6 prefix on a link, and leaving one doubles the
/// time to delete it (`addrconf_leave_anycast`, net/ipv6/addrconf.c). So the node's end has the gateway's
/// address alone, with a prefix of its own length, and no link-local address made from its MAC.
pub(crate) fn plan_node(attachment: &Attachment, extras: &Extras) -> Vec<Step> {
    let link = node_link(attachment);
    let mut plan = vec![
        Step::CreateVeth(VethPair {
            host: attachment.host_ifname.clone(),
            host_mac: attachment.host_mac,
            pod: attachment.ifname.clone(),
            pod_mac: attachment.mac,
            mtu: attachment.mtu,
            segment_size: extras.segment_size,
        }),
        Step::SetLink(
            link.clone(),
            LinkChange {
                alias: Some(alias(attachment)),
                ipv4: host_conf(PodPorts::of(attachment).as_ref()),
                link_local: Some(LinkLocal::None),
                ..LinkChange::default()
            },
        ),
        up(link.clone()),
    ];
    for first in families(attachment) {
        plan.push(Step::AddAddr(link.clone(), IpNetwork::from(gateway_of(first)), AddrScope::Host));
        if first.is_ipv6() {
            plan.push(Step::PutRoute(Ns::Node, link_local_route(attachment), Put::Beside));
        }
    }
    for ip in &attachment.addresses {
        let via = Via::Link(attachment.host_ifname.clone());
        let route = Route { dst: IpNetwork::from(*ip), via, source: None, metric: None };
        plan.push(Step::PutRoute(Ns::Node, route, Put::New));
        plan.push(Step::PutNeighbour(link.clone(), Neighbour { ip: *ip, mac: attachment.mac }));
    }
    plan
}

pub(crate) fn plan_pod(attachment: &Attachment, extras: &Extras) -> Vec<Step> {
    let link = pod_link(attachment);
    let mut plan = Vec::new();
    if attachment.addresses.iter().any(IpAddr::is_ipv6) {
        for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
            let key = format!("net/ipv6/conf/{}/{setting}", attachment.ifname);
            plan.push(Step::SetSysctl(Ns::Pod, key, value.to_owned()));
        }
    }
    plan.push(up(LinkRef::pod("lo".parse().expect("lo is an interface name"))));
    plan.push(up(link.clone()));
    for ip in &attachment.addresses {
        plan.push(Step::AddAddr(link.clone(), IpNetwork::from(*ip), AddrScope::Global));
    }
    for first in families(attachment) {
        let gateway = gateway_of(first);
        plan.push(Step::PutNeighbour(link.clone(), Neighbour { ip: gateway, mac: attachment.host_mac }));
    }
    let routes = pod_routes(attachment, &extras.routes).into_iter();
    plan.extend(routes.map(|route| Step::PutRoute(Ns::Pod, route, Put::New)));
    plan.extend(plan_beside(attachment, extras));
    let settings = extras.sysctls.iter();
    plan.extend(settings.map(|(k, v)| Step::SetSysctl(Ns::Pod, k.clone(), v.clone())));
    plan
}

/// The pod's routes: to its gateways, which are on the link, then through them.
pub(crate) fn pod_routes(attachment: &Attachment, extra: &[IpNetwork]) -> Vec<Route> {
    let link = || attachment.ifname.clone();
    let route = |dst, via| Route { dst, via, source: None, metric: attachment.metric };
    let on_link = |first| route(IpNetwork::from(gateway_of(first)), Via::Link(link()));
    let mut all: Vec<Route> = families(attachment).map(on_link).collect();
    let through = pod_destinations(attachment, extra).into_iter();
    all.extend(through.map(|(dst, gateway)| route(dst, Via::Gateway { gateway, link: link() })));
    all
}

/// What people see in `ip link`.
fn alias(attachment: &Attachment) -> String {
    // IFALIASZ - 1, include/uapi/linux/if.h
    const LONGEST: usize = 255;
    let whole = match &attachment.pod {
        Some(pod) => format!("flatnet {pod} {}", attachment.ifname),
        None => format!("flatnet {} {}", attachment.container, attachment.ifname),
    };
    let end = whole.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST).last();
    whole[..end.unwrap_or(0)].to_owned()
}

/// Everything DEL asks of the kernel. The pair takes its addresses, routes and neighbours with it, and
/// names are derived, so nothing that ADD remembered is needed.
#[must_use]
pub fn plan_del(ids: &AttachmentIds) -> Vec<Step> {
    let shaper = shaping::device(&ids.host_if);
    [ids.host_if.clone(), shaper].map(|name| Step::DeleteLink(LinkRef::node(name))).into()
}

/// What an attachment whose pod is gone can have left in the kernel: its host ports, and the devices that
/// do not go with the pod's namespace.
#[must_use]
pub fn plan_bury(attachment: &Attachment) -> Vec<Step> {
    let ids = AttachmentIds::of(&attachment.container, &attachment.ifname);
    let ports =
        (!attachment.host_ports.is_empty()).then(|| Step::DropHostPorts(Holding::Of(ids.host_if.clone())));
    ports.into_iter().chain(plan_del(&ids)).collect()
}

/// One end of the pair, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenEnd {
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Largest segments it takes.
    pub segments: SegmentSizes,
    /// Addresses on it.
    pub addresses: Vec<IpNetwork>,
    /// Routes through it.
    pub routes: Vec<SeenRoute>,
    /// Permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// IPv4 settings of the link, as far as read.
    pub conf: Vec<(Ipv4Conf, u32)>,
    /// Its alias.
    pub alias: Option<String>,
}

/// A route through a link, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// Gateway; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Metric.
    pub metric: u32,
}

/// Metric of a route to `dst` that was given none: zero, and for IPv6 `IP6_RT_PRIO_USER`
/// (include/net/ipv6.h).
#[must_use]
pub const fn default_metric(dst: &IpNetwork) -> u32 {
    match dst {
        IpNetwork::V4(_) => 0,
        IpNetwork::V6(_) => 1024,
    }
}

/// What the kernel shows of an attachment; an end that is not there is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenAttachment {
    /// The node's end.
    pub node: Option<SeenEnd>,
    /// The pod's end.
    pub pod: Option<SeenEnd>,
    /// Whether the pod's `lo` is up.
    pub loopback_up: bool,
    /// Settings inside the pod, as far as read, keys with slashes.
    pub sysctls: BTreeMap<String, String>,
    /// Routes of the pod's end in the table of its own ([`crate::beside::table_of`]).
    pub own_routes: Vec<SeenRoute>,
    /// Rules of the pod that choose a table by source address alone.
    pub rules: Vec<Rule>,
}

/// The first thing that is not as ADD made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: expected {expected}, found {found}")]
pub struct Difference {
    /// The object: "mtu of eth0 on pod".
    pub object: String,
    /// As recorded.
    pub expected: String,
    /// As the kernel shows it.
    pub found: String,
}

/// Compares the kernel with the record, and with what the runtime was promised. More than was made is
/// fine: other plugins and the pod itself may add.
///
/// # Errors
/// The first difference.
pub fn check(
    attachment: &Attachment,
    extra: &[IpNetwork],
    promise: &Promise,
    seen: &SeenAttachment,
) -> Result<(), Difference> {
    let (pod_name, node_name) = (pod_link(attachment).to_string(), node_link(attachment).to_string());
    let pod = seen.pod.as_ref().ok_or_else(|| gone(&pod_name))?;
    let node = seen.node.as_ref().ok_or_else(|| gone(&node_name))?;
    check_link(&pod_name, attachment, attachment.mac, pod)?;
    check_link(&node_name, attachment, attachment.host_mac, node)?;
    if let Some(promised) = &promise.mac {
        same(format!("mac of {pod_name} in prevResult"), &attachment.mac.to_string(), promised)?;
    }
    let own = attachment.addresses.iter().map(|ip| IpNetwork::from(*ip));
    for address in own.chain(promise.addresses.iter().copied()) {
        has(&format!("address on {pod_name}"), &pod.addresses, &address)?;
    }
    for first in families(attachment) {
        let gateway = gateway_of(first);
        let neighbour = Neighbour { ip: gateway, mac: attachment.host_mac };
        has(&format!("neighbour on {pod_name}"), &neighbours(pod), &NeighbourText(neighbour))?;
        let ips: Vec<IpAddr> = node.addresses.iter().map(IpNetwork::ip).collect();
        has(&format!("address on {node_name}"), &ips, &gateway)?;
    }
    for route in pod_routes(attachment, extra) {
        has(&format!("route on {pod_name}"), &routes(pod), &RouteText::of(&route))?;
    }
    check_beside(&pod_name, attachment, extra, seen)?;
    for (key, value) in &attachment.sysctls {
        let found = seen.sysctls.get(key).map_or("nothing", String::as_str);
        if !is_same_setting(value, found) {
            same(format!("{key} on pod"), value, found)?;
        }
    }
    for ip in &attachment.addresses {
        has(&format!("route on {node_name}"), &routes(node), &RouteText::to(IpNetwork::from(*ip), None))?;
        let neighbour = Neighbour { ip: *ip, mac: attachment.mac };
        has(&format!("neighbour on {node_name}"), &neighbours(node), &NeighbourText(neighbour))?;
    }
    for (conf, value) in host_conf(PodPorts::of(attachment).as_ref()) {
        let found = node.conf.iter().find(|(c, _)| *c == conf).map(|(_, v)| v.to_string());
        let found = found.unwrap_or_else(|| "nothing".to_owned());
        same(format!("{} of {node_name}", conf.as_str()), &value.to_string(), &found)?;
    }
    Ok(())
}

/// What a further interface of the pod has beyond the first.
fn check_beside(
    pod_name: &str,
    attachment: &Attachment,
    extra: &[IpNetwork],
    seen: &SeenAttachment,
) -> Result<(), Difference> {
    let extras = Extras { routes: extra.to_vec(), ..Extras::default() };
    let found: Vec<RouteText> = seen.own_routes.iter().map(|route| RouteText(*route)).collect();
    for route in own_routes(attachment, &extras) {
        has(&format!("route in the own table of {pod_name}"), &found, &RouteText::of(&route))?;
    }
    for rule in rules(attachment) {
        has(&format!("rule for {pod_name}"), &seen.rules, &rule)?;
    }
    Ok(())
}

fn check_link(name: &str, attachment: &Attachment, mac: Mac, end: &SeenEnd) -> Result<(), Difference> {
    let state = |up: bool| if up { "up" } else { "down" };
    same(format!("state of {name}"), state(true), state(end.up))?;
    same(format!("mtu of {name}"), &attachment.mtu.get().to_string(), &end.mtu.to_string())?;
    let found = end.mac.map_or_else(|| "none".to_owned(), |m| m.to_string());
    same(format!("mac of {name}"), &mac.to_string(), &found)
}

/// Compares both ends' segment sizes with the node's.
///
/// # Errors
/// The first difference.
pub fn check_segments(attachment: &Attachment, size: u32, seen: &SeenAttachment) -> Result<(), Difference> {
    let ends = [(pod_link(attachment), &seen.pod), (node_link(attachment), &seen.node)];
    for (link, end) in ends {
        let Some(end) = end else { continue };
        let SegmentSizes { gso, gso_ipv4, gro, gro_ipv4, .. } = end.segments;
        let all = [("gso", gso), ("gso_ipv4", gso_ipv4), ("gro", gro), ("gro_ipv4", gro_ipv4)];
        for (what, found) in all {
            same(format!("{what}_max_size of {link}"), &size.to_string(), &found.to_string())?;
        }
    }
    Ok(())
}

/// The kernel shows lists with tabs, people write them with spaces.
pub(crate) fn is_same_setting(wanted: &str, found: &str) -> bool {
    wanted.split_ascii_whitespace().eq(found.split_ascii_whitespace())
}

fn gone(link: &str) -> Difference {
    Difference { object: format!("link {link}"), expected: "there".to_owned(), found: "gone".to_owned() }
}

pub(crate) fn same(object: String, expected: &str, found: &str) -> Result<(), Difference> {
    if expected == found {
        return Ok(());
    }
    Err(Difference { object, expected: expected.to_owned(), found: found.to_owned() })
}

fn has<T: PartialEq + fmt::Display>(object: &str, all: &[T], one: &T) -> Result<(), Difference> {
    if all.contains(one) {
        return Ok(());
    }
    let found = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = if found.is_empty() { "none".to_owned() } else { found };
    Err(Difference { object: object.to_owned(), expected: one.to_string(), found })
}

#[derive(PartialEq)]
struct RouteText(SeenRoute);

impl RouteText {
    const fn to(dst: IpNetwork, gateway: Option<IpAddr>) -> Self {
        Self(SeenRoute { dst, gateway, metric: default_metric(&dst) })
    }

    fn of(route: &Route) -> Self {
        let gateway = match route.via {
            Via::Gateway { gateway, .. } => Some(gateway),
            Via::Link(_) | Via::Nexthop(_) | Via::Unreachable => None,
        };
        let metric = route.metric.unwrap_or(default_metric(&route.dst));
        Self(SeenRoute { dst: route.dst, gateway, metric })
    }
}

impl fmt::Display for RouteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SeenRoute { dst, gateway, metric } = self.0;
        write!(f, "{dst}")?;
        if let Some(gateway) = gateway {
            write!(f, " via {gateway}")?;
        }
        if metric != default_metric(&dst) { write!(f, " metric {metric}") } else { Ok(()) }
    }
}

#[derive(PartialEq)]
struct NeighbourText(Neighbour);

impl fmt::Display for NeighbourText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.0.ip, self.0.mac)
    }
}

fn routes(end: &SeenEnd) -> Vec<RouteText> {
    end.routes.iter().map(|route| RouteText(*route)).collect()
}

fn neighbours(end: &SeenEnd) -> Vec<NeighbourText> {
    end.neighbours.iter().map(|n| NeighbourText(*n)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::node::ATTACHMENT_VERSION;
    use crate::rate::Limits;

    pub(crate) fn attachment(addresses: &[&str]) -> Attachment {
        let ids = AttachmentIds::of(&"c1".parse().unwrap(), &"eth0".parse().unwrap());
        Attachment {
            version: ATTACHMENT_VERSION,
            network: "flatnet".parse().unwrap(),
            container: "c1".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            host_ifname: ids.host_if,
            netns: "/run/netns/c1".to_owned(),
            netns_inode: 7,
            netns_cookie: Some(8),
            node_cookie: Some(1),
            boot: Some("b1".to_owned()),
            made_at: 100,
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            mac: ids.pod_mac,
            host_mac: ids.host_mac,
            mtu: crate::link::OverlayMtu::default(),
            pod: Some("default/web".to_owned()),
            limits: Limits::default(),
            host_ports: Vec::new(),
            routes: Vec::new(),
            sysctls: BTreeMap::new(),
            metric: None,
            ipam_routes: Vec::new(),
            ipam: None,
        }
    }

    fn plan_text(addresses: &[&str]) -> String {
        plan_add(&attachment(addresses), &Extras::default()).iter().map(|s| format!("{s}\n")).collect()
    }

    #[test]
    fn plans_are_as_reviewed() {
        let now = [&["10.22.0.5"][..], &["fd00:22::5"], &["10.22.0.5", "fd00:22::5"]]
            .map(|a| format!("# {}\n{}", a.join(" "), plan_text(a)))
            .join("\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan_add.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
            return;
        }
        assert_eq!(now, include_str!("../tests/golden/plan_add.txt"), "run with BLESS=1 if meant");
    }

    /// What the kernel shows after ADD of an IPv4 pod.
    fn seen(a: &Attachment) -> SeenAttachment {
        let ip = a.addresses[0];
        let gateway = gateway_of(ip);
        let end = |mac| SeenEnd { up: true, mtu: a.mtu.get(), mac: Some(mac), ..SeenEnd::default() };
        let route = |dst, gateway| SeenRoute { dst, gateway, metric: 0 };
        SeenAttachment {
            node: Some(SeenEnd {
                addresses: vec![IpNetwork::from(gateway)],
                routes: vec![route(IpNetwork::from(ip), None)],
                neighbours: vec![Neighbour { ip, mac: a.mac }],
                conf: HOST_CONF.to_vec(),
                ..end(a.host_mac)
            }),
            pod: Some(SeenEnd {
                addresses: vec![IpNetwork::from(ip)],
                routes: vec![route(IpNetwork::from(gateway), None), route(default_route(ip), Some(gateway))],
                neighbours: vec![Neighbour { ip: gateway, mac: a.host_mac }],
                ..end(a.mac)
            }),
            ..SeenAttachment::default()
        }
    }

    type Spoil = fn(&mut SeenEnd);

    /// Every object ADD makes: CHECK passes with it and names it without it.
    #[test]
    fn check_names_whatever_is_missing() {
        let a = attachment(&["10.22.0.5"]);
        let check = |seen: &SeenAttachment| check(&a, &[], &Promise::default(), seen);
        assert_eq!(check(&seen(&a)), Ok(()));
        let either: [(&str, Spoil); 6] = [
            ("state", |e| e.up = false),
            ("mtu", |e| e.mtu = 9),
            ("mac", |e| e.mac = None),
            ("address", |e| e.addresses.clear()),
            ("route", |e| e.routes.clear()),
            ("neighbour", |e| e.neighbours.clear()),
        ];
        for (word, spoil) in either {
            for pod in [true, false] {
                let mut s = seen(&a);
                spoil(if pod { s.pod.as_mut() } else { s.node.as_mut() }.unwrap());
                let e = check(&s).unwrap_err();
                assert!(e.object.starts_with(word), "{word}: {e}");
                assert!(e.object.ends_with(if pod { "pod" } else { "node" }), "{word}: {e}");
            }
        }
        let mut s = seen(&a);
        s.node.as_mut().unwrap().conf[2].1 = 0;
        assert!(check(&s).unwrap_err().object.starts_with("rp_filter"));
        for gone in [SeenAttachment { pod: None, ..seen(&a) }, SeenAttachment { node: None, ..seen(&a) }] {
            assert_eq!(check(&gone).unwrap_err().found, "gone");
        }
    }

    #[test]
    fn check_holds_the_promise_against_the_kernel() {
        let a = attachment(&["10.22.0.5"]);
        let wrong_mac = Promise { mac: Some("02:00:00:00:00:99".to_owned()), addresses: Vec::new() };
        assert!(check(&a, &[], &wrong_mac, &seen(&a)).unwrap_err().object.contains("prevResult"));
        let more = Promise { mac: None, addresses: vec!["10.9.9.9/32".parse().unwrap()] };
        assert!(check(&a, &[], &more, &seen(&a)).is_err());
    }

    #[test]
    fn the_alias_fits_whatever_the_pod_is_called() {
        let mut a = attachment(&["10.22.0.5"]);
        a.pod = Some("é".repeat(300));
        assert!(alias(&a).len() <= 255);
    }
}
