//! nf_tables requests (include/uapi/linux/netfilter/nf_tables.h), as much as our table needs. Numbers go
//! over the wire in network byte order.

use flatnet_core::link::HOST_IF_PREFIX;
use flatnet_core::step::{Masquerade, TABLE};
use ipnetwork::IpNetwork;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE, NlasIterator,
};

use super::{NEW, nla, octets};
use crate::batch::Request;

pub(crate) mod senders;

const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const DELCHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const GETRULE: u16 = SUBSYSTEM << 8 | 7;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NF_INET_POST_ROUTING: u32 = 4;
const NF_IP_PRI_NAT_SRC: u32 = 100;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
const NFT_REG_1: u32 = 1;
const NFTA_RULE_USERDATA: u16 = 7;

/// `struct nfgenmsg` and attributes.
struct Message {
    family: u8,
    resource: u16,
    attributes: Vec<DefaultNla>,
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        4 + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..2].copy_from_slice(&[self.family, 0]);
        buffer[2..4].copy_from_slice(&self.resource.to_be_bytes());
        self.attributes.as_slice().emit(&mut buffer[4..]);
    }
}

fn request(kind: u16, flags: u16, attributes: Vec<DefaultNla>) -> Request {
    Request::new(kind, flags, &Message { family: NFPROTO_INET, resource: 0, attributes })
}

/// The two messages that frame a transaction.
pub(crate) fn frame() -> (Request, Request) {
    let edge = |kind| {
        let message = Message { family: NFPROTO_UNSPEC, resource: SUBSYSTEM, attributes: Vec::new() };
        Request::new(kind, 0, &message)
    };
    (edge(NFNL_MSG_BATCH_BEGIN), edge(NFNL_MSG_BATCH_END))
}

pub(crate) fn delete_table() -> Request {
    request(DELTABLE, 0, vec![text(1, TABLE)])
}

/// All rules of a chain; none where there is no such chain.
pub(crate) fn dump_rules(chain: &str) -> Request {
    request(GETRULE, 0, vec![text(1, TABLE), text(2, chain)])
}

pub(crate) fn delete_chain(chain: &str) -> Request {
    request(DELCHAIN, 0, vec![text(1, TABLE), text(3, chain)])
}

/// What becomes of a chain that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The transaction is refused: deleting rules costs a grace period, and somebody else may just have
    /// made the same chain.
    Refuse,
    /// Its rules are written anew.
    Rewrite,
}

/// Makes the table where it is not, and the chain with its rules.
pub(crate) fn put_masquerade(masquerade: &Masquerade, existing: Existing) -> Vec<Request> {
    let hook = nested(4, &[number(1, NF_INET_POST_ROUTING), number(2, NF_IP_PRI_NAT_SRC)]);
    let chain = vec![text(1, TABLE), text(3, &masquerade.chain), hook, text(7, "nat")];
    let mut all = vec![request(NEWTABLE, NLM_F_CREATE, vec![text(1, TABLE)])];
    match existing {
        Existing::Refuse => all.push(request(NEWCHAIN, NEW, chain)),
        Existing::Rewrite => {
            all.push(request(NEWCHAIN, NLM_F_CREATE, chain));
            all.push(request(DELRULE, 0, vec![text(1, TABLE), text(2, &masquerade.chain)]));
        }
    }
    for rule in rules(masquerade) {
        let attributes = vec![
            text(1, TABLE),
            text(2, &masquerade.chain),
            nested(4, &rule.expressions()),
            nla(NFTA_RULE_USERDATA, &rule.userdata()),
        ];
        all.push(request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes));
    }
    all
}

/// What marks each rule of the chain as ours and as unchanged, in order.
pub(crate) fn marks(masquerade: &Masquerade) -> Vec<Vec<u8>> {
    rules(masquerade).iter().map(Rule::userdata).collect()
}

