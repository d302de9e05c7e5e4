//! TCP: the server writes to each client the address it saw.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt::SendTimeout},
    time::TimeVal,
};

use super::{
    Seen, Worker,
    socket::{Wake, any, family, left, plain, wait},
};
use crate::{FixtureError, NetNs};

/// A client that does not read is given up after this.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// A TCP server; it ends when dropped.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    _worker: Worker,
}

impl TcpServer {
    /// Listens on `address` inside `ns`; port 0 picks one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(ns: &NetNs, address: SocketAddr) -> Result<Self, FixtureError> {
        let what = format!("listen on tcp {address}");
        let listener = ns.run(|| TcpListener::bind(address))?.map_err(FixtureError::os(what.as_str()))?;
        listener.set_nonblocking(true).map_err(FixtureError::os(what.as_str()))?;
        let address = listener.local_addr().map_err(FixtureError::os(what.as_str()))?;
        let worker = Worker::start("tcp-server", move |stopped| serve(&listener, &stopped))?;
        Ok(Self { address, _worker: worker })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(listener: &TcpListener, stopped: &UnixStream) {
    while let Wake::Readable = wait(listener.as_fd(), stopped) {
        if let Ok((client, peer)) = listener.accept() {
            // A client that went away has nothing to be told.
            let _ = tell(client, plain(peer));
        }
    }
}

fn tell(mut client: TcpStream, peer: SocketAddr) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(CLIENT_PATIENCE))?;
    client.write_all(peer.to_string().as_bytes())
}

/// Connects from `ns` (and from the address `from`, if given) to a [`TcpServer`] at `to`.
///
/// # Errors
/// When it is refused, unreachable, or not answered within `within`.
pub fn tcp_probe(
    ns: &NetNs,
    from: Option<IpAddr>,
    to: SocketAddr,
    within: Duration,
) -> Result<Seen, FixtureError> {
    ns.run(|| exchange(from, to, within))?.map_err(FixtureError::os(format!("tcp to {to}")))
}

fn exchange(from: Option<IpAddr>, to: SocketAddr, within: Duration) -> io::Result<Seen> {
    let end = Instant::now() + within;
    let fd = socket(family(to.ip()), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let source = SocketAddr::new(from.unwrap_or_else(|| any(to.ip())), 0);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    // The send timeout is also the one of connect().
    let left_now =
        libc::timeval { tv_sec: within.as_secs().cast_signed(), tv_usec: within.subsec_micros().into() };
    setsockopt(&fd, SendTimeout, &TimeVal::from(left_now))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(left(end)))?;
    let local = stream.local_addr()?;
    let mut told = String::new();
    stream.read_to_string(&mut told)?;
    let seen_by_peer = told.parse().map_err(io::Error::other)?;
    Ok(Seen { local, seen_by_peer })
}
