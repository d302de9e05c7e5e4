//! `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_GETLINK`.

use std::net::IpAddr;
use std::os::fd::RawFd;

use flatnet_core::link::Mac;
use flatnet_core::names::IfName;
use flatnet_core::step::{Ifb, Ipv4Conf, LinkChange, LinkLocal, VethPair, Vxlan};
use netlink_packet_core::{Emitable, NLA_F_NESTED};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{NEW, nla};
use crate::batch::Request;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFLA_INET_CONF: u16 = 1;

/// Both ends with explicit indexes, so that requests about them can travel in the same batch, and with one
/// queue: left to itself the kernel makes one for every CPU, then takes all but one away again, which waits
/// for a grace period (`veth_init_queues`, drivers/net/veth.c).
pub(crate) fn create_veth(veth: &VethPair, host_index: u32, pod_index: u32, pod_ns: RawFd) -> Request {
    let mut peer = named(&veth.pod, veth.pod_mac, veth.mtu.get());
    peer.attributes.extend(veth.segment_size.into_iter().flat_map(segment_sizes));
    peer.header.index = pod_index;
    peer.attributes.push(LinkAttribute::NetNsFd(pod_ns));
    let mut host = named(&veth.host, veth.host_mac, veth.mtu.get());
    host.attributes.extend(veth.segment_size.into_iter().flat_map(segment_sizes));
    host.header.index = host_index;
    for end in [&mut host, &mut peer] {
        end.attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
    }
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Request::new(RTM_NEWLINK, NEW, &host)
}

/// A unicast VXLAN device that learns nothing.
pub(crate) fn create_vxlan(vxlan: &Vxlan, uplink_index: u32) -> Request {
    let mut message = named(&vxlan.name, vxlan.mac, vxlan.mtu);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(vec![
            InfoVxlan::Id(vxlan.vni.get()),
            InfoVxlan::Link(uplink_index),
            match vxlan.local {
                IpAddr::V4(ip) => InfoVxlan::Local(ip),
                IpAddr::V6(ip) => InfoVxlan::Local6(ip),
            },
            InfoVxlan::Port(vxlan.port),
            InfoVxlan::Learning(false),
        ])),
    ]));
    Request::new(RTM_NEWLINK, NEW, &message)
}

pub(crate) fn create_ifb(ifb: &Ifb) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(ifb.name.to_string()),
        LinkAttribute::Mtu(ifb.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    Request::new(RTM_NEWLINK, NEW, &message)
}

/// What the kernel changes in place: neither network identifier nor port, which it takes as a change even
/// where they are the same.
pub(crate) fn change_vxlan(vxlan: &Vxlan, index: u32, uplink_index: u32) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(vec![
            InfoVxlan::Link(uplink_index),
            match vxlan.local {
                IpAddr::V4(ip) => InfoVxlan::Local(ip),
                IpAddr::V6(ip) => InfoVxlan::Local6(ip),
            },
            InfoVxlan::Learning(false),
        ])),
    ]));
    Request::new(RTM_NEWLINK, 0, &message)
}

fn segment_sizes(size: u32) -> [LinkAttribute; 4] {
    [
        LinkAttribute::GsoMaxSize(size),
        LinkAttribute::GroMaxSize(size),
        LinkAttribute::GsoIpv4MaxSize(size),
        LinkAttribute::GroIpv4MaxSize(size),
    ]
}

fn named(name: &IfName, mac: Mac, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Address(mac.0.to_vec()),
    ];
    message
}

pub(crate) fn change(index: u32, change: &LinkChange) -> Request {
    let mut message = at(index);
    if let Some(up) = change.up {
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(change.segment_size.into_iter().flat_map(segment_sizes));
    message.attributes.extend(change.alias.clone().map(LinkAttribute::IfAlias));
    let mut families = Vec::new();
    if !change.ipv4.is_empty() {
        families.push(AfSpecUnspec::Inet(vec![ipv4_conf(&change.ipv4)]));
    }
    if change.link_local == Some(LinkLocal::None) {
        families.push(AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]));
    }
    if !families.is_empty() {
        message.attributes.push(LinkAttribute::AfSpecUnspec(families));
    }
    Request::new(RTM_SETLINK, 0, &message)
}

/// `IFLA_INET_CONF` in the form of a request: one nested attribute per setting (`inet_set_link_af`,
/// net/ipv4/devinet.c), zeroes included.
fn ipv4_conf(settings: &[(Ipv4Conf, u32)]) -> AfSpecInet {
    let mut nested = Vec::new();
    for (conf, value) in settings {
        // IPV4_DEVCONF_*, include/uapi/linux/ip.h
        let kind = match conf {
            Ipv4Conf::Forwarding => 1,
            Ipv4Conf::ProxyArp => 3,
            Ipv4Conf::RpFilter => 8,
            Ipv4Conf::RouteLocalnet => 26,
        };
        let attribute = nla(kind, &value.to_ne_bytes());
        let at = nested.len();
        nested.resize(at + attribute.buffer_len(), 0);
        attribute.emit(&mut nested[at..]);
    }
    AfSpecInet::Other(nla(IFLA_INET_CONF | NLA_F_NESTED, &nested))
}

/// Puts a link into a group of links.
pub(crate) fn join(index: u32, group: u32) -> Request {
    let mut message = at(index);
    message.attributes.push(LinkAttribute::Group(group));
    Request::new(RTM_SETLINK, 0, &message)
}

/// Removes all links of a group at once.
pub(crate) fn delete_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request::new(RTM_DELLINK, 0, &message)
}

pub(crate) fn delete(index: u32) -> Request {
    Request::new(RTM_DELLINK, 0, &at(index))
}

pub(crate) fn get_by_name(name: &IfName) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_string())];
    Request::new(RTM_GETLINK, 0, &message)
}

pub(crate) fn get_by_index(index: u32) -> Request {
    Request::new(RTM_GETLINK, 0, &at(index))
}

pub(crate) fn dump() -> Request {
    Request::new(RTM_GETLINK, 0, &LinkMessage::default())
}

fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.header.index = index;
    message
}
