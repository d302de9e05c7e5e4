//! Expressions of rules: small programs over registers. Register 1 has 16 bytes; 9 and 10 are its second
//! and third word, 2 is the next 16 bytes and 13 the second word of those.

use flatnet_core::link::HOST_IF_PREFIX;
use ipnetwork::IpNetwork;
use netlink_packet_core::DefaultNla;

use super::super::nfnl::{nested, number, text};
use super::super::{nla, octets};
use super::{NFPROTO_IPV4, NFPROTO_IPV6};

const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG_1_SECOND: u32 = 9;
const REG_1_THIRD: u32 = 10;
const REG_2: u32 = 2;
const REG_2_SECOND: u32 = 13;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Which interface of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    In,
    Out,
}

/// What becomes of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Drop,
    Return,
}

pub(crate) fn verdict(verdict: Verdict) -> DefaultNla {
    const NF_DROP: i32 = 0;
    const NFT_RETURN: i32 = -5;
    let code = match verdict {
        Verdict::Drop => NF_DROP,
        Verdict::Return => NFT_RETURN,
    };
    let verdict = nested(2, &[number(1, code.cast_unsigned())]);
    expression("immediate", &[number(1, REG_VERDICT), nested(2, &[verdict])])
}

/// "Through an interface of one of our pods": compared as far as the prefix goes.
pub(crate) fn pod_interface(way: Way) -> [DefaultNla; 2] {
    let key = match way {
        Way::In => META_IIFNAME,
        Way::Out => META_OIFNAME,
    };
    [meta(key, REG_1), equal(HOST_IF_PREFIX.as_bytes())]
}

/// "Of this family".
pub(crate) fn family(v4: bool) -> [DefaultNla; 2] {
    [meta(META_NFPROTO, REG_1), equal(&[if v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }])]
}

/// "Of this family, and this address within this network".
pub(crate) fn within(network: IpNetwork, side: Side) -> Vec<DefaultNla> {
    let mask = octets(network.mask());
    let masked = [
        number(1, REG_1),
        number(2, REG_1),
        number(3, address_length(network.is_ipv4())),
        nested(4, &[nla(1, &mask)]),
        nested(5, &[nla(1, &vec![0; mask.len()])]),
    ];
    let mut all = family(network.is_ipv4()).to_vec();
    all.push(address(network.is_ipv4(), side, REG_1));
    all.push(expression("bitwise", &masked));
    all.push(equal(&octets(network.network())));
    all
}

/// "To an address of this node" (`fib daddr type local`).
pub(crate) fn to_local() -> [DefaultNla; 2] {
    const RESULT_ADDRTYPE: u32 = 3;
    const DADDR: u32 = 2;
    const RTN_LOCAL: u32 = 2;
    let fib = [number(1, REG_1), number(2, RESULT_ADDRTYPE), number(3, DADDR)];
    [expression("fib", &fib), equal(&RTN_LOCAL.to_ne_bytes())]
}

/// "From an address that is not behind the interface it came through" (`fib saddr . iif oif missing`).
pub(crate) fn from_elsewhere() -> [DefaultNla; 2] {
    const RESULT_OIF: u32 = 1;
    const SADDR: u32 = 1;
    const IIF: u32 = 8;
    const PRESENT: u32 = 32;
    let fib = [number(1, REG_1), number(2, RESULT_OIF), number(3, SADDR | IIF | PRESENT)];
    [expression("fib", &fib), equal(&[0; 4])]
}

/// "In this map, by protocol and port": what leads there, and the translation.
pub(crate) fn translate_to_port(v4: bool, map: &str) -> Vec<DefaultNla> {
    vec![meta(META_L4PROTO, REG_1), port(REG_1_SECOND), lookup(map, Some(REG_1)), dnat(v4)]
}

/// The same by address, protocol and port.
pub(crate) fn translate_to_port_of_address(v4: bool, map: &str) -> Vec<DefaultNla> {
    let (second, third) = if v4 { (REG_1_SECOND, REG_1_THIRD) } else { (REG_2, REG_2_SECOND) };
    vec![
        address(v4, Side::Destination, REG_1),
        meta(META_L4PROTO, second),
        port(third),
        lookup(map, Some(REG_1)),
        dnat(v4),
    ]
}

