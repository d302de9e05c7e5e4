//! nf_tables requests about whom the tunnel hears: two sets of addresses, and a chain that drops VXLAN from
//! anywhere else.

use std::net::IpAddr;

use flatnet_core::link::Underlay;
use flatnet_core::overlay::filter::{TunnelFilter, set_name};

use super::{
    DELCHAIN, DELRULE, DefaultNla, HOST_IF_PREFIX, NEWCHAIN, NEWRULE, NEWTABLE, NFPROTO_IPV4, NFPROTO_IPV6,
    NFT_REG_1, NFTA_RULE_USERDATA, NLM_F_APPEND, NLM_F_CREATE, NlasIterator, Request, SUBSYSTEM, TABLE,
    equal, expression, nested, nla, number, octets, request, text, value,
};

/// The chain's name.
pub(crate) const CHAIN: &str = "vxlan-from-peers";
const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const DELSET: u16 = SUBSYSTEM << 8 | 11;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_IP_PRI_FILTER: u32 = 0;
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
    vec![request(NEWTABLE, NLM_F_CREATE, vec![text(1, TABLE)]), request(NEWSET, NLM_F_CREATE, set)]
}

pub(crate) fn add(underlay: Underlay, addresses: &[IpAddr]) -> Request {
    request(NEWSETELEM, NLM_F_CREATE, elements(underlay, addresses))
}

pub(crate) fn remove(underlay: Underlay, addresses: &[IpAddr]) -> Request {
    request(DELSETELEM, 0, elements(underlay, addresses))
}

fn elements(underlay: Underlay, addresses: &[IpAddr]) -> Vec<DefaultNla> {
    let element = |ip: &IpAddr| nested(1, &[nested(1, &[value(&octets(*ip))])]);
    let all: Vec<DefaultNla> = addresses.iter().map(element).collect();
    vec![text(1, TABLE), text(2, set_name(underlay)), nested(3, &all)]
}

/// All chains of the family, anyone's.
pub(crate) fn dump_chains() -> Request {
    request(GETCHAIN, 0, Vec::new())
}

/// The chain's name, where it is in our table.
pub(crate) fn own_chain(body: &[u8]) -> Option<String> {
    let attributes = || NlasIterator::new(body.get(4..).unwrap_or_default()).flatten();
    let name = |kind| attributes().find(|a| a.kind() == kind).map(|a| a.value().to_vec());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned();
    name(3).filter(|_| name(1).map(text).as_deref() == Some(TABLE)).map(text)
}

/// All elements of a set.
pub(crate) fn dump(underlay: Underlay) -> Request {
    request(GETSETELEM, 0, vec![text(1, TABLE), text(2, set_name(underlay))])
}

/// The addresses in one message of a dump.
pub(crate) fn parse(body: &[u8]) -> Vec<IpAddr> {
    const LIST_ELEMENTS: u16 = 3;
    let attributes = NlasIterator::new(body.get(4..).unwrap_or_default()).flatten();
    let lists = attributes.filter(|attribute| attribute.kind() == LIST_ELEMENTS);
    lists
        .flat_map(|list| {
            NlasIterator::new(list.value()).flatten().filter_map(|e| key(e.value())).collect::<Vec<_>>()
        })
        .collect()
}

/// The key in `NFTA_LIST_ELEM`: `NFTA_SET_ELEM_KEY`, `NFTA_DATA_VALUE`.
fn key(element: &[u8]) -> Option<IpAddr> {
    let key = NlasIterator::new(element).flatten().find(|attribute| attribute.kind() == 1)?;
    let data = NlasIterator::new(key.value()).flatten().find(|attribute| attribute.kind() == 1)?;
    let bytes = data.value();
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Makes the chain where it is not, and writes its rules anew. At `input`: what the node forwards for
/// others is theirs, and outer fragments are whole again by then.
pub(crate) fn put_chain(filter: &TunnelFilter) -> Vec<Request> {
    let hook = nested(4, &[number(1, NF_INET_LOCAL_IN), number(2, NF_IP_PRI_FILTER)]);
    let mut all = vec![
        request(NEWCHAIN, NLM_F_CREATE, vec![text(1, TABLE), text(3, CHAIN), hook, text(7, "filter")]),
        request(DELRULE, 0, vec![text(1, TABLE), text(2, CHAIN)]),
    ];
    let rules = [from_pods(filter), from_strangers(filter)];
    for (expressions, mark) in rules.into_iter().zip(filter.marks()) {
        let attributes = vec![
            text(1, TABLE),
            text(2, CHAIN),
            nested(4, &expressions),
            nla(NFTA_RULE_USERDATA, &userdata(&mark)),
        ];
        all.push(request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes));
    }
    all
}

