//! Ping, and a witness that records where echo requests came from.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockname, recv,
        recvfrom, send, setsockopt, socket,
        sockopt::{Ipv6DontFrag, ReceiveTimeout},
    },
    time::TimeVal,
};

use super::{
    Worker,
    socket::{Wake, any, family, left, wait},
};
use crate::{FixtureError, NetNs, wait_until};

/// An echo may be lost (or wait for a neighbour), so it is sent again after this.
const RESEND: Duration = Duration::from_millis(200);
/// Type, code, checksum, identifier, sequence.
const ECHO_HEADER: usize = 8;
/// Any datagram.
const LARGEST: usize = 64 << 10;

/// The payload starts with it: 16 bits of identifier are too few to be unique among processes.
const TOKEN: usize = 8;

/// A ping to be sent: 56 bytes of payload, fragmented where needed, unless told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    to: IpAddr,
    from: Option<IpAddr>,
    payload: usize,
    fragments: Fragments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fragments {
    Allowed,
    Refused,
}

/// An answered ping.
#[derive(Debug, Clone, Copy)]
pub struct Pong {
    /// The identifier in the echo's header, to find it in a capture.
    pub id: u16,
    /// What only this ping's echoes carry, to ask an [`IcmpWitness`] about it.
    pub token: u64,
    /// The sender's own address.
    pub local: IpAddr,
    /// Round trip time of the answered one.
    pub rtt: Duration,
}

/// Pings `to` from `ns` until it answers.
///
/// # Errors
/// When it is unreachable, or not answered within `within`.
pub fn ping(ns: &NetNs, to: IpAddr, within: Duration) -> Result<Pong, FixtureError> {
    Ping::to(to).send(ns, within)
}

impl Ping {
    /// A ping to `to`.
    pub fn to(to: IpAddr) -> Self {
        Self { to, from: None, payload: 56, fragments: Fragments::Allowed }
    }

    /// From this address.
    #[must_use]
    pub fn from(mut self, from: IpAddr) -> Self {
        self.from = Some(from);
        self
    }

    /// So large that the whole IP packet has `bytes` bytes, and not to be fragmented on the way.
    #[must_use]
    pub fn unfragmented(mut self, bytes: usize) -> Self {
        let ip_header = if self.to.is_ipv4() { 20 } else { 40 };
        self.payload = bytes.saturating_sub(ip_header + ECHO_HEADER).max(TOKEN);
        self.fragments = Fragments::Refused;
        self
    }

    /// Sends it from `ns`, again and again until it is answered.
    ///
    /// # Errors
    /// When it is unreachable, too large, or not answered within `within`.
    pub fn send(self, ns: &NetNs, within: Duration) -> Result<Pong, FixtureError> {
        ns.run(|| self.exchange(within))?.map_err(FixtureError::os(format!("ping {}", self.to)))
    }

