//! Servers that tell a client the source address they saw, and clients that compare it with their own.
//!
//! ```no_run
//! use std::time::Duration;
//! use netns_fixtures::{Fabric, probe::{TcpServer, tcp_probe}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut fabric = Fabric::two_segments()?;
//! let (n1, n3) = (fabric.node("n1", "a")?, fabric.node("n3", "b")?);
//! let server = TcpServer::start(&n3.ns, "198.51.100.1:80".parse()?)?;
//! let seen = tcp_probe(&n1.ns, None, server.address(), Duration::from_secs(2))?;
//! assert!(seen.is_untranslated());
//! # Ok(()) }
//! ```

mod icmp;
mod socket;
mod tcp;
mod udp;

use std::{net::SocketAddr, os::unix::net::UnixStream, thread::JoinHandle};

pub use icmp::{IcmpWitness, Ping, Pong, ping};
pub use tcp::{TcpServer, tcp_probe};
pub use udp::{UdpServer, udp_probe};

use crate::FixtureError;

/// Both ends' view of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The client's own address and port.
    pub local: SocketAddr,
    /// The source address and port that the server saw.
    pub seen_by_peer: SocketAddr,
}

impl Seen {
    /// Whether no NAT touched the source on the way.
    pub fn is_untranslated(&self) -> bool {
        self.local == self.seen_by_peer
    }
}

/// A server's thread. Dropping it wakes the thread and waits for its end.
#[derive(Debug)]
struct Worker(Option<(UnixStream, JoinHandle<()>)>);

impl Worker {
    /// Starts `serve`, which must return soon after its argument becomes readable (closed).
    fn start(name: &str, serve: impl FnOnce(UnixStream) + Send + 'static) -> Result<Self, FixtureError> {
        let (stop, stopped) = UnixStream::pair().map_err(FixtureError::os("make a socket pair"))?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(stopped))
            .map_err(FixtureError::os(format!("start thread {name}")))?;
        Ok(Self(Some((stop, thread))))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // A panic of the thread has printed itself.
            let _ = thread.join();
        }
    }
}
