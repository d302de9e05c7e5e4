//! nf_tables requests (include/uapi/linux/netfilter/nf_tables.h), as much as our table needs.

pub(crate) mod element;
pub(crate) mod expr;
pub(crate) mod senders;

use flatnet_core::step::TABLE;
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLM_F_APPEND, NLM_F_CREATE, NlasIterator};

use super::nfnl::{self, HEADER, Message, nested, number, text};
use super::{NEW, nla};
use crate::batch::Request;

const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const DELCHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const GETRULE: u16 = SUBSYSTEM << 8 | 7;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;
const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const DELSET: u16 = SUBSYSTEM << 8 | 11;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;
const GETGEN: u16 = SUBSYSTEM << 8 | 16;

pub(super) const NFPROTO_UNSPEC: u8 = 0;
pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

/// A base chain as it should be.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// `NF_INET_...`
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    pub(crate) rules: Vec<Rule>,
}

/// A rule, with the comment that `nft list ruleset` shows.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) comment: String,
    pub(crate) expressions: Vec<DefaultNla>,
}

/// A map or set as it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Types of the key's parts, as `nft` numbers them.
    pub(crate) key: &'static [Datatype],
    /// The same of the value; none for a set.
    pub(crate) value: &'static [Datatype],
}

/// `enum datatypes` of nft (include/datatype.h), which it needs to print an element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Datatype {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
}

impl Datatype {
    /// Number, and bytes in a register.
    const fn form(self) -> (u32, u32) {
        match self {
            Self::Ipv4 => (7, 4),
            Self::Ipv6 => (8, 16),
            Self::Protocol => (12, 4),
            Self::Port => (13, 4),
        }
    }

    /// Number and length of a concatenation (`TYPE_BITS`, nft's include/datatype.h).
    fn concatenated(parts: &[Self]) -> (u32, u32) {
        parts.iter().map(|part| part.form()).fold((0, 0), |all, one| (all.0 << 6 | one.0, all.1 + one.1))
    }
}

fn request(kind: u16, flags: u16, attributes: Vec<DefaultNla>) -> Request {
    nfnl::request(kind, flags, NFPROTO_INET, attributes)
}

/// The two messages that frame a transaction; with a generation it is refused (`ERESTART`) where
/// anything changed since.
pub(crate) fn frame(generation: Option<u32>) -> (Request, Request) {
    let edge = |kind, attributes| {
        Request::new(kind, 0, &Message { family: NFPROTO_UNSPEC, resource: SUBSYSTEM, attributes })
    };
    let known = generation.map(|generation| number(NFNL_BATCH_GENID, generation));
    (edge(NFNL_MSG_BATCH_BEGIN, known.into_iter().collect()), edge(NFNL_MSG_BATCH_END, Vec::new()))
}

pub(crate) fn get_generation() -> Request {
    nfnl::request(GETGEN, 0, NFPROTO_UNSPEC, Vec::new())
}

/// `NFTA_GEN_ID` in the body of the answer.
pub(crate) fn generation(body: &[u8]) -> Option<u32> {
    nfnl::find(body.get(HEADER..)?, 1)?.try_into().ok().map(u32::from_be_bytes)
}

pub(crate) fn make_table() -> Request {
    request(NEWTABLE, NLM_F_CREATE, vec![text(1, TABLE)])
}

pub(crate) fn delete_table() -> Request {
    request(DELTABLE, 0, vec![text(1, TABLE)])
}

