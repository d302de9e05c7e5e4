//! Forgets tracked connections (include/uapi/linux/netfilter/nfnetlink_conntrack.h): those that would lead
//! packets to a pod that is gone, or past one that is new.

use std::io;
use std::net::IpAddr;

use flatnet_core::hostport::Flows;
use flatnet_core::kernel::KernelError;
use flatnet_core::step::{Outcome, Step};
use netlink_packet_core::{DecodeError, DefaultNla, NLA_F_NESTED, NlasIterator};
use nix::libc::{EINVAL, ENOENT};

use crate::batch::{Netlink, Request};
use crate::msg::nfnl::{self, HEADER, nested};
use crate::msg::{family, nla, octets};
use crate::sysctl;

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
/// Which parts of a tuple count (`CTA_FILTER_FLAG_...`, net/netfilter/nf_internals.h).
const IP_SRC: u32 = 1;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_DST_PORT: u32 = 1 << 5;

/// One side of a connection, and what must be so about it.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// As the first packet was, or as answers to it are.
    tuple: u16,
    v4: bool,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    /// Protocol and destination port.
    port: Option<(u8, u16)>,
}

/// Applies one step about tracked connections, in the namespace of the calling thread.
pub(crate) fn apply(step: &Step) -> Result<Outcome, KernelError> {
    let Step::ForgetFlows(flows) = step else {
        return Err(KernelError::new(step, "not about tracked connections"));
    };
    // Where nothing is tracked there is nothing to forget, nor a reason to make the kernel begin.
    let tracked = sysctl::read("net/netfilter/nf_conntrack_count");
    if tracked.is_ok_and(|count| count != "0") {
        forget(flows).map_err(|e| KernelError::from_io(step, &e))?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::AlreadyGone)
}

/// The kernel looks through its table by itself where it can; elsewhere we look.
fn forget(flows: &[Flows]) -> io::Result<()> {
    let mut netlink = Netlink::open_netfilter()?;
    let patterns = flows.iter().flat_map(Pattern::of);
    let (asked, mut rest): (Vec<Pattern>, Vec<Pattern>) = patterns.partition(Pattern::is_understood);
    let requests: Vec<Request> = asked.iter().map(Pattern::request).collect();
    let answers = if requests.is_empty() { Vec::new() } else { netlink.batch(&requests)? };
    for (pattern, answer) in asked.into_iter().zip(answers) {
        match answer {
            Err(refusal) if refusal.errno == EINVAL => rest.push(pattern),
            Err(refusal) if refusal.errno != ENOENT => {
                return Err(io::Error::from_raw_os_error(refusal.errno));
            }
            _ => {}
        }
    }
    forget_one_by_one(&mut netlink, &rest)
}

/// Reads the table once for each family that `patterns` are of.
fn forget_one_by_one(netlink: &mut Netlink, patterns: &[Pattern]) -> io::Result<()> {
    for v4 in [true, false] {
        let patterns: Vec<&Pattern> = patterns.iter().filter(|p| p.v4 == v4).collect();
        if patterns.is_empty() {
            continue;
        }
        let all = nfnl::request(GET, 0, family_of(v4), Vec::new());
        let doomed = netlink.dump(&all, |body| matching(&patterns, body))?;
        if !doomed.is_empty() {
            // What ended by itself meanwhile is gone as well.
            netlink.batch(&doomed)?;
        }
    }
    Ok(())
}

fn family_of(v4: bool) -> u8 {
    family(if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }).into()
}

/// The request that deletes the connection in `body`, if one of `patterns` is of it.
fn matching(patterns: &[&Pattern], body: &[u8]) -> Result<Option<Request>, DecodeError> {
    let mut exact: Vec<DefaultNla> = Vec::new();
    let mut ours = false;
    for attribute in NlasIterator::new(body.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        let kind = attribute.kind();
        ours |= patterns.iter().any(|pattern| pattern.tuple == kind && pattern.is(attribute.value()));
        if matches!(kind, CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE) {
            let nested = if attribute.nested_flag() { NLA_F_NESTED } else { 0 };
            exact.push(nla(kind | nested, attribute.value()));
        }
    }
    let family = body.first().copied().unwrap_or_default();
    Ok(ours.then(|| nfnl::request(DELETE, 0, family, exact)))
}

impl Pattern {
    fn of(flows: &Flows) -> Vec<Self> {
        match *flows {
            Flows::OfPod(ip) => {
                let any = Self {
                    tuple: CTA_TUPLE_ORIG,
                    v4: ip.is_ipv4(),
                    source: None,
                    destination: None,
                    port: None,
                };
                vec![
                    Self { source: Some(ip), ..any },
                    Self { destination: Some(ip), ..any },
                    Self { tuple: CTA_TUPLE_REPLY, source: Some(ip), ..any },
                ]
            }
            Flows::ToPort { protocol, v4, at, port } => vec![Self {
                tuple: CTA_TUPLE_ORIG,
                v4,
                source: None,
                destination: at,
                port: Some((protocol.number(), port)),
            }],
        }
    }

    /// Whether the kernel can be asked to delete by this. Not by IPv6 addresses: its comparison is the
    /// wrong way round, so that every other address matches (`ctnetlink_filter_match_tuple`,
    /// net/netfilter/nf_conntrack_netlink.c; so in Linux 6.18).
    const fn is_understood(&self) -> bool {
        self.v4 || (self.source.is_none() && self.destination.is_none())
    }

