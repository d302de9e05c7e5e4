//! Our chains, rule by rule.

use std::net::IpAddr;

use flatnet_core::step::{Masquerade, Step};
use ipnetwork::IpNetwork;

use crate::msg::nft::element::{HAIRPIN4, HAIRPIN6, ONE4, ONE6, WILD4, WILD6};
use crate::msg::nft::expr::{
    Side, Verdict, Way, family, from_elsewhere, masquerade, pair_in, pod_interface, to_local,
    translate_to_port, translate_to_port_of_address, verdict, within,
};
use crate::msg::nft::{Chain, Rule};

/// Hooks (`enum nf_inet_hooks`, include/uapi/linux/netfilter.h).
const PRE_ROUTING: u32 = 0;
const LOCAL_OUT: u32 = 3;
const POST_ROUTING: u32 = 4;
/// Priorities (`enum nf_ip_hook_priorities`, include/uapi/linux/netfilter_ipv4.h).
const RAW: i32 = -300;
const NAT_DST: i32 = -100;
const NAT_SRC: i32 = 100;
/// Before the masquerade of what leaves the cluster: the first translation counts.
const HAIRPIN: i32 = NAT_SRC - 10;

/// The chains that a step asks for; none where it asks for something else.
pub(super) fn of(step: &Step) -> Vec<Chain> {
    match step {
        Step::PutMasquerade(m) => vec![masquerading(m)],
        Step::PutGuard => vec![guard()],
        Step::PutHostPorts(_) => host_ports(),
        _ => Vec::new(),
    }
}

fn rule<T>(comment: impl Into<String>, expressions: T) -> Rule
where
    T: IntoIterator<Item = netlink_packet_core::DefaultNla>,
{
    Rule { comment: comment.into(), expressions: expressions.into_iter().collect() }
}

/// Destinations in the cluster and multicast first, whatever the source; packets that leave towards one
/// of this node's pods stay as they are, whichever network it is on.
fn masquerading(asked: &Masquerade) -> Chain {
    let keep = || verdict(Verdict::Return);
    let multicast = ["224.0.0.0/4", "ff00::/8"].map(|s| s.parse().expect("a network"));
    let mut rules =
        vec![rule("to pods of this node: keep", pod_interface(Way::Out).into_iter().chain([keep()]))];
    for to in asked.cluster.iter().copied().chain(multicast) {
        let matching = within(to, Side::Destination).into_iter();
        rules.push(rule(format!("to {to}: keep"), matching.chain([keep()])));
    }
    for from in &asked.pods {
        let matching = within(*from, Side::Source).into_iter();
        rules.push(rule(format!("from {from}: masquerade"), matching.chain([masquerade()])));
    }
    Chain { name: asked.chain.clone(), kind: "nat", hook: POST_ROUTING, priority: NAT_SRC, rules }
}

/// The node's loopback addresses are for the node alone, also where an interface takes packets to them
/// (`route_localnet`); and a pod sends as itself only. For IPv4 `rp_filter` says the same, but the largest
/// of the link's and the node's value counts, and loose is larger than strict.
fn guard() -> Chain {
    let rules = vec![
        rule(
            "from pods to the node's loopback: drop",
            pod_interface(Way::In)
                .into_iter()
                .chain(within(loopback(true), Side::Destination))
                .chain([verdict(Verdict::Drop)]),
        ),
        rule(
            "from pods with an address that is not theirs: drop",
            pod_interface(Way::In).into_iter().chain(from_elsewhere()).chain([verdict(Verdict::Drop)]),
        ),
    ];
    Chain { name: "guard".to_owned(), kind: "filter", hook: PRE_ROUTING, priority: RAW, rules }
}

fn loopback(v4: bool) -> IpNetwork {
    let (ip, prefix) =
        if v4 { (IpAddr::from([127, 0, 0, 0]), 8) } else { (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128) };
    IpNetwork::new(ip, prefix).expect("a network")
}

fn host_ports() -> Vec<Chain> {
    let keep_loopback = |v4, comment| {
        let matching = within(loopback(v4), Side::Destination).into_iter();
        [rule(comment, matching.chain([verdict(Verdict::Return)]))].into_iter()
    };
    // A packet from outside to a loopback address is about to be dropped as a martian: it must not find
    // its way to a pod first.
    let incoming = keep_loopback(true, "to the node's loopback from outside: not for pods");
    // Answers to ::1 would be dropped: IPv6 has no `route_localnet`.
    let outgoing = keep_loopback(false, "to the node's IPv6 loopback: not for pods");
    vec![
        Chain {
            name: "hostports-in".to_owned(),
            kind: "nat",
            hook: PRE_ROUTING,
            priority: NAT_DST,
            rules: incoming.chain(translations()).collect(),
        },
        Chain {
            name: "hostports-out".to_owned(),
            kind: "nat",
            hook: LOCAL_OUT,
            priority: NAT_DST,
            rules: outgoing.chain(translations()).collect(),
        },
        Chain {
            name: "hairpin".to_owned(),
            kind: "nat",
            hook: POST_ROUTING,
            priority: HAIRPIN,
            rules: hairpins(),
        },
    ]
}

/// The map of one address goes before that of all.
fn translations() -> Vec<Rule> {
    let mut all = Vec::new();
    for (v4, one, wild) in [(true, ONE4.name, WILD4.name), (false, ONE6.name, WILD6.name)] {
        let local = || family(v4).into_iter().chain(to_local());
        let name = if v4 { "IPv4" } else { "IPv6" };
        all.push(rule(
            format!("{name} ports of one address"),
            local().chain(translate_to_port_of_address(v4, one)),
        ));
        all.push(rule(format!("{name} ports of all addresses"), local().chain(translate_to_port(v4, wild))));
    }
    all
}

/// A pod must not get answers from itself past the node, nor the node's loopback address as a source.
fn hairpins() -> Vec<Rule> {
    let to_itself = |v4, set, comment| {
        rule(comment, family(v4).into_iter().chain(pair_in(v4, set)).chain([masquerade()]))
    };
    let from_loopback = within(loopback(true), Side::Source).into_iter().chain(pod_interface(Way::Out));
    vec![
        to_itself(true, HAIRPIN4.name, "IPv4 from a pod to itself: masquerade"),
        to_itself(false, HAIRPIN6.name, "IPv6 from a pod to itself: masquerade"),
        rule("from the node's loopback to pods: masquerade", from_loopback.chain([masquerade()])),
    ]
}
