//! VXLAN packets made by hand: what a stranger could send. A VXLAN packet is a UDP datagram, so an ordinary
//! socket suffices.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use etherparse::PacketBuilder;

use crate::{FixtureError, Mac, NetNs};

/// A UDP packet from `src` to `dst` in an Ethernet frame to `dst_mac`, in VXLAN.
#[derive(Debug, Clone, Copy)]
pub struct VxlanFrame {
    /// Network identifier.
    pub vni: u32,
    /// The frame's destination.
    pub dst_mac: Mac,
    /// Sender of the inner packet.
    pub src: IpAddr,
    /// Receiver of the inner packet.
    pub dst: IpAddr,
}

impl VxlanFrame {
    /// Sends it from `ns` to the VXLAN port `to`, from the address `from` where one is given.
    ///
    /// # Errors
    /// When there is no way, or the addresses are of two families.
    pub fn send(&self, ns: &NetNs, from: Option<IpAddr>, to: SocketAddr) -> Result<(), FixtureError> {
        let payload = self.payload()?;
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from([0u8; 4]),
            SocketAddr::V6(_) => IpAddr::from([0u16; 8]),
        };
        ns.run(|| {
            let socket = UdpSocket::bind((from.unwrap_or(any), 0))?;
            socket.send_to(&payload, to).map(drop)
        })?
        .map_err(FixtureError::os(format!("send VXLAN to {to}")))
    }

    fn payload(&self) -> Result<Vec<u8>, FixtureError> {
        let [_, a, b, c] = self.vni.to_be_bytes();
        // RFC 7348, section 5: the flag that the identifier is valid, and the identifier.
        let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
        let frame = PacketBuilder::ethernet2([0x02, 0, 0, 0, 0, 0x66], self.dst_mac.0);
        let frame = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => frame.ipv4(src.octets(), dst.octets(), 64),
            (IpAddr::V6(src), IpAddr::V6(dst)) => frame.ipv6(src.octets(), dst.octets(), 64),
            (src, dst) => return Err(FixtureError::Plan(format!("no packet goes from {src} to {dst}"))),
        };
        let written = frame.udp(4000, 4001).write(&mut payload, b"from a stranger");
        written.map_err(|e| FixtureError::Plan(format!("make a VXLAN packet: {e}")))?;
        Ok(payload)
    }
}
