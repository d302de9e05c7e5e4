//! Elements of our maps and sets: where each goes, and how it is written and read.

use std::net::IpAddr;

use flatnet_core::hostport::{Element, Held, Protocol};
use flatnet_core::step::TABLE;
use netlink_packet_core::{DecodeError, DefaultNla, NLM_F_CREATE, NlasIterator};

use super::super::nfnl::{HEADER, find, nested, text};
use super::super::{NEW, nla, octets};
use super::{DELSETELEM, Datatype, GETSETELEM, NEWSETELEM, Set, comment, comment_text, request};
use crate::batch::Request;

use Datatype::{Ipv4, Ipv6, Port, Protocol as Proto};

/// Host ports on all addresses of a family.
pub(crate) const WILD4: Set = Set { name: "hostports4", key: &[Proto, Port], value: &[Ipv4, Port] };
pub(crate) const WILD6: Set = Set { name: "hostports6", key: &[Proto, Port], value: &[Ipv6, Port] };
/// Host ports on one address.
pub(crate) const ONE4: Set = Set { name: "hostports-on4", key: &[Ipv4, Proto, Port], value: &[Ipv4, Port] };
pub(crate) const ONE6: Set = Set { name: "hostports-on6", key: &[Ipv6, Proto, Port], value: &[Ipv6, Port] };
/// Pods that may talk to themselves through their host ports: (source, destination).
pub(crate) const HAIRPIN4: Set = Set { name: "hairpin4", key: &[Ipv4, Ipv4], value: &[] };
pub(crate) const HAIRPIN6: Set = Set { name: "hairpin6", key: &[Ipv6, Ipv6], value: &[] };

pub(crate) const ALL: [Set; 6] = [WILD4, WILD6, ONE4, ONE6, HAIRPIN4, HAIRPIN6];

const SET_ELEM_LIST_SET: u16 = 2;
const SET_ELEM_LIST_ELEMENTS: u16 = 3;
const SET_ELEM_KEY: u16 = 1;
const SET_ELEM_DATA: u16 = 2;
const SET_ELEM_USERDATA: u16 = 6;

/// The set that `element` belongs to.
pub(crate) const fn set_of(element: &Element) -> Set {
    match element {
        Element::Port { at: None, pod: IpAddr::V4(_), .. } => WILD4,
        Element::Port { at: None, pod: IpAddr::V6(_), .. } => WILD6,
        Element::Port { pod: IpAddr::V4(_), .. } => ONE4,
        Element::Port { pod: IpAddr::V6(_), .. } => ONE6,
        Element::Hairpin(IpAddr::V4(_)) => HAIRPIN4,
        Element::Hairpin(IpAddr::V6(_)) => HAIRPIN6,
    }
}

/// Adds it; refused (`EEXIST`) where its key is there.
pub(crate) fn add(element: &Element, holder: &str) -> Request {
    let mut parts = vec![key(element)];
    parts.extend(value(element));
    parts.push(nla(SET_ELEM_USERDATA, &comment(holder)));
    about(NEWSETELEM, NEW | NLM_F_CREATE, element, &parts)
}

/// Removes whatever has its key.
pub(crate) fn remove(element: &Element) -> Request {
    about(DELSETELEM, 0, element, &[key(element)])
}

/// Answers with what has its key.
pub(crate) fn get(element: &Element) -> Request {
    about(GETSETELEM, 0, element, &[key(element)])
}

pub(crate) fn dump(set: &Set) -> Request {
    request(GETSETELEM, 0, vec![text(1, TABLE), text(SET_ELEM_LIST_SET, set.name)])
}

fn about(kind: u16, flags: u16, element: &Element, parts: &[DefaultNla]) -> Request {
    let set = text(SET_ELEM_LIST_SET, set_of(element).name);
    let elements = nested(SET_ELEM_LIST_ELEMENTS, &[nested(1, parts)]);
    request(kind, flags, vec![text(1, TABLE), set, elements])
}