    /// Deletes all that it is of, since Linux 6.7. Before, the kernel takes it for an incomplete tuple.
    fn request(&self) -> Request {
        let mut flags = 0;
        let mut tuple = Vec::new();
        let mut ips = Vec::new();
        // CTA_IP_V4_SRC to CTA_IP_V6_DST
        let (source, destination) = if self.v4 { (1, 2) } else { (3, 4) };
        if let Some(ip) = self.source {
            flags |= IP_SRC;
            ips.push(nla(source, &octets(ip)));
        }
        if let Some(ip) = self.destination {
            flags |= IP_DST;
            ips.push(nla(destination, &octets(ip)));
        }
        if !ips.is_empty() {
            tuple.push(nested(1, &ips));
        }
        if let Some((protocol, port)) = self.port {
            flags |= PROTO_NUM | PROTO_DST_PORT;
            tuple.push(nested(2, &[nla(1, &[protocol]), nla(3, &port.to_be_bytes())]));
        }
        let filter = nested(CTA_FILTER, &[nla(self.tuple, &flags.to_ne_bytes())]);
        nfnl::request(DELETE, 0, family_of(self.v4), vec![nested(self.tuple, &tuple), filter])
    }

    fn is(&self, tuple: &[u8]) -> bool {
        let part = |kind| nfnl::find(tuple, kind).unwrap_or_default();
        let (ips, proto) = (part(1), part(2));
        let has =
            |all: &[u8], kind: u16, value: &[u8]| nfnl::find(all, kind).is_some_and(|found| found == value);
        let (source, destination) = if self.v4 { (1, 2) } else { (3, 4) };
        self.source.is_none_or(|ip| has(&ips, source, &octets(ip)))
            && self.destination.is_none_or(|ip| has(&ips, destination, &octets(ip)))
            && self.port.is_none_or(|(protocol, port)| {
                has(&proto, 1, &[protocol]) && has(&proto, 3, &port.to_be_bytes())
            })
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use flatnet_core::hostport::{Element, PodPorts, Protocol};
    use netns_fixtures::{NetNs, wait_until};

    use super::*;

    /// Datagrams from `from` to `to`, each a connection of its own.
    const FLOWS: [(&str, &str, u16); 6] = [
        ("127.0.0.1", "127.0.0.2", 53),
        ("127.0.0.3", "127.0.0.1", 53),
        ("127.0.0.3", "127.0.0.4", 54),
        ("::1", "fd00::2", 53),
        ("fd00::3", "::1", 53),
        ("fd00::3", "fd00::4", 54),
    ];

    fn tracked() -> String {
        sysctl::read("net/netfilter/nf_conntrack_count").unwrap()
    }

    /// A namespace with the flows, in which `f` runs.
    fn among_flows(f: impl Fn() + Sync) {
        netns_fixtures::gate::require();
        let ns = NetNs::new().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the witness is not our own code")]
        let ip = |args: &str| std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
        ns.run(|| {
            for address in ["fd00::2/128", "fd00::3/128", "fd00::4/128"] {
                assert!(ip(&format!("addr add {address} dev lo nodad")).success());
            }
            // Chains of type nat make the kernel track.
            let ports = PodPorts {
                holder: "fn".parse().unwrap(),
                comment: String::new(),
                elements: vec![Element::Hairpin([192, 0, 2, 9].into())],
            };
            crate::nat::apply(&[Step::PutHostPorts(ports)]).remove(0).unwrap();
            let sockets = FLOWS.map(|(from, ..)| UdpSocket::bind((from, 0)).unwrap());
            let all_tracked = || {
                for (socket, (_, to, port)) in sockets.iter().zip(FLOWS) {
                    socket.send_to(b"x", (to, port)).unwrap();
                }
                (tracked() == FLOWS.len().to_string()).then_some(())
            };
            wait_until("all flows are tracked", Duration::from_secs(10), all_tracked).unwrap();
            f();
        })
        .unwrap();
    }

    fn of_pod(ip: &str) -> Flows {
        Flows::OfPod(ip.parse().unwrap())
    }

    fn to_port(at: Option<&str>, v4: bool) -> Flows {
        Flows::ToPort { protocol: Protocol::Udp, v4, at: at.map(|ip| ip.parse().unwrap()), port: 53 }
    }

    /// What is asked for, and how many connections that leaves.
    fn cases() -> Vec<(Flows, &'static str)> {
        vec![
            (of_pod("192.0.2.1"), "6"),
            (of_pod("fd00::99"), "6"),
            (of_pod("127.0.0.1"), "4"),
            (of_pod("::1"), "4"),
            (to_port(None, true), "4"),
            (to_port(None, false), "4"),
            (to_port(Some("127.0.0.2"), true), "5"),
            (to_port(Some("fd00::2"), false), "5"),
        ]
    }

    #[test]
    fn only_what_is_asked_for_is_forgotten() {
        for (flows, left) in cases() {
            among_flows(|| {
                forget(&[flows]).unwrap();
                assert_eq!(tracked(), left, "{flows}");
            });
        }
    }

    /// As on kernels that cannot look by themselves.
    #[test]
    fn one_by_one_is_the_same() {
        for (flows, left) in cases() {
            among_flows(|| {
                let mut netlink = Netlink::open_netfilter().unwrap();
                forget_one_by_one(&mut netlink, &Pattern::of(&flows)).unwrap();
                assert_eq!(tracked(), left, "{flows}");
            });
        }
    }
}
