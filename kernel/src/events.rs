//! Multicast: learns that something changed which may be ours. What changed is never acted upon; the
//! answer to every event is to look again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use flatnet_core::link::is_host_if;
use flatnet_core::overlay::is_tunnel_if;
use flatnet_core::step::{ROUTE_PROTOCOL, TABLE};
use netlink_packet_core::{NLM_F_REPLACE, NlasIterator};
use netlink_sys::{Socket, SocketAddr};
use nix::libc::ENOBUFS;

use crate::batch::split;

/// Links, addresses, routes, neighbours, nexthops and per-link settings, both families (`RTNLGRP_*`,
/// include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 9] = [1, 3, 5, 7, 9, 11, 24, 25, 32];
/// Bytes the kernel may queue before it drops (and says so with `ENOBUFS`).
const QUEUE: u32 = 1 << 20;
const RECEIVE_BUFFER: usize = 32 * 1024;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const IFLA_IFNAME: u16 = 3;
const RTA_OIF: u16 = 4;
const NETCONFA_IFINDEX: u16 = 1;

/// Changes of nf_tables (`NFNLGRP_NFTABLES`, include/uapi/linux/netfilter/nfnetlink.h).
const TABLES: u32 = 7;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE` and their like.
const NFTA_TABLE: u16 = 1;

/// A subscription to the namespace it was opened in. Readable when there may be something.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    buffer: Vec<u8>,
    subject: Subject,
}

/// What is listened for.
#[derive(Debug)]
enum Subject {
    Routing(Links),
    Table,
}

impl Events {
    /// Subscribes. Open it before the first snapshot, or changes between the two are missed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> io::Result<Self> {
        let routing = Subject::Routing(Links::default());
        Self::subscribe(netlink_sys::protocols::NETLINK_ROUTE, &GROUPS, routing)
    }

    /// Subscribes to changes of our nftables table, whoever makes them.
    ///
    /// # Errors
    /// The kernel refuses, or has no nf_tables.
    pub fn open_table() -> io::Result<Self> {
        Self::subscribe(netlink_sys::protocols::NETLINK_NETFILTER, &[TABLES], Subject::Table)
    }

    fn subscribe(protocol: isize, groups: &[u32], subject: Subject) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(QUEUE)?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_BUFFER), subject })
    }

    /// Reads all that is queued and tells who is to look again. A queue that overran is a reason for all to.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn drain(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => heard |= self.subject.hear(&self.buffer),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(ENOBUFS) => heard = Heard { node: true, pods: true },
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whom changes may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// What the agent itself made, or what that rests on.
    pub node: bool,
    /// The node's side of pods.
    pub pods: bool,
}

impl Heard {
    const NODE: Self = Self { node: true, pods: false };
    const PODS: Self = Self { node: false, pods: true };

    const fn node_if(node: bool) -> Self {
        Self { node, pods: false }
    }
}

impl std::ops::BitOrAssign for Heard {
    fn bitor_assign(&mut self, other: Self) {
        self.node |= other.node;
        self.pods |= other.pods;
    }
}

/// What links are, by index, as far as somebody asked. Forgotten whenever a link of the node changes.
#[derive(Debug, Default)]
struct Links(HashMap<u32, Link>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// A tunnel of ours.
    Tunnel,
    /// A pod's.
    Pod,
    /// Somebody else's, or gone.
    Other,
}

impl Subject {
    fn hear(&mut self, mut datagram: &[u8]) -> Heard {
        let mut heard = Heard::default();
        while let Some((message, rest)) = split(datagram) {
            heard |= match self {
                Self::Routing(links) => links.hear(message.kind, message.flags, message.body),
                Self::Table => Heard { node: names_our_table(message.body), pods: false },
            };
            datagram = rest;
        }
        heard
    }
}

/// Other components change tables of their own all day.
fn names_our_table(body: &[u8]) -> bool {
    // struct nfgenmsg comes first
    let attributes = NlasIterator::new(body.get(4..).unwrap_or_default());
    attributes.flatten().any(|attribute| {
        attribute.kind() == NFTA_TABLE && attribute.value().strip_suffix(&[0]) == Some(TABLE.as_bytes())
    })
}

impl Links {
    /// Whom a change may concern. Pods come and go without the agent: their links and host routes are the
    /// plugin's. When in doubt the answer is yes.
    fn hear(&mut self, kind: u16, flags: u16, body: &[u8]) -> Heard {
        // Whoever replaces an object may have replaced ours, and only theirs is announced.
        let replaced = flags & NLM_F_REPLACE != 0;
        match kind {
            RTM_NEWLINK | RTM_DELLINK => {
                let pod = link_name(body).is_some_and(|name| is_host_if(&name));
                if pod {
                    // struct ifinfomsg: family, padding, type, index
                    word(body, 4).and_then(|index| self.0.remove(&index));
                } else {
                    self.0.clear();
                }
                if pod { Heard::PODS } else { Heard::NODE }
            }
            // struct ifaddrmsg: family, prefix length, flags, scope, index
            RTM_NEWADDR | RTM_DELADDR => match word(body, 4).map(|index| self.of(index)) {
                Some(Link::Pod) => Heard::PODS,
                Some(Link::Tunnel | Link::Other) | None => Heard::NODE,
            },
            RTM_NEWROUTE | RTM_DELROUTE => {
                // struct rtmsg: family, dst_len, src_len, tos, table, protocol
                let ours = body.get(5) == Some(&ROUTE_PROTOCOL);
                Heard::node_if(match (matches!(body, [2, 32, ..] | [10, 128, ..]), kind) {
                    // A pod that went took its link along; one that is there wants its route back.
                    (true, RTM_DELROUTE) => ours && route_link(body).is_some_and(is_there),
                    (true, _) => false,
                    (false, _) => replaced || ours,
                })
            }
            // struct nhmsg: family, scope, protocol
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
                Heard::node_if(replaced || body.get(2) == Some(&ROUTE_PROTOCOL))
            }
            // struct ndmsg: family, padding, ifindex
            RTM_NEWNEIGH | RTM_DELNEIGH => match word(body, 4).map(|index| self.of(index)) {
                Some(Link::Tunnel) | None => Heard::NODE,
                Some(Link::Pod) if kind == RTM_DELNEIGH => Heard::PODS,
                Some(Link::Pod | Link::Other) => Heard::default(),
            },
            RTM_NEWNETCONF | RTM_DELNETCONF => {
                let index = NlasIterator::new(body.get(4..).unwrap_or_default())
                    .flatten()
                    .find(|nla| nla.kind() == NETCONFA_IFINDEX)
                    .and_then(|nla| word(nla.value(), 0));
                // Negative indexes mean all links.
                match index.filter(|index| i32::try_from(*index).is_ok()).map(|index| self.of(index)) {
                    Some(Link::Pod) => Heard::PODS,
                    Some(Link::Tunnel | Link::Other) | None => Heard::NODE,
                }
            }
            _ => Heard::NODE,
        }
    }

    fn of(&mut self, index: u32) -> Link {
        *self.0.entry(index).or_insert_with(|| match nix::net::if_::if_indextoname(index) {
            Ok(name) if name.to_str().is_ok_and(is_tunnel_if) => Link::Tunnel,
            Ok(name) if name.to_str().is_ok_and(is_host_if) => Link::Pod,
            _ => Link::Other,
        })
    }
}

/// `RTA_OIF`, after `struct rtmsg`.
fn route_link(body: &[u8]) -> Option<u32> {
    let attributes = NlasIterator::new(body.get(12..)?);
    attributes.flatten().find(|nla| nla.kind() == RTA_OIF).and_then(|nla| word(nla.value(), 0))
}

fn is_there(index: u32) -> bool {
    nix::net::if_::if_indextoname(index).is_ok()
}

/// After `struct ifinfomsg`.
fn link_name(body: &[u8]) -> Option<String> {
    let attributes = NlasIterator::new(body.get(16..)?);
    let name = attributes.flatten().find(|nla| nla.kind() == IFLA_IFNAME)?;
    Some(String::from_utf8_lossy(name.value()).trim_end_matches('\0').to_owned())
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(kind: u16, flags: u16, body: &[u8]) -> Heard {
        let mut datagram = Vec::new();
        datagram.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(flags.to_ne_bytes());
        datagram.extend([0; 8]);
        datagram.extend(body);
        Subject::Routing(Links::default()).hear(&datagram)
    }

    fn relevant(kind: u16, flags: u16, body: &[u8]) -> bool {
        hear(kind, flags, body).node
    }

    fn link(name: &str) -> Vec<u8> {
        let mut body = vec![0; 16];
        body.extend(u16::try_from(4 + name.len() + 1).unwrap().to_ne_bytes());
        body.extend(IFLA_IFNAME.to_ne_bytes());
        body.extend(name.as_bytes());
        body.resize(body.len() + 4 - name.len() % 4, 0);
        body
    }

    #[test]
    fn pods_coming_and_going_do_not_wake_the_reconciler() {
        assert_eq!(hear(RTM_NEWLINK, 0, &link("fnuugbpipskpd6c")), Heard::PODS);
        assert!(!relevant(RTM_DELROUTE, 0, &[2, 32, 0, 0, 254, ROUTE_PROTOCOL]));
        assert!(!relevant(RTM_DELROUTE, 0, &[10, 128, 0, 0, 254, ROUTE_PROTOCOL]));
        assert!(!relevant(RTM_NEWNEIGH, 0, &[2, 0, 0, 0, 255, 255, 255, 127, 0, 0, 0, 0]));
    }

    #[test]
    fn what_may_be_ours_wakes() {
        assert!(relevant(RTM_DELLINK, 0, &link("flat.1")));
        assert!(relevant(RTM_NEWLINK, 0, &link("eth0")));
        assert!(relevant(RTM_DELROUTE, 0, &[2, 24, 0, 0, 254, ROUTE_PROTOCOL]));
        assert!(relevant(RTM_DELNEXTHOP, 0, &[2, 0, ROUTE_PROTOCOL, 0]));
        assert!(relevant(RTM_NEWROUTE, NLM_F_REPLACE, &[2, 24, 0, 0, 254, 3]), "ours was replaced");
        assert!(!relevant(RTM_NEWROUTE, 0, &[2, 24, 0, 0, 254, 3]), "somebody else's");
    }

    #[test]
    fn a_cut_message_ends_the_datagram() {
        assert!(!Subject::Routing(Links::default()).hear(&[200, 0, 0, 0, 16, 0]).node);
    }

    #[test]
    fn only_our_own_table_is_listened_to() {
        let about = |table: &[u8]| {
            let mut body = vec![1, 0, 0, 0];
            let length = u16::try_from(4 + table.len()).unwrap();
            body.extend_from_slice(&length.to_ne_bytes());
            body.extend_from_slice(&1u16.to_ne_bytes());
            body.extend_from_slice(table);
            names_our_table(&body)
        };
        assert!(about(b"flatnet\0"));
        assert!(!about(b"flatnet-ipv4\0") && !about(b"kube-proxy\0") && !about(b""));
        assert!(!names_our_table(b"x"));
    }
}
