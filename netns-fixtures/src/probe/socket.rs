//! What the probes share: waiting on a socket, addresses on the wire.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::AddressFamily,
};

/// What a server's thread woke up for.
pub(super) enum Wake {
    Readable,
    Stop,
}

/// Waits until `socket` is readable or the server is told to stop.
pub(super) fn wait(socket: BorrowedFd<'_>, stopped: &UnixStream) -> Wake {
    loop {
        let mut fds =
            [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return Wake::Stop,
            Ok(_) if fds[1].any().unwrap_or(true) => return Wake::Stop,
            Ok(_) => return Wake::Readable,
        }
    }
}

/// What is left until `end`; at least a little, because a zero socket timeout means forever.
pub(super) fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// The address that means "any" in the family of `to`.
pub(super) fn any(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The socket family of an address.
pub(super) fn family(to: IpAddr) -> AddressFamily {
    match to {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A server on `[::]` sees IPv4 clients as `::ffff:a.b.c.d`; this is the address they mean.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
