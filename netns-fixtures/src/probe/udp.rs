//! UDP: the server answers each datagram with the address it came from.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{fd::AsFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use super::{
    Seen, Worker,
    socket::{Wake, any, left, plain, wait},
};
use crate::{FixtureError, NetNs};

/// A datagram may be lost, so it is sent again after this.
const RESEND: Duration = Duration::from_millis(200);
/// Room for any printed address.
const ANSWER: usize = 128;

/// A UDP server; it ends when dropped. On an "any" address it answers from whatever address the kernel
/// prefers, which on a host with several may not be the one that was asked.
#[derive(Debug)]
pub struct UdpServer {
    address: SocketAddr,
    _worker: Worker,
}

impl UdpServer {
    /// Serves on `address` inside `ns`; port 0 picks one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(ns: &NetNs, address: SocketAddr) -> Result<Self, FixtureError> {
        let what = format!("serve udp {address}");
        let socket = ns.run(|| UdpSocket::bind(address))?.map_err(FixtureError::os(what.as_str()))?;
        socket.set_nonblocking(true).map_err(FixtureError::os(what.as_str()))?;
        let address = socket.local_addr().map_err(FixtureError::os(what.as_str()))?;
        let worker = Worker::start("udp-server", move |stopped| serve(&socket, &stopped))?;
        Ok(Self { address, _worker: worker })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(socket: &UdpSocket, stopped: &UnixStream) {
    let mut scrap = [0; ANSWER];
    while let Wake::Readable = wait(socket.as_fd(), stopped) {
        if let Ok((_, peer)) = socket.recv_from(&mut scrap) {
            // A lost answer looks to the client like a lost question: it asks again.
            let _ = socket.send_to(plain(peer).to_string().as_bytes(), peer);
        }
    }
}

/// Asks a [`UdpServer`] at `to` from `ns` (and from the address `from`, if given).
///
/// # Errors
/// When it is refused, unreachable, or not answered within `within`.
pub fn udp_probe(
    ns: &NetNs,
    from: Option<IpAddr>,
    to: SocketAddr,
    within: Duration,
) -> Result<Seen, FixtureError> {
    ns.run(|| exchange(from, to, within))?.map_err(FixtureError::os(format!("udp to {to}")))
}

fn exchange(from: Option<IpAddr>, to: SocketAddr, within: Duration) -> io::Result<Seen> {
    let end = Instant::now() + within;
    let socket = UdpSocket::bind((from.unwrap_or_else(|| any(to.ip())), 0))?;
    socket.connect(to)?;
    let local = socket.local_addr()?;
    let mut answer = [0; ANSWER];
    loop {
        socket.send(b"who am I")?;
        socket.set_read_timeout(Some(left(end).min(RESEND)))?;
        match socket.recv(&mut answer) {
            Ok(len) => {
                let told = String::from_utf8_lossy(answer.get(..len).unwrap_or_default());
                let seen_by_peer = told.parse().map_err(io::Error::other)?;
                return Ok(Seen { local, seen_by_peer });
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {}
            Err(e) => return Err(e),
        }
    }
}
