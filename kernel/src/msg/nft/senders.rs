//! nf_tables requests about whom the tunnel hears: two sets of addresses, and a chain that drops VXLAN from
//! anywhere else.

use std::net::IpAddr;

use flatnet_core::link::Underlay;
use flatnet_core::overlay::filter::{TunnelFilter, set_name};
use flatnet_core::step::TABLE;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NlasIterator};

use super::super::nfnl::{HEADER, find, nested, number, text};
use super::super::{nla, octets};
use super::{
    Chain, DELSET, DELSETELEM, Existing, GETCHAIN, GETSETELEM, NEWSET, NEWSETELEM, Rule, delete_chain,
    element, expr, make_chain, make_table, request,
};
use crate::batch::Request;

/// The chain's name.
pub(crate) const CHAIN: &str = "vxlan-from-peers";
const NF_INET_LOCAL_IN: u32 = 1;
const NF_IP_PRI_FILTER: i32 = 0;
/// Elements per message: so many IPv6 ones fit the 64 KiB of one attribute.
pub(crate) const ELEMENTS: usize = 1000;

/// Makes table and set where they are not.
pub(crate) fn put_set(underlay: Underlay) -> Vec<Request> {
    // How nft(8) shows the key: `ipv4_addr` and `ipv6_addr` (nftables' include/datatype.h).
    let (datatype, length) = match underlay {
        Underlay::V4 => (7, 4),
        Underlay::V6 => (8, 16),
    };
    let set = vec![
        text(1, TABLE),
        text(2, set_name(underlay)),
        number(3, 0),
        number(4, datatype),
        number(5, length),
        number(10, 1),
    ];
    vec![make_table(), request(NEWSET, NLM_F_CREATE, set)]
}

pub(crate) fn add(underlay: Underlay, addresses: &[IpAddr]) -> Request {
    request(NEWSETELEM, NLM_F_CREATE, elements(underlay, addresses))
}

pub(crate) fn remove(underlay: Underlay, addresses: &[IpAddr]) -> Request {
    request(DELSETELEM, 0, elements(underlay, addresses))
}

fn elements(underlay: Underlay, addresses: &[IpAddr]) -> Vec<DefaultNla> {
    let element = |ip: &IpAddr| nested(1, &[nested(1, &[nla(1, &octets(*ip))])]);
    let all: Vec<DefaultNla> = addresses.iter().map(element).collect();
    vec![text(1, TABLE), text(2, set_name(underlay)), nested(3, &all)]
}

/// All chains of the family, anyone's.
pub(crate) fn dump_chains() -> Request {
    request(GETCHAIN, 0, Vec::new())
}

/// The chain's name, where it is in our table.
pub(crate) fn own_chain(body: &[u8]) -> Option<String> {
    let attributes = body.get(HEADER..)?;
    let text =
        |kind| Some(String::from_utf8_lossy(&find(attributes, kind)?).trim_end_matches('\0').to_owned());
    text(3).filter(|_| text(1).as_deref() == Some(TABLE))
}

/// All elements of a set.
pub(crate) fn dump(underlay: Underlay) -> Request {
    request(GETSETELEM, 0, vec![text(1, TABLE), text(2, set_name(underlay))])
}

/// The addresses in one message of a dump.
pub(crate) fn parse(body: &[u8]) -> Vec<IpAddr> {
    const LIST_ELEMENTS: u16 = 3;
    let attributes = NlasIterator::new(body.get(HEADER..).unwrap_or_default()).flatten();
    let lists = attributes.filter(|attribute| attribute.kind() == LIST_ELEMENTS);
    lists
        .flat_map(|list| {
            NlasIterator::new(list.value()).flatten().filter_map(|e| key(e.value())).collect::<Vec<_>>()
        })
        .collect()
}

/// The key in `NFTA_LIST_ELEM`: `NFTA_SET_ELEM_KEY`, `NFTA_DATA_VALUE`.
fn key(element: &[u8]) -> Option<IpAddr> {
    element::address(&find(&find(element, 1)?, 1)?)
}

/// Makes the chain where it is not, and writes its rules anew. At `input`: what the node forwards for
/// others is theirs, and outer fragments are whole again by then.
pub(crate) fn put_chain(filter: &TunnelFilter) -> Vec<Request> {
    let rules = [from_pods(filter), from_strangers(filter)].into_iter().zip(filter.marks());
    let chain = Chain {
        name: CHAIN.to_owned(),
        kind: "filter",
        hook: NF_INET_LOCAL_IN,
        priority: NF_IP_PRI_FILTER,
        rules: rules.map(|(expressions, comment)| Rule { comment, expressions }).collect(),
    };
    make_chain(&chain, Existing::Rewrite)
}

/// Requests of which each may be refused because there is nothing to remove.
pub(crate) fn remove_all() -> [Vec<Request>; 3] {
    let set = |underlay| vec![request(DELSET, 0, vec![text(1, TABLE), text(2, set_name(underlay))])];
    [vec![delete_chain(CHAIN)], set(Underlay::V4), set(Underlay::V6)]
}

/// A pod of this node is no node, whatever address it sends from.
fn from_pods(filter: &TunnelFilter) -> Vec<DefaultNla> {
    let mut all = expr::vxlan(filter.port, filter.vni.get());
    all.extend(expr::pod_interface(expr::Way::In));
    all.extend([expr::counter(), expr::verdict(expr::Verdict::Drop)]);
    all
}

fn from_strangers(filter: &TunnelFilter) -> Vec<DefaultNla> {
    let mut all = expr::vxlan(filter.port, filter.vni.get());
    all.extend(expr::source_not_in(filter.underlay == Underlay::V4, set_name(filter.underlay)));
    all.extend([expr::counter(), expr::verdict(expr::Verdict::Drop)]);
    all
}