/// The mark in the body of a dumped rule; empty where it has none.
pub(crate) fn mark(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    for attribute in NlasIterator::new(body.get(4..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_RULE_USERDATA {
            return Ok(attribute.value().to_vec());
        }
    }
    Ok(Vec::new())
}

enum Rule {
    /// Packets that leave towards one of this node's pods stay as they are, whichever network it is on.
    KeepToPods,
    /// Packets to here stay as they are.
    Keep(IpNetwork),
    /// Packets from here take the node's address.
    Masquerade(IpNetwork),
}

/// Destinations in the cluster and multicast first, whatever the source.
fn rules(masquerade: &Masquerade) -> Vec<Rule> {
    let multicast = ["224.0.0.0/4", "ff00::/8"].map(|s| s.parse().expect("a network"));
    let to_pods = [Rule::KeepToPods].into_iter();
    let keep = masquerade.cluster.iter().copied().chain(multicast).map(Rule::Keep);
    to_pods.chain(keep).chain(masquerade.pods.iter().copied().map(Rule::Masquerade)).collect()
}

impl Rule {
    /// A comment, as `nft list ruleset` shows it (libnftnl's `NFTNL_UDATA_RULE_COMMENT`, type 0).
    fn userdata(&self) -> Vec<u8> {
        let comment = match self {
            Self::KeepToPods => "to pods of this node: keep".to_owned(),
            Self::Keep(to) => format!("to {to}: keep"),
            Self::Masquerade(from) => format!("from {from}: masquerade"),
        };
        let mut data = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        data
    }

    fn expressions(&self) -> Vec<DefaultNla> {
        match self {
            Self::KeepToPods => {
                const NFT_META_OIFNAME: u32 = 7;
                let name = expression("meta", &[number(1, NFT_REG_1), number(2, NFT_META_OIFNAME)]);
                // Compared as far as it goes: any name that begins so.
                vec![name, equal(HOST_IF_PREFIX.as_bytes()), verdict_return()]
            }
            Self::Keep(to) => {
                let mut all = matching(*to, Side::Destination);
                all.push(verdict_return());
                all
            }
            Self::Masquerade(from) => {
                let mut all = matching(*from, Side::Source);
                all.push(expression("masq", &[number(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY)]));
                all
            }
        }
    }
}

fn verdict_return() -> DefaultNla {
    const NFT_RETURN: i32 = -5;
    let verdict = nested(2, &[number(1, NFT_RETURN.cast_unsigned())]);
    expression("immediate", &[number(1, 0), nested(2, &[verdict])])
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// "This family, and this address within this network".
fn matching(network: IpNetwork, side: Side) -> Vec<DefaultNla> {
    const NFT_META_NFPROTO: u32 = 15;
    const NETWORK_HEADER: u32 = 1;
    let (proto, offset, length) = match (network, side) {
        (IpNetwork::V4(_), Side::Source) => (NFPROTO_IPV4, 12, 4),
        (IpNetwork::V4(_), Side::Destination) => (NFPROTO_IPV4, 16, 4),
        (IpNetwork::V6(_), Side::Source) => (NFPROTO_IPV6, 8, 16),
        (IpNetwork::V6(_), Side::Destination) => (NFPROTO_IPV6, 24, 16),
    };
    let payload = [number(1, NFT_REG_1), number(2, NETWORK_HEADER), number(3, offset), number(4, length)];
    let mask = value(&octets(network.mask()));
    let zero = value(&octets(network.mask()).iter().map(|_| 0).collect::<Vec<u8>>());
    let masked = [
        number(1, NFT_REG_1),
        number(2, NFT_REG_1),
        number(3, length),
        nested(4, &[mask]),
        nested(5, &[zero]),
    ];
    vec![
        expression("meta", &[number(1, NFT_REG_1), number(2, NFT_META_NFPROTO)]),
        equal(&[proto]),
        expression("payload", &payload),
        expression("bitwise", &masked),
        equal(&octets(network.network())),
    ]
}

fn equal(bytes: &[u8]) -> DefaultNla {
    const NFT_CMP_EQ: u32 = 0;
    expression("cmp", &[number(1, NFT_REG_1), number(2, NFT_CMP_EQ), nested(3, &[value(bytes)])])
}

fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nested(1, &[text(1, name), nested(2, data)])
}

fn value(bytes: &[u8]) -> DefaultNla {
    nla(1, bytes)
}

fn number(kind: u16, value: u32) -> DefaultNla {
    nla(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    nla(kind, &bytes)
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    nla(kind | NLA_F_NESTED, &bytes)
}