/// All rules of our table; none where there is no such table.
pub(crate) fn dump_rules() -> Request {
    request(GETRULE, 0, vec![text(1, TABLE)])
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

/// Makes the set where it is not.
pub(crate) fn make_set(set: &Set) -> Request {
    const NFT_SET_MAP: u32 = 8;
    let (key, key_length) = Datatype::concatenated(set.key);
    let mut attributes = vec![text(1, TABLE), text(2, set.name), number(4, key), number(5, key_length)];
    if !set.value.is_empty() {
        let (value, length) = Datatype::concatenated(set.value);
        attributes.extend([number(3, NFT_SET_MAP), number(6, value), number(7, length)]);
    }
    // NFTA_SET_ID is required; rules find the set by name.
    attributes.push(number(10, 1));
    request(NEWSET, NLM_F_CREATE, attributes)
}

/// Makes the chain with its rules.
pub(crate) fn make_chain(chain: &Chain, existing: Existing) -> Vec<Request> {
    let hook = nested(4, &[number(1, chain.hook), number(2, chain.priority.cast_unsigned())]);
    let attributes = vec![text(1, TABLE), text(3, &chain.name), hook, text(7, chain.kind)];
    let mut all = match existing {
        Existing::Refuse => vec![request(NEWCHAIN, NEW, attributes)],
        Existing::Rewrite => vec![
            request(NEWCHAIN, NLM_F_CREATE, attributes),
            request(DELRULE, 0, vec![text(1, TABLE), text(2, &chain.name)]),
        ],
    };
    for rule in &chain.rules {
        let attributes = vec![
            text(1, TABLE),
            text(NFTA_RULE_CHAIN, &chain.name),
            nested(NFTA_RULE_EXPRESSIONS, &rule.expressions),
            nla(NFTA_RULE_USERDATA, &comment(&rule.comment)),
        ];
        all.push(request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, attributes));
    }
    all
}

/// A comment as `nft` stores it, for rules and elements alike (libnftnl's `NFTNL_UDATA_RULE_COMMENT` and
/// `NFTNL_UDATA_SET_ELEM_COMMENT`, both type 0).
fn comment(text: &str) -> Vec<u8> {
    let mut data = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

/// The text of such a comment.
fn comment_text(data: &[u8]) -> String {
    String::from_utf8_lossy(data.get(2..).unwrap_or_default()).trim_end_matches('\0').to_owned()
}

/// A rule as the kernel shows it.
#[derive(Debug)]
pub(crate) struct SeenRule {
    pub(crate) chain: String,
    userdata: Vec<u8>,
    expressions: Vec<u8>,
}

impl SeenRule {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut seen = Self { chain: String::new(), userdata: Vec::new(), expressions: Vec::new() };
        for attribute in NlasIterator::new(body.get(HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NFTA_RULE_CHAIN => {
                    seen.chain = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
                }
                NFTA_RULE_EXPRESSIONS => seen.expressions = value.to_vec(),
                NFTA_RULE_USERDATA => seen.userdata = value.to_vec(),
                _ => {}
            }
        }
        Ok(seen)
    }

    pub(crate) fn comment(&self) -> String {
        comment_text(&self.userdata)
    }

    /// Whether it is `rule`: the same comment, and expression by expression everything that we ask for.
    /// The kernel answers in an order of its own and adds what it took for granted.
    pub(crate) fn is(&self, rule: &Rule) -> bool {
        let seen: Vec<_> = NlasIterator::new(&self.expressions).flatten().collect();
        self.userdata == comment(&rule.comment)
            && seen.len() == rule.expressions.len()
            && rule.expressions.iter().zip(seen).all(|(own, seen)| {
                let mut bytes = vec![0; own.buffer_len()];
                own.emit(&mut bytes);
                // After the attribute's own header.
                has_all(bytes.get(4..).unwrap_or_default(), seen.value())
            })
    }
}

/// Whether each attribute in `own` is in `seen` with the same value. Within an expression no attribute
/// comes twice.
fn has_all(own: &[u8], seen: &[u8]) -> bool {
    NlasIterator::new(own).flatten().all(|own| {
        let same = |seen: &[u8]| match own.nested_flag() {
            true => has_all(own.value(), seen),
            false => own.value() == seen,
        };
        let mut seen = NlasIterator::new(seen).flatten();
        seen.find(|seen| seen.kind() == own.kind()).is_some_and(|seen| same(seen.value()))
    })
}