/// Requests of which each may be refused because there is nothing to remove.
pub(crate) fn remove_all() -> [Vec<Request>; 3] {
    let set = |underlay| vec![request(DELSET, 0, vec![text(1, TABLE), text(2, set_name(underlay))])];
    [vec![request(DELCHAIN, 0, vec![text(1, TABLE), text(3, CHAIN)])], set(Underlay::V4), set(Underlay::V6)]
}

/// A comment as nft(8) shows it (libnftnl's `NFTNL_UDATA_RULE_COMMENT`, type 0).
fn userdata(comment: &str) -> Vec<u8> {
    let mut data = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}

/// The comment in a rule's user data.
pub(crate) fn comment(userdata: &[u8]) -> String {
    let text = userdata.get(2..).unwrap_or_default();
    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
}

/// A pod of this node is no node, whatever address it sends from.
fn from_pods(filter: &TunnelFilter) -> Vec<DefaultNla> {
    const NFT_META_IIFNAME: u32 = 6;
    let mut all = is_tunnel(filter);
    all.push(expression("meta", &[number(1, NFT_REG_1), number(2, NFT_META_IIFNAME)]));
    // Compared as far as it goes: any name that begins so.
    all.push(equal(HOST_IF_PREFIX.as_bytes()));
    all.extend(counted_drop());
    all
}

fn from_strangers(filter: &TunnelFilter) -> Vec<DefaultNla> {
    const NFT_META_NFPROTO: u32 = 15;
    const NETWORK_HEADER: u32 = 1;
    const NFT_LOOKUP_F_INV: u32 = 1;
    let (family, offset, length) = match filter.underlay {
        Underlay::V4 => (NFPROTO_IPV4, 12, 4),
        Underlay::V6 => (NFPROTO_IPV6, 8, 16),
    };
    let source = [number(1, NFT_REG_1), number(2, NETWORK_HEADER), number(3, offset), number(4, length)];
    let lookup = [text(1, set_name(filter.underlay)), number(2, NFT_REG_1), number(5, NFT_LOOKUP_F_INV)];
    let mut all = is_tunnel(filter);
    all.push(expression("meta", &[number(1, NFT_REG_1), number(2, NFT_META_NFPROTO)]));
    all.push(equal(&[family]));
    all.push(expression("payload", &source));
    all.push(expression("lookup", &lookup));
    all.extend(counted_drop());
    all
}

/// UDP to the port, with the network identifier behind the UDP header (RFC 7348, section 5).
fn is_tunnel(filter: &TunnelFilter) -> Vec<DefaultNla> {
    const NFT_META_L4PROTO: u32 = 16;
    const UDP: u8 = 17;
    const TRANSPORT_HEADER: u32 = 2;
    let part = |offset, length| {
        [number(1, NFT_REG_1), number(2, TRANSPORT_HEADER), number(3, offset), number(4, length)]
    };
    vec![
        expression("meta", &[number(1, NFT_REG_1), number(2, NFT_META_L4PROTO)]),
        equal(&[UDP]),
        expression("payload", &part(2, 2)),
        equal(&filter.port.to_be_bytes()),
        expression("payload", &part(8 + 4, 3)),
        equal(&filter.vni.get().to_be_bytes()[1..]),
    ]
}

fn counted_drop() -> [DefaultNla; 2] {
    const NF_DROP: u32 = 0;
    let verdict = nested(2, &[number(1, NF_DROP)]);
    [expression("counter", &[]), expression("immediate", &[number(1, 0), nested(2, &[verdict])])]
}