/// "From and to the pair of addresses in this set".
pub(crate) fn pair_in(v4: bool, set: &str) -> Vec<DefaultNla> {
    let second = if v4 { REG_1_SECOND } else { REG_2 };
    vec![address(v4, Side::Source, REG_1), address(v4, Side::Destination, second), lookup(set, None)]
}

/// "UDP to this port, with this VXLAN network identifier behind the UDP header" (RFC 7348, section 5).
pub(crate) fn vxlan(to_port: u16, vni: u32) -> Vec<DefaultNla> {
    const UDP: u8 = 17;
    const VNI_AT: u32 = 8 + 4;
    vec![
        meta(META_L4PROTO, REG_1),
        equal(&[UDP]),
        port(REG_1),
        equal(&to_port.to_be_bytes()),
        transport(REG_1, VNI_AT, 3),
        equal(&vni.to_be_bytes()[1..]),
    ]
}

/// "Of this family, from an address that is not in this set".
pub(crate) fn source_not_in(v4: bool, set: &str) -> Vec<DefaultNla> {
    const NFT_LOOKUP_F_INV: u32 = 1;
    let lookup = [text(1, set), number(2, REG_1), number(5, NFT_LOOKUP_F_INV)];
    let mut all = family(v4).to_vec();
    all.extend([address(v4, Side::Source, REG_1), expression("lookup", &lookup)]);
    all
}

/// Counts packets and bytes, as `nft list ruleset` shows them.
pub(crate) fn counter() -> DefaultNla {
    expression("counter", &[])
}

/// Takes the address of the interface it leaves through, and a port of its own.
pub(crate) fn masquerade() -> DefaultNla {
    const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
    expression("masq", &[number(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY)])
}

/// Address and port are where a lookup in a map put them: one behind the other.
fn dnat(v4: bool) -> DefaultNla {
    const NFT_NAT_DNAT: u32 = 1;
    let (family, port) = if v4 { (NFPROTO_IPV4, REG_1_SECOND) } else { (NFPROTO_IPV6, REG_2) };
    let target = [number(1, NFT_NAT_DNAT), number(2, family.into()), number(3, REG_1), number(5, port)];
    expression("nat", &target)
}

fn address(v4: bool, side: Side, register: u32) -> DefaultNla {
    let offset = match (v4, side) {
        (true, Side::Source) => 12,
        (true, Side::Destination) => 16,
        (false, Side::Source) => 8,
        (false, Side::Destination) => 24,
    };
    let length = address_length(v4);
    expression(
        "payload",
        &[number(1, register), number(2, NETWORK_HEADER), number(3, offset), number(4, length)],
    )
}

const fn address_length(v4: bool) -> u32 {
    if v4 { 4 } else { 16 }
}

/// The destination port is at the same place in every protocol that has one.
fn port(register: u32) -> DefaultNla {
    transport(register, 2, 2)
}

fn transport(register: u32, offset: u32, length: u32) -> DefaultNla {
    expression(
        "payload",
        &[number(1, register), number(2, TRANSPORT_HEADER), number(3, offset), number(4, length)],
    )
}

fn meta(key: u32, register: u32) -> DefaultNla {
    expression("meta", &[number(1, register), number(2, key)])
}

fn lookup(set: &str, value: Option<u32>) -> DefaultNla {
    let mut attributes = vec![text(1, set), number(2, REG_1)];
    attributes.extend(value.map(|register| number(3, register)));
    expression("lookup", &attributes)
}

fn equal(bytes: &[u8]) -> DefaultNla {
    const NFT_CMP_EQ: u32 = 0;
    expression("cmp", &[number(1, REG_1), number(2, NFT_CMP_EQ), nested(3, &[nla(1, bytes)])])
}

fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nested(1, &[text(1, name), nested(2, data)])
}