    fn exchange(self, within: Duration) -> io::Result<Pong> {
        let end = Instant::now() + within;
        let fd = raw_socket(self.to)?;
        if self.fragments == Fragments::Refused {
            refuse_fragments(&fd, self.to)?;
        }
        let source = SocketAddr::new(self.from.unwrap_or_else(|| any(self.to)), 0);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
        connect(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(self.to, 0)))?;
        let local = ip_of(&getsockname(fd.as_raw_fd())?);
        let local = local.ok_or_else(|| io::Error::other("no local address"))?;
        let token = RandomState::new().hash_one(self.to);
        let [high, low, ..] = token.to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        for sequence in 0.. {
            let sent = Instant::now();
            send(fd.as_raw_fd(), &self.request(token, sequence), MsgFlags::empty())?;
            if await_reply(&fd, self.to, token, end.min(sent + RESEND))? {
                return Ok(Pong { id, token, local, rtt: sent.elapsed() });
            }
            if Instant::now() >= end {
                break;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn request(self, token: u64, sequence: u16) -> Vec<u8> {
        let kind = if self.to.is_ipv4() { 8 } else { 128 };
        let token = token.to_be_bytes();
        let [id_high, id_low, ..] = token;
        let [seq_high, seq_low] = sequence.to_be_bytes();
        let mut message = vec![kind, 0, 0, 0, id_high, id_low, seq_high, seq_low];
        message.extend(token);
        message.resize(ECHO_HEADER + self.payload, 0);
        // The kernel fills in the checksum of ICMPv6 itself.
        if self.to.is_ipv4() {
            let sum = checksum(&message).to_be_bytes();
            message[2..4].copy_from_slice(&sum);
        }
        message
    }
}

/// Records the source of every echo request that reaches a namespace. Ends when dropped.
#[derive(Debug)]
pub struct IcmpWitness {
    sources: Sources,
    _workers: [Worker; 2],
}

type Sources = Arc<Mutex<HashMap<u64, IpAddr>>>;

impl IcmpWitness {
    /// Starts recording in `ns`, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(ns: &NetNs) -> Result<Self, FixtureError> {
        let sources = Sources::default();
        let start = |family: IpAddr| {
            let socket = ns.run(|| raw_socket(family))?.map_err(FixtureError::os("open icmp"))?;
            let sink = Arc::clone(&sources);
            Worker::start("icmp-witness", move |stopped| witness(&socket, family, &stopped, &sink))
        };
        let v4 = start(any(IpAddr::from([0; 4])))?;
        let v6 = start(any(IpAddr::from([0; 16])))?;
        Ok(Self { sources, _workers: [v4, v6] })
    }

    /// The source of the ping with this token, waited for up to `within`.
    ///
    /// # Errors
    /// When none came.
    pub fn source_of(&self, token: u64, within: Duration) -> Result<IpAddr, FixtureError> {
        wait_until(&format!("echo request {token:016x} at the receiver"), within, || {
            self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(&token).copied()
        })
    }
}

fn witness(socket: &OwnedFd, family: IpAddr, stopped: &UnixStream, sink: &Sources) {
    let request = if family.is_ipv4() { 8 } else { 128 };
    let mut buffer = vec![0; LARGEST];
    while let Wake::Readable = wait(socket.as_fd(), stopped) {
        let Ok((len, Some(from))) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        let message = buffer.get(..len).and_then(|bytes| echo(bytes, family));
        if let (Some((kind, token)), Some(source)) = (message, ip_of(&from))
            && kind == request
        {
            sink.lock().unwrap_or_else(PoisonError::into_inner).insert(token, source);
        }
    }
}

fn raw_socket(to: IpAddr) -> io::Result<OwnedFd> {
    let protocol = if to.is_ipv4() { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
    Ok(socket(family(to), SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// True when the answer to `token` came before `end`.
fn await_reply(fd: &OwnedFd, to: IpAddr, token: u64, end: Instant) -> io::Result<bool> {
    let reply = if to.is_ipv4() { 0 } else { 129 };
    let mut buffer = vec![0; LARGEST];
    while Instant::now() < end {
        let patience = left(end);
        let timeout = libc::timeval {
            tv_sec: patience.as_secs().cast_signed(),
            tv_usec: patience.subsec_micros().into(),
        };
        setsockopt(fd, ReceiveTimeout, &TimeVal::from(timeout))?;
        match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(len) if buffer.get(..len).and_then(|b| echo(b, to)) == Some((reply, token)) => {
                return Ok(true);
            }
            Ok(_) | Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Type and token of an echo message; a raw IPv4 socket delivers the IP header with it.
fn echo(bytes: &[u8], family: IpAddr) -> Option<(u8, u64)> {
    let skip = if family.is_ipv4() { usize::from(bytes.first()? & 0x0f) * 4 } else { 0 };
    let message = bytes.get(skip..)?;
    let token = message.get(ECHO_HEADER..)?.first_chunk::<TOKEN>()?;
    Some((*message.first()?, u64::from_be_bytes(*token)))
}

#[expect(unsafe_code, reason = "nix does not know IP_MTU_DISCOVER")]
fn refuse_fragments(fd: &OwnedFd, to: IpAddr) -> io::Result<()> {
    let (level, option) = match to {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        IpAddr::V6(_) => {
            setsockopt(fd, Ipv6DontFrag, &true)?;
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        }
    };
    // Set DF, and send whatever the path's MTU is believed to be. The same value for both families.
    let probe: libc::c_int = libc::IP_PMTUDISC_PROBE;
    let len = libc::socklen_t::try_from(size_of_val(&probe)).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are of one live c_int.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const probe).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u32::from(u16::from_be_bytes([high, low])),
            [high] => u32::from(high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|a| a.ip().into())
        .or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
}
