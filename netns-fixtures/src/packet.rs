//! A captured frame as the headers that tests ask about. Checksums are not verified: on veth links
//! they are not filled in.

use std::{fmt, net::IpAddr, time::Instant};

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};

/// Length of the VXLAN header, RFC 7348.
const VXLAN_HEADER: usize = 8;
/// The flag that says that the VNI is valid.
const VXLAN_VNI_VALID: u8 = 0x08;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One IP packet seen on a wire.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The headers on the wire.
    pub outer: Headers,
    /// What is inside, when it is a VXLAN packet with an IP packet inside.
    pub vxlan: Option<Vxlan>,
    /// When it was read.
    pub at: Instant,
}

impl Packet {
    /// The headers of the packet that an application sent: the inner ones where it is encapsulated.
    pub fn innermost(&self) -> &Headers {
        self.vxlan.as_ref().map_or(&self.outer, |vxlan| &vxlan.inner)
    }
}

/// The inside of a VXLAN packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: u32,
    /// The encapsulated frame.
    pub inner: Headers,
}

/// Ethernet, IP and transport header of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Source hardware address.
    pub src_mac: Mac,
    /// Destination hardware address.
    pub dst_mac: Mac,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Length of the whole frame.
    pub frame_len: usize,
    /// The transport header.
    pub transport: Transport,
}

/// A transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// It opens a connection.
        syn: bool,
    },
    /// UDP.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type: 8 and 0 are echo and its reply in IPv4, 128 and 129 in IPv6.
        kind: u8,
        /// Code.
        code: u8,
        /// The identifier, for an echo.
        id: u16,
        /// The sequence number, for an echo.
        sequence: u16,
    },
    /// Anything else, also a fragment that is not the first.
    Other {
        /// The IP protocol number.
        protocol: u8,
    },
}

/// Decodes an Ethernet frame; `None` when it carries no IP. UDP to `vxlan_port` is taken for VXLAN.
pub fn decode(frame: &[u8], vxlan_port: u16) -> Option<Packet> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let outer = headers(&sliced, frame.len())?;
    let vxlan = match &sliced.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == vxlan_port => decode_vxlan(udp.payload()),
        _ => None,
    };
    Some(Packet { outer, vxlan, at: Instant::now() })
}

fn decode_vxlan(payload: &[u8]) -> Option<Vxlan> {
    let (header, frame) = payload.split_at_checked(VXLAN_HEADER)?;
    let &[flags, _, _, _, a, b, c, _] = header else { return None };
    if flags & VXLAN_VNI_VALID == 0 {
        return None;
    }
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let inner = headers(&sliced, frame.len())?;
    Some(Vxlan { vni: u32::from_be_bytes([0, a, b, c]), inner })
}

fn headers(sliced: &LaxSlicedPacket<'_>, frame_len: usize) -> Option<Headers> {
    let LinkSlice::Ethernet2(eth) = sliced.link.as_ref()? else { return None };
    let (src, dst, ttl, protocol) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let h = ip.header();
            (h.source_addr().into(), h.destination_addr().into(), h.ttl(), h.protocol().0)
        }
        LaxNetSlice::Ipv6(ip) => {
            let h = ip.header();
            let next = ip.payload().ip_number.0;
            (h.source_addr().into(), h.destination_addr().into(), h.hop_limit(), next)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    Some(Headers {
        src_mac: Mac(eth.source()),
        dst_mac: Mac(eth.destination()),
        src,
        dst,
        ttl,
        frame_len,
        transport: transport(sliced.transport.as_ref(), protocol),
    })
}

fn transport(slice: Option<&TransportSlice<'_>>, protocol: u8) -> Transport {
    let icmp = |kind, code, [a, b, c, d]: [u8; 4]| Transport::Icmp {
        kind,
        code,
        id: u16::from_be_bytes([a, b]),
        sequence: u16::from_be_bytes([c, d]),
    };
    match slice {
        Some(TransportSlice::Tcp(tcp)) => Transport::Tcp {
            sport: tcp.source_port(),
            dport: tcp.destination_port(),
            syn: tcp.syn() && !tcp.ack(),
        },
        Some(TransportSlice::Udp(udp)) => {
            Transport::Udp { sport: udp.source_port(), dport: udp.destination_port() }
        }
        Some(TransportSlice::Icmpv4(echo)) => icmp(echo.type_u8(), echo.code_u8(), echo.bytes5to8()),
        Some(TransportSlice::Icmpv6(echo)) => icmp(echo.type_u8(), echo.code_u8(), echo.bytes5to8()),
        Some(TransportSlice::Igmp(_)) | None => Transport::Other { protocol },
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const INNER: ([u8; 4], [u8; 4]) = ([10, 244, 1, 2], [10, 244, 3, 2]);

    /// A TCP segment from pod to pod, in VXLAN from node to node.
    fn encapsulated(port: u16) -> Vec<u8> {
        let mut payload = vec![VXLAN_VNI_VALID, 0, 0, 0, 0, 0, 7, 0];
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(INNER.0, INNER.1, 63)
            .tcp(4000, 8080, 1, 1024)
            .write(&mut payload, b"hello")
            .unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [3; 6])
            .ipv4([192, 0, 2, 1], [198, 51, 100, 1], 64)
            .udp(50000, port)
            .write(&mut frame, &payload)
            .unwrap();
        frame
    }

    #[test]
    fn vxlan_shows_both_headers() {
        let packet = decode(&encapsulated(8472), 8472).unwrap();
        assert_eq!(packet.outer.src, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(packet.outer.transport, Transport::Udp { sport: 50000, dport: 8472 });
        let inner = packet.vxlan.as_ref().map(|v| (v.vni, v.inner.src, v.inner.dst));
        assert_eq!(inner, Some((7, INNER.0.into(), INNER.1.into())));
        let tcp = Transport::Tcp { sport: 4000, dport: 8080, syn: false };
        assert_eq!((packet.innermost().transport, packet.innermost().ttl), (tcp, 63));
        assert_eq!(packet.innermost().src_mac, Mac([2; 6]));
    }

    #[test]
    fn another_port_is_not_taken_for_vxlan_and_no_cut_breaks_the_decoder() {
        assert_eq!(decode(&encapsulated(4789), 8472).unwrap().vxlan, None);
        let whole = encapsulated(8472);
        for len in 0..whole.len() {
            // Whatever comes of a cut frame, it must not be a panic.
            let _ = decode(&whole[..len], 8472);
        }
    }
}