/// Each part fills whole words.
fn key(element: &Element) -> DefaultNla {
    let mut bytes = Vec::new();
    match element {
        Element::Port { protocol, at, port, .. } => {
            bytes.extend(at.map(octets).unwrap_or_default());
            bytes.extend([protocol.number(), 0, 0, 0]);
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0]);
        }
        Element::Hairpin(ip) => bytes.extend(octets(*ip).repeat(2)),
    }
    nested(SET_ELEM_KEY, &[nla(1, &bytes)])
}

fn value(element: &Element) -> Option<DefaultNla> {
    match element {
        Element::Port { pod, pod_port, .. } => {
            let mut bytes = octets(*pod);
            bytes.extend(pod_port.to_be_bytes());
            bytes.extend([0, 0]);
            Some(nested(SET_ELEM_DATA, &[nla(1, &bytes)]))
        }
        Element::Hairpin(_) => None,
    }
}

/// The elements in one message of `set`. What is not of our form (a protocol without ports) is left out.
pub(crate) fn parse(set: &Set, body: &[u8]) -> Result<Vec<Held>, DecodeError> {
    let mut all = Vec::new();
    for attribute in NlasIterator::new(body.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == SET_ELEM_LIST_ELEMENTS {
            for element in NlasIterator::new(attribute.value()) {
                all.extend(parse_one(set, element?.value()));
            }
        }
    }
    Ok(all)
}

fn parse_one(set: &Set, attributes: &[u8]) -> Option<Held> {
    // Key and value are wrapped once more (NFTA_DATA_VALUE).
    let data = |kind| find(&find(attributes, kind)?, 1);
    let key = data(SET_ELEM_KEY)?;
    let element = if set.value.is_empty() {
        Element::Hairpin(address(key.get(..key.len() / 2)?)?)
    } else {
        let (at, rest) = key.split_at_checked(key.len().checked_sub(8)?)?;
        let value = data(SET_ELEM_DATA)?;
        let (pod, pod_port) = value.split_at_checked(value.len().checked_sub(4)?)?;
        Element::Port {
            protocol: Protocol::of_number(*rest.first()?)?,
            at: address(at),
            port: half(rest.get(4..)?)?,
            pod: address(pod)?,
            pod_port: half(pod_port)?,
        }
    };
    let comment = comment_text(&find(attributes, SET_ELEM_USERDATA).unwrap_or_default());
    Some(Held { element, comment })
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

fn half(bytes: &[u8]) -> Option<u16> {
    bytes.get(..2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is what is read, for every set.
    #[test]
    fn elements_survive_the_way_over_the_wire() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (v4, v6) = (ip("10.22.0.5"), ip("fd00:22::5"));
        let port = |at: Option<&str>, pod| Element::Port {
            protocol: Protocol::Sctp,
            at: at.map(ip),
            port: 8080,
            pod,
            pod_port: 443,
        };
        let all = [
            port(None, v4),
            port(None, v6),
            port(Some("127.0.0.1"), v4),
            port(Some("2001:db8::1"), v6),
            Element::Hairpin(v4),
            Element::Hairpin(v6),
        ];
        let mut sets: Vec<&str> = all.iter().map(|element| set_of(element).name).collect();
        for element in all {
            let mut parts = vec![key(&element)];
            parts.extend(value(&element));
            parts.push(nla(SET_ELEM_USERDATA, &comment("fnx web")));
            let list = nested(SET_ELEM_LIST_ELEMENTS, &[nested(1, &parts)]);
            let mut body = vec![0; HEADER];
            let at = body.len();
            body.resize(at + netlink_packet_core::Emitable::buffer_len(&list), 0);
            netlink_packet_core::Emitable::emit(&list, &mut body[at..]);
            let held = Held { element, comment: "fnx web".to_owned() };
            assert_eq!(parse(&set_of(&element), &body).unwrap(), [held]);
        }
        sets.sort_unstable();
        sets.dedup();
        assert_eq!(sets.len(), ALL.len());
    }
}
